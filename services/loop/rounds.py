"""The record of a round: where each step stands, kept in the object store.

Here so that a killed loop goes on exactly where it was, and so that anybody can see the state of
a round without asking the process that drives it. `rounds/<id>.json`, changed by `replace_if`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from libs.blobs.port import Blobs
from libs.errors import Conflict, Corrupt, ErrorRecord, InvalidInput, NotFound
from libs.formats import canonical_json
from libs.schema import Schema
from services.loop.binding import Bound
from services.loop.outcome import Outcome
from services.loop.schedule import Status, StepState

SCHEMA = Schema(name="a round", version=1)
_RESUMED = re.compile(r"([0-9a-f]{32})\.[0-9]+")


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One step of a round."""

    name: str
    rpc: str
    state: StepState = StepState.WAITING
    attempt: int = 1
    """Raised when a resumed round starts it again: another attempt is another operation."""
    operation: str = ""
    artifact_id: str = ""
    kind: str = ""
    outcome: str = ""
    reason: str = ""
    cached: bool = False
    duration_s: float = 0.0
    message: str = ""
    completed: float = 0.0
    total: float = 0.0
    unit: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    error: ErrorRecord | None = None

    def again(self) -> "StepRecord":
        """Return the step as a resumed round begins with it."""
        return self if self.state is StepState.SUCCEEDED else self.anew()

    def anew(self) -> "StepRecord":
        """Return the step as if nothing had been done."""
        raised = self.state is not StepState.WAITING and self.state is not StepState.SKIPPED
        return StepRecord(name=self.name, rpc=self.rpc, attempt=self.attempt + raised)


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """One round."""

    id: str
    """32 hexadecimal digits, those of the operation that first drove it."""
    recipe: str
    """Name of the recipe."""
    text: str
    """The recipe, merged and bound: a recipe file itself."""
    as_of: str
    who: str
    operation: str
    """Operation that drives it."""
    create_time: float
    """Seconds since 1970, wall clock."""
    steps: tuple[StepRecord, ...]
    """In running order."""
    num_drives: int = 1
    """Times that it was started or resumed."""
    outcome: Outcome | None = None
    reason: str = ""
    attribution: str = ""
    duration_s: float = 0.0
    """From creation to outcome."""
    error: ErrorRecord | None = None
    """Set when it failed."""
    artifact_id: str = ""
    """Artifact, kind `round`; filled in when it is shown, never at rest: it comes after the end."""
    revision: int = 0
    """Grows with every change, so that no two versions have the same bytes."""

    @property
    def name(self) -> str:
        """Its name on the wire."""
        return f"rounds/{self.id}"

    @property
    def standing(self) -> Mapping[str, Status]:
        """What the schedule needs to know."""
        return {step.name: Status(step.state, step.outcome) for step in self.steps}

    @property
    def artifacts(self) -> Mapping[str, str]:
        """Artifact id by the name of the step that made it."""
        return {step.name: step.artifact_id for step in self.steps if step.artifact_id}

    def step(self, name: str) -> StepRecord:
        """Return one step."""
        return next(step for step in self.steps if step.name == name)

    def with_steps(self, *changed: StepRecord) -> "RoundRecord":
        """Return the record with these steps in the place of those of the same names."""
        by_name = {step.name: step for step in changed}
        return replace(self, steps=tuple(by_name.get(step.name, step) for step in self.steps))

    def again(self, operation: str) -> "RoundRecord":
        """Return the record as a resumed round begins with it."""
        return replace(
            self,
            operation=operation,
            num_drives=self.num_drives + 1,
            steps=tuple(step.again() for step in self.steps),
            outcome=None,
            reason="",
            error=None,
        )

    def to_json(self) -> bytes:
        """Return the bytes to store."""
        return canonical_json(SCHEMA.stamped(asdict(self)))

    @classmethod
    def from_json(cls, data: bytes) -> "RoundRecord":
        """Read a record.

        Raises:
            Corrupt: the bytes are none.
            InvalidInput: its schema is newer than this code reads.
        """
        fields = SCHEMA.read(data)
        try:
            steps = tuple(_step(step) for step in fields.pop("steps"))
            outcome = Outcome(fields.pop("outcome")) if fields["outcome"] else fields.pop("outcome")
            return cls(**fields | {"steps": steps, "outcome": outcome, "error": _error(fields)})
        except (ValueError, TypeError, KeyError) as error:
            raise Corrupt(f"expected a round, got {error!r}") from error


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a person asks of a new round."""

    id: str
    as_of: str
    who: str
    operation: str
    create_time: float


def new_round(order: Order, bound: Bound) -> RoundRecord:
    """Return the record of a round that has done nothing."""
    return RoundRecord(
        **asdict(order),
        recipe=bound.name,
        text=bound.text,
        steps=tuple(StepRecord(name=step.name, rpc=step.rpc) for step in bound.steps.values()),
    )


def resumed_id(request_id: str) -> str | None:
    """Return the round's id when a request id is that of a resumed round, else None."""
    match = _RESUMED.fullmatch(request_id)
    return match.group(1) if match else None


