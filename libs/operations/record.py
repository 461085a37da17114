"""The record of one operation: everything that is known of a long call, in one small blob.

It is the only place where a long call's state lives; the bus only wakes workers, and a caller only
reads it. `revision` grows with every change, so equal bytes never stand for two states.
"""

import base64
import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from libs.errors import Corrupt, ErrorRecord
from libs.formats import canonical_json
from libs.schema import Schema, unchanged

SCHEMA = Schema(name="an operation's record", version=2, migrations={1: unchanged})
"""2 added `holds`."""
UNMADE = "0" * 64
"""An artifact id that stands, in a rehearsal, for what an earlier step has yet to make."""


class State(StrEnum):
    """Where an operation stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far an operation is."""

    completed: float = 0.0
    total: float = 0.0
    """0 while unknown."""
    unit: str = ""
    """What is counted, in the plural."""
    message: str = ""
    """What is being done, in a few words."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.completed) and math.isfinite(self.total)):
            raise ValueError(f"progress must be finite, got {self.completed} of {self.total}")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a step made, and what a round needs to know of it; `StepResult` on the wire."""

    artifact_id: str = ""
    kind: str = ""
    outcome: str = ""
    """Set when the step ends or decides a round."""
    reason: str = ""
    """One sentence for `outcome`."""
    cached: bool = False
    """True when the artifact was there before the operation's first attempt began."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Figures worth a line on a console: name with unit to value."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One operation at rest: blob `operations/<service>/<id>.json`."""

    name: str
    """`operations/<service>/<id>`."""
    service: str
    method: str
    request_id: str
    request: bytes
    """The request message, serialised."""
    request_sha256: str
    create_time: float
    """Wall time in seconds since 1970, for people."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """Headers that continue the trace of the call that submitted it."""
    trace_id: str = ""
    state: State = State.QUEUED
    progress: Progress = field(default_factory=Progress)
    holder: str = ""
    """Who holds, or last held, the lease; empty while nobody does."""
    epoch: int = 0
    """Times that the lease was taken."""
    revision: int = 0
    cancel_requested: bool = False
    answered: bool | None = None
    """Whether the artifact was there before the first attempt began; None until one looked."""
    retries: int = 0
    """Attempts that ended with a retryable error."""
    faults: int = 0
    """Attempts that ended with a bug."""
    deaths: int = 0
    """Leases that were lost without a word: their worker died or was cut off."""
    holds: str = ""
    """Artifact that it is about to make or to be answered by: no garbage from here on."""
    result: Result | None = None
    error: ErrorRecord | None = None
    run_time_s: float = 0.0
    """Time that attempts took so far."""

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDED

    @property
    def id(self) -> str:
        """The last segment of the name, 32 hexadecimal digits."""
        return self.name.rpartition("/")[2]

    def to_json(self) -> bytes:
        """Return the record as canonical JSON, the request in base64."""
        fields = asdict(self) | {"request": base64.b64encode(self.request).decode()}
        return canonical_json(SCHEMA.stamped(fields))

    @classmethod
    def from_json(cls, data: bytes) -> "Record":
        """Read a record.

        Raises:
            InvalidInput: a newer version of Athanor wrote it.
            Corrupt: it is none.
        """
        fields = SCHEMA.read(data)
        try:
            return cls(**fields | _typed(fields))
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"expected an operation's record, got {error!r}") from error


def printable(text: str) -> str:
    """Return the text without what UTF-8 cannot carry, such as half of a pair from a broken page.

    One such character in a record would keep its worker from ever writing it.
    """
    return text.encode(errors="replace").decode()


def operation_name(service: str, method: str, request_id: str) -> str:
    """Return the name that this request id stands for: the same id, the same operation."""
    digest = hashlib.sha256("\0".join((service, method, request_id)).encode()).hexdigest()
    return f"operations/{service}/{digest[:32]}"


def _typed(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "request": base64.b64decode(fields["request"]),
        "state": State(fields["state"]),
        "progress": Progress(**fields["progress"]),
        "result": fields["result"] and Result(**fields["result"]),
        "error": fields["error"] and ErrorRecord(**fields["error"]),
    }
