"""One attempt at an operation: answer from the index, or run the step and make the artifact.

Everything here may happen twice: an attempt that is killed is followed by another, which finds
what the first left. Only `Lease.finish`, which the worker calls with the result, happens once.
"""

import shutil
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError, Message

from libs.artifacts import Artifact, Artifacts
from libs.errors import Busy, InvalidInput
from libs.formats import read_json, write_json
from libs.manifest import Request
from libs.operations.lease import Lease
from libs.operations.record import Progress, Record, Result, printable
from libs.operations.step import Made, Step, request_of

RESULT = "result.json"
"""What the step said beside its files; in the artifact, so that a cached answer says it too."""


class Folders:
    """Where the attempts of one service keep local files: `<home>/work/<service>/`."""

    def __init__(self, home: Path, service: str) -> None:
        self._root = home / "work" / service

    def scratch(self, record: Record) -> Path:
        """Return the operation's folder, which survives attempts."""
        folder = self._root / record.id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def out(self, record: Record) -> Path:
        """Return an empty folder for this attempt."""
        folder = self._root / f"{record.id}.out-{record.epoch}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def clear(self, record: Record) -> None:
        """Remove everything of an operation that ended."""
        for folder in self._root.glob(f"{record.id}*"):
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt; what the step's function gets to see of it is the `Work` of `step.py`."""

    lease: Lease
    step: Step
    artifacts: Artifacts
    folders: Folders

    def result(self) -> Result:
        """Return what the operation ends with.

        Raises:
            Cancelled: somebody asked to stop.
            LeaseLost: another worker has the operation.
            ServiceError: what the step raised.
        """
        if not self.step.kind:
            return _result(self._run())
        self._settle(*self.request.inputs.values())
        found = self._found()
        if self.lease.record.answered is None:
            self.lease.note(answered=found is not None)
        cached = found is not None and self.lease.record.answered is True
        artifact = self.artifacts.open(found or self._made())
        result = _result(_said(artifact), artifact, cached=cached)
        self.step.announce(artifact, result)
        return result

    # What a step's function sees.

    @cached_property
    def out(self) -> Path:
        return self.folders.out(self.lease.record)

    @cached_property
    def scratch(self) -> Path:
        return self.folders.scratch(self.lease.record)

    @property
    def operation(self) -> str:
        return self.lease.record.name

    @cached_property
    def request(self) -> Request:
        return request_of(self.step, self.message)

    def progress(self, completed: float, total: float, unit: str, message: str = "") -> None:
        self.lease.tell(
            Progress(
                completed=float(completed),
                total=float(total),
                unit=unit,
                message=printable(message),
            )
        )

    def check(self) -> None:
        self.lease.check()

    @cached_property
    def message(self) -> Message:
        kind = self.step.request
        try:
            return kind.FromString(self.lease.record.request)
        except DecodeError as error:
            raise InvalidInput(
                f"{self.operation}: expected a {kind.DESCRIPTOR.full_name}, got {error}"
            ) from error

    def _found(self) -> str | None:
        """Return the answer in the index, held so that it stays, or None."""
        held = None
        while (found := self.artifacts.find(self.request)) not in (None, held):
            held = str(found)
            self._hold(held)
        return found

    def _hold(self, artifact_id: str) -> None:
        self.lease.hold(artifact_id)
        self._settle(artifact_id)

    def _settle(self, *artifact_ids: str) -> None:
        self.artifacts.settle(artifact_ids, check=self.check)

    def _run(self) -> Made:
        self.check()
        made = self.step.run(self.message, self)
        self.check()
        return made

    def _made(self) -> str:
        """Make the artifact, or find that another operation was faster, and hold what answers."""
        self._make()
        found = self._found()
        if found is None:
            raise Busy(f"{self.operation}: what it made was removed at once; make it again")
        return found

    def _make(self) -> None:
        started = time.monotonic()
        try:
            made = self._run()
            write_json(self.out / RESULT, _saying(made))
            # Whoever lost the lease while it worked makes nothing.
            self.lease.renew()
            run = self._run_record(time.monotonic() - started) | dict(made.measured)
            self.artifacts.create(self.request, self.out, run=run, hold=self._hold)
        finally:
            shutil.rmtree(self.out, ignore_errors=True)

    def _run_record(self, run_time_s: float) -> dict[str, Any]:
        record = self.lease.record
        return {
            "operation": record.name,
            "method": record.method,
            "trace_id": record.trace_id,
            "lease_epoch": record.epoch,
            "run_time_s": round(run_time_s, 3),
        }


def _saying(made: Made) -> dict[str, Any]:
    figures = {name: float(value) for name, value in made.figures.items()}
    return {"outcome": made.outcome, "reason": made.reason, "figures": figures}


def _said(artifact: Artifact) -> Made:
    return Made(**read_json(artifact.path(RESULT)))


def _result(made: Made, artifact: Artifact | None = None, *, cached: bool = False) -> Result:
    return Result(
        artifact_id=artifact.id if artifact else "",
        kind=artifact.manifest.kind if artifact else "",
        outcome=made.outcome,
        reason=made.reason,
        cached=cached,
        figures=made.figures,
    )
