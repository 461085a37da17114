"""Take rounds in: a round file becomes a record to drive, an ended one is taken up again.

Here so that what a round does is fixed when it is created: its recipe merged and bound, its
`as_of` said. Editing a recipe file afterwards changes nothing of a round that runs.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from libs.artifacts import Artifacts
from libs.clock import Clock
from libs.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    ServiceError,
    Unavailable,
)
from libs.formats import read_json
from libs.operations.record import UNMADE, Record, State, operation_name
from services.loop.binding import Bound, BoundStep, check, fill
from services.loop.outcome import Outcome
from services.loop.ports import Catalogue, Library, Services
from services.loop.rounds import Order, RoundRecord, Rounds, StepRecord, new_round, resumed_id
from services.loop.schedule import StepState
from services.loop.summary import SCHEMA

_METHOD = "StartRound"


class Command(NamedTuple):
    """What drives a round: the request of its operation."""

    request_id: str
    text: str
    as_of: str
    who: str


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What checking a round file says to a person."""

    faults: Sequence[str]
    notes: Sequence[str]
    steps: Sequence[str]


class Intake:
    """Creates, resumes and shows rounds."""

    def __init__(
        self,
        rounds: Rounds,
        *,
        library: Library,
        catalogue: Catalogue,
        services: Services,
        artifacts: Artifacts,
        clock: Clock,
        operation: Callable[[str], Record],
    ) -> None:
        """Use the parts; `operation` reads an operation of the loop and raises `NotFound`."""
        self._rounds = rounds
        self._library = library
        self._catalogue = catalogue
        self._services = services
        self._artifacts = artifacts
        self._clock = clock
        self._operation = operation

    def bound(self, text: str) -> Bound:
        """Return the recipe of a round file, bound. Raises `InvalidInput` with every fault."""
        checked = check(text, self._library, self._catalogue)
        if checked.bound is None:
            raise InvalidInput("the recipe cannot run: " + "; ".join(checked.faults))
        return checked.bound

    def findings(self, text: str) -> Findings:
        """Check a round file, and rehearse its steps as far as they need no earlier one."""
        checked = check(text, self._library, self._catalogue)
        if checked.bound is None:
            return Findings(faults=checked.faults, notes=(), steps=())
        notes: list[str] = []
        faults: list[str] = []
        silent: set[str] = set()
        for step in checked.bound.steps.values():
            service = step.rpc.partition(".")[0]
            # Asked once more, a service that is down costs as long again.
            if service not in silent and not self._rehearse(step, notes, faults):
                silent.add(service)
        return Findings(faults=faults, notes=notes, steps=list(checked.bound.steps))

    def begin(self, request_id: str, text: str, as_of: str, who: str) -> Command:
        """Create a round, and return the command that drives it; safe to repeat.

        Raises:
            InvalidInput: the recipe cannot run, or the id is one of a resumed round.
            Conflict: the id was used for another round.
        """
        if resumed_id(request_id):
            raise InvalidInput(f"request_id {request_id!r} is kept for rounds that are resumed")
        bound = self.bound(text)
        request_id = request_id or uuid.uuid4().hex
        now = self._clock.now()
        operation = operation_name("loop", _METHOD, request_id)
        order = Order(
            id=operation.rpartition("/")[2],
            as_of=as_of or datetime.fromtimestamp(now, UTC).isoformat(),
            who=who,
            operation=operation,
            create_time=now,
        )
        record = self._rounds.create(new_round(order, bound))
        if record.text != bound.text or as_of not in ("", record.as_of):
            raise Conflict(
                f"request_id {request_id!r} was used for another round, {record.name}: its recipe "
                "or as_of was not this one; another request id starts another round"
            )
        return Command(request_id, record.text, record.as_of, record.who)

    def resume(self, name: str) -> Command:
        """Take up a failed or cancelled round, and return the command that drives it.

        Raises:
            NotFound: there is no such round.
            Conflict: it goes on, or has an outcome of its own.
        """
        record = self._rounds.resolve(name)
        shown = self.shown(record)
        if shown.outcome is None and not self._is_lost(record):
            raise Conflict(f"{record.name} goes on: watch it, or cancel it first")
        if shown.outcome not in (None, Outcome.FAILED, Outcome.CANCELLED):
            raise Conflict(f"{record.name} has ended: {shown.outcome}; start another round")
        # The first operation's id is the request's own, and may never have been made.
        if shown.outcome is not None or record.num_drives == 1:
            request_id = _resumed(record.id, record.num_drives + 1)
            operation = operation_name("loop", _METHOD, request_id)
            record = self._mended(self._rounds.save(record.again(operation)))
        return Command(
            _resumed(record.id, record.num_drives), record.text, record.as_of, record.who
        )

    def _mended(self, record: RoundRecord) -> RoundRecord:
        """Begin those steps anew whose artifacts were collected as garbage since the round ended.

        The record was saved before: from then on it keeps what it names.
        """
        made = record.artifacts
        self._artifacts.settle(made.values(), check=_nothing)
        gone = [name for name, id_ in made.items() if not self._artifacts.is_whole(id_)]
        if not gone:
            return record
        return self._rounds.save(record.with_steps(*(record.step(name).anew() for name in gone)))

    def shown(self, record: RoundRecord) -> RoundRecord:
        """Return a round with what only its operation knows: artifact, or an end unrecorded."""
        try:
            operation = self._operation(record.operation)
        except NotFound:
            return record
        if not operation.ended:
            # Artifact and page come after the record's last word: whoever waits, waits for them.
            return replace(record, outcome=None)
        if operation.state is State.SUCCEEDED and operation.result is not None:
            record = replace(record, artifact_id=operation.result.artifact_id)
            return record if record.outcome else self._answered(record)
        if record.outcome is None and operation.state is State.CANCELLED:
            reason = "Somebody asked for its cancellation."
            return replace(record, outcome=Outcome.CANCELLED, reason=reason)
        if record.outcome is None and operation.state is State.FAILED:
            reason = operation.error.message if operation.error else "It failed."
            return replace(record, outcome=Outcome.FAILED, reason=reason, error=operation.error)
        return record

    def _answered(self, record: RoundRecord) -> RoundRecord:
        """Fill in a round that was answered from the index: it has its artifact's steps."""
        path = self._artifacts.open(record.artifact_id, kind="round").path("round.json")
        document = SCHEMA.migrated(read_json(path))
        steps = [_cached(step, document["steps"][step.name]) for step in record.steps]
        return replace(
            record.with_steps(*steps),
            outcome=Outcome(document["outcome"]),
            reason=document["reason"],
            attribution=document["attribution"],
        )

    def _is_lost(self, record: RoundRecord) -> bool:
        """Whether a kill came between the record and its operation."""
        try:
            self._operation(record.operation)
        except NotFound:
            return True
        return False

    def _rehearse(self, step: BoundStep, notes: list[str], faults: list[str]) -> bool:
        """Add what its service says of a step, and return whether it can be asked more."""
        now = datetime.fromtimestamp(self._clock.now(), UTC).isoformat()
        facts = {"as_of": now, "round": "rounds/none", "who": "nobody"}
        unmade = dict.fromkeys(step.takes, UNMADE)
        try:
            said = self._services.rehearse(step.rpc, fill(step.fields, unmade, facts))
        except (InvalidInput, NotFound) as error:
            faults.append(f"step {step.name}: {error}")
        except ServiceError as error:
            notes.append(f"step {step.name} was not rehearsed: {error}")
            return not isinstance(error, Unavailable | DeadlineExceeded)
        else:
            notes.extend(f"step {step.name}: {note}" for note in said)
        return True


def _nothing() -> None:
    pass


def _resumed(round_id: str, num_drives: int) -> str:
    return f"{round_id}.{num_drives}"


def _cached(step: StepRecord, fields: Mapping[str, Any]) -> StepRecord:
    return replace(
        step,
        state=StepState(fields["state"]),
        artifact_id=fields["artifact_id"],
        kind=fields["kind"],
        outcome=fields["outcome"],
        reason=fields["reason"],
        cached=bool(fields["artifact_id"]),
    )
