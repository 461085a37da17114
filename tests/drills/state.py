"""What a round leaves in its home folder, and how it differs from what another one left.

Everything that has a digest is compared by it. What is measured, or tells the time, is not:
`run.json`, the records of operations and rounds, pages for people, the registry's dates.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from libs.artifacts import Artifacts
from libs.blobs.port import Blobs
from libs.errors import NotFound
from libs.operations.record import Record, State, operation_name
from services.loop.rounds import RoundRecord

REQUEST_ID = "drill"
AS_OF = "drill"
ROUND = operation_name("loop", "StartRound", REQUEST_ID).rpartition("/")[2]
_COMPARED = ("artifacts/", "requests/", "weights/", "registry/")
_MEASURED = re.compile(r"artifacts/[0-9a-f]{64}/run\.json|registry/models\.json")


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a round that ended has left."""

    outcome: str
    artifact_id: str
    """Of the round itself."""
    steps: Mapping[str, str]
    """Step to the id of its artifact."""
    blobs: Mapping[str, str]
    """Name to sha256, of everything but what is measured."""
    audit: tuple[tuple[str, str, str], ...]
    """The registry's changes: action, weights, weights before."""

    def to_json(self) -> dict[str, Any]:
        """Return it for a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Left":
        """Read it from a file."""
        return cls(**{**fields, "audit": tuple(tuple(each) for each in fields["audit"])})


class Store:
    """What a round has in its stores, as anybody may look at it while it is used."""

    def __init__(self, home: Path, rpc_by_step: Mapping[str, str], blobs: Blobs) -> None:
        self.home = home
        self.rpc_by_step = rpc_by_step
        self.blobs = blobs

    def operation(self, step: str) -> str:
        """Return the operation of a step; it follows from the round and the step's name."""
        service, method = self.rpc_by_step[step].split(".")
        return operation_name(service, method, f"{ROUND}.{step}.1")

    @property
    def round_operation(self) -> str:
        """The operation that drives the round."""
        return operation_name("loop", "StartRound", REQUEST_ID)

    def version(self, operation: str) -> str:
        """Return what changes with an operation's record; empty while there is none."""
        try:
            return self.blobs.stat(f"{operation}.json").etag
        except NotFound:
            return ""

    def record(self, operation: str) -> Record | None:
        """Return an operation's record, or None while there is none."""
        try:
            return Record.from_json(self.blobs.read(f"{operation}.json").data)
        except NotFound:
            return None

    def records(self) -> list[Record]:
        """Return the records of all operations of all services."""
        names = [blob.name for blob in self.blobs.list("operations/")]
        return [
            Record.from_json(self.blobs.read(name).data) for name in names if name.endswith(".json")
        ]

    def round(self) -> RoundRecord:
        """Return the round's record."""
        return RoundRecord.from_json(self.blobs.read(f"rounds/{ROUND}.json").data)

    def left(self) -> Left:
        """Return what the round that ended has left."""
        ended = self.round()
        driven = self.record(self.round_operation)
        return Left(
            outcome=str(ended.outcome),
            artifact_id=driven.result.artifact_id if driven and driven.result else "",
            steps={step.name: step.artifact_id for step in ended.steps},
            blobs={
                blob.name: blob.etag
                for prefix in _COMPARED
                for blob in self.blobs.list(prefix)
                if not _MEASURED.fullmatch(blob.name)
            },
            audit=self._audit(),
        )

    def faults(self, logs: Sequence[Path]) -> Iterator[str]:
        """Yield what should not be there once a round has ended, whatever was done to it.

        `logs` are the folders that processes wrote to.
        """
        for record in self.records():
            if record.state is not State.SUCCEEDED:
                yield f"{record.method} {record.name} has ended as {record.state}: {record.error}"
            if record.faults:
                yield f"{record.method} {record.name} met {record.faults} bugs"
        made = self.left().artifact_id
        for finding in Artifacts(self.blobs).verify(made) if made else ():
            if finding.problem:
                yield f"{finding.artifact_id[:12]} {finding.file}: {finding.problem}"
        yield from (f"work is left: {path}" for path in self.home.glob("work/*/*"))
        yield from (line for folder in logs for line in _complaints(folder))

    def _audit(self) -> tuple[tuple[str, str, str], ...]:
        try:
            registry = json.loads(self.blobs.read("registry/models.json").data)
        except NotFound:
            return ()
        return tuple((e["action"], e["weights_digest"], e["previous"]) for e in registry["audit"])


def _complaints(logs: Path) -> Iterator[str]:
    """Yield what services logged as errors, and tracebacks that went past the log."""
    for file in sorted(logs.glob("*.jsonl")):
        for line in file.read_text(errors="replace").splitlines():
            if not line.endswith("}") or not line.startswith("{"):
                continue  # cut off by a kill
            entry = json.loads(line)
            if entry["level"] in ("ERROR", "CRITICAL"):
                yield f"{file.stem} logged {entry['level']}: {entry['message']}"
    for file in sorted([*logs.glob("*.out"), *logs.glob("*.log")]):
        if "Traceback" in file.read_text(errors="replace"):
            yield f"{file.name} holds a traceback"


def differences(expected: Left, found: Left) -> list[str]:
    """Return where two rounds differ, a line each; none when they left the same."""
    lines = [
        f"{name}: expected {getattr(expected, name)}, got {getattr(found, name)}"
        for name in ("outcome", "artifact_id", "audit")
        if getattr(expected, name) != getattr(found, name)
    ]
    for name in ("steps", "blobs"):
        wanted, got = getattr(expected, name), getattr(found, name)
        lines += [
            f"{name}: {key}: expected {wanted.get(key) or 'none'}, got {got.get(key) or 'none'}"
            for key in sorted({*wanted, *got})
            if wanted.get(key) != got.get(key)
        ]
    return lines