class Stale(Conflict):
    """Somebody else has changed the record since it was read."""


class Rounds:
    """The rounds of one object store. Every call raises as `Blobs` does, besides its own."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def create(self, record: RoundRecord) -> RoundRecord:
        """Store a new round, and return the one that stands under its id, this or an earlier."""
        try:
            self._blobs.create(_blob(record.id), record.to_json())
        except Conflict:
            return self.get(record.id)
        return record

    def get(self, round_id: str) -> RoundRecord:
        """Return a round by its whole id. Raises `NotFound`."""
        try:
            return RoundRecord.from_json(self._blobs.read(_blob(round_id)).data)
        except NotFound as error:
            raise NotFound(f"there is no round {round_id}") from error

    def save(self, record: RoundRecord) -> RoundRecord:
        """Store a record in the place of its own revision, and return it with the next one.

        Raises:
            Stale: somebody else has changed it since it was read.
        """
        stored = self._blobs.read(_blob(record.id))
        revision = RoundRecord.from_json(stored.data).revision
        if revision != record.revision:
            raise Stale(f"{record.name}: expected revision {record.revision}, got {revision}")
        saved = replace(record, revision=revision + 1)
        try:
            self._blobs.replace_if(_blob(record.id), saved.to_json(), etag=stored.etag)
        except Conflict as conflict:
            raise Stale(f"{record.name}: {conflict}") from conflict
        return saved

    def all(self) -> Iterator[RoundRecord]:
        """Yield every round, newest first."""
        names = [blob.name for blob in self._blobs.list("rounds/") if blob.name.endswith(".json")]
        records = [RoundRecord.from_json(self._blobs.read(name).data) for name in names]
        yield from sorted(records, key=lambda each: (each.create_time, each.id), reverse=True)

    def resolve(self, name: str) -> RoundRecord:
        """Return a round by its name, its id, a prefix of it, or the newest for the empty name.

        Raises:
            NotFound: there is none.
            InvalidInput: the prefix begins several.
        """
        prefix = name.removeprefix("rounds/")
        found = [each for each in self.all() if each.id.startswith(prefix)]
        if not found:
            raise NotFound(f"there is no round {prefix}" if prefix else "there is no round yet")
        if prefix and len(found) > 1:
            raise InvalidInput(f"{prefix} begins the names of {len(found)} rounds")
        return found[0]


def _blob(round_id: str) -> str:
    return f"rounds/{round_id}.json"


def _step(fields: dict[str, Any]) -> StepRecord:
    state = StepState(fields.pop("state"))
    return StepRecord(**fields | {"state": state, "error": _error(fields)})


def _error(fields: Mapping[str, Any]) -> ErrorRecord | None:
    return ErrorRecord(**fields["error"]) if fields["error"] else None
