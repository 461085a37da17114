"""Drive a round: look at its steps, decide by the schedule, commit, carry out, again.

Here so that a loop killed at any moment goes on where it was: what is to be done is in the record
before it is done, and every call carries a request id that follows from round, step and attempt,
so that doing it twice is doing it once.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from libs.artifacts import Artifacts
from libs.clock import Clock
from libs.errors import RETRYABLE, ErrorRecord, ServiceError
from libs.formats import read_json
from services.loop.binding import Bound, fill
from services.loop.outcome import Outcome
from services.loop.ports import Services, Sight, Standing
from services.loop.rounds import RoundRecord, Rounds, Stale, StepRecord
from services.loop.schedule import Move, StepState, deciding_step, next_move

_log = logging.getLogger(__name__)

_PATIENCE_S = 300.0
_SHOW_EVERY_S = 1.0
"""Progress alone is written at most so often: the record is a file that is synced."""
_PAUSES_S = (0.02, 0.5)


@dataclass(frozen=True, kw_only=True)
class World:
    """What a round is driven with."""

    rounds: Rounds
    services: Services
    artifacts: Artifacts
    clock: Clock
    pause: Callable[[float], None]
    """Waits for so many seconds between two looks."""
    patience_s: float = _PATIENCE_S
    """How long a service may stay unreachable before its step fails."""


class Driver:
    """Drives one round. Only the holder of its operation's lease may."""

    def __init__(self, world: World, bound: Bound, record: RoundRecord) -> None:
        self._world = world
        self._bound = bound
        self._record = record
        self._silent_since: dict[str, float] = {}
        self._shown_at = world.clock.monotonic()
        self._pause_s = _PAUSES_S[0]

    def run(
        self, is_cancelled: Callable[[], bool], show: Callable[[RoundRecord], None]
    ) -> RoundRecord:
        """Drive until the round has ended, and return its record.

        Args:
            is_cancelled: says whether somebody asked for an end; asked before every look. What it
                raises ends the driving: the lease is lost.
            show: told of the record after every look.
        """
        while self._record.outcome is None:
            cancelled = is_cancelled()
            before = self._record
            try:
                self._step(before, cancelled=cancelled)
            except Stale:
                # Either another worker drives now, which this says, or the last words of one that
                # did came after its lease: they are true, and everything is safe to do twice.
                is_cancelled()
                self._record = self._world.rounds.get(before.id)
                continue
            show(self._record)
            self._wait(before)
        return self._record

    def _step(self, before: RoundRecord, *, cancelled: bool) -> None:
        self._look()
        move = next_move(self._bound.steps, self._record.standing, cancelled=cancelled)
        if move.outcome:
            self._end(move.outcome)
        else:
            self._commit(before, move)

    def _look(self) -> None:
        """Start what is recorded as running and has no operation, and look at what has one."""
        for step in self._record.steps:
            if step.state is StepState.RUNNING:
                self._record = self._record.with_steps(self._seen(step))

    def _seen(self, step: StepRecord) -> StepRecord:
        try:
            step = self._started(step)
            sight = self._world.services.look(step.operation)
        except RETRYABLE as error:
            return self._silent(step, error)
        except ServiceError as error:
            return _failed(step, ErrorRecord.of(error))
        self._silent_since.pop(step.name, None)
        return _as_seen(step, sight)

    def _started(self, step: StepRecord) -> StepRecord:
        if step.operation:
            return step
        record = self._record
        fields = fill(self._bound.steps[step.name].fields, record.artifacts, _facts(record))
        request_id = f"{record.id}.{step.name}.{step.attempt}"
        operation = self._world.services.start(step.rpc, fields, request_id)
        started = replace(step, operation=operation)
        self._record = self._record.with_steps(started)
        return started

    def _silent(self, step: StepRecord, error: ServiceError) -> StepRecord:
        """Wait on for a service that does not answer, until patience is at its end."""
        step = self._record.step(step.name)
        now = self._world.clock.monotonic()
        silent_s = now - self._silent_since.setdefault(step.name, now)
        if silent_s < self._world.patience_s:
            return replace(step, message=f"waiting for the service: {error}")
        _log.warning("%s: %s did not answer for %.0f s", self._record.name, step.rpc, silent_s)
        return _failed(step, ErrorRecord.of(error))

    def _commit(self, before: RoundRecord, move: Move) -> None:
        """Write down the move with what was seen, then carry out what is not written down."""
        cancelled = [self._stopped(self._record.step(name)) for name in move.cancel]
        skipped = [replace(self._record.step(name), state=StepState.SKIPPED) for name in move.skip]
        started = [replace(self._record.step(name), state=StepState.RUNNING) for name in move.start]
        self._record = self._record.with_steps(*cancelled, *skipped, *started)
        now = self._world.clock.monotonic()
        if _differs(before, self._record) or (
            before != self._record and now - self._shown_at >= _SHOW_EVERY_S
        ):
            self._record = self._world.rounds.save(self._record)
            self._shown_at = now

    def _stopped(self, step: StepRecord) -> StepRecord:
        """Cancel a step's operation; one that was done by then stays done."""
        try:
            # Started once more where a kill hid its name: the same request id, the same operation.
            step = self._started(step)
            self._world.services.cancel(step.operation)
            seen = _as_seen(step, self._world.services.look(step.operation))
        except ServiceError as error:
            _log.warning("%s: step %s is not cancelled: %s", self._record.name, step.name, error)
            return replace(step, state=StepState.CANCELLED, message=str(error))
        if seen.state is StepState.SUCCEEDED:
            return seen
        return replace(seen, state=StepState.CANCELLED, message="cancelled", error=None)

    def _wait(self, before: RoundRecord) -> None:
        """Pause, short after a change and longer while nothing happens."""
        if self._record.outcome is not None:
            return
        shortest, longest = _PAUSES_S
        changed = _differs(before, self._record)
        self._pause_s = shortest if changed else min(1.5 * self._pause_s, longest)
        self._world.pause(self._pause_s)

    def _end(self, outcome: Outcome) -> None:
        record = self._record
        decider = deciding_step(self._bound.steps, record.standing)
        failed = next((step for step in record.steps if step.state is StepState.FAILED), None)
        reason = record.step(decider).reason if decider else "Every step is done, and none decided."
        if outcome is Outcome.CANCELLED:
            reason = "Somebody asked for its cancellation."
        if failed is not None and failed.error is not None:
            reason = f"Step {failed.name}: {failed.error.message}"
        duration_s = max(0.0, self._world.clock.now() - record.create_time)
        self._record = self._world.rounds.save(
            replace(
                record,
                outcome=outcome,
                reason=reason,
                attribution=self._attribution(decider),
                duration_s=duration_s,
                error=failed.error if failed else None,
            )
        )

    def _attribution(self, decider: str | None) -> str:
        if decider is None or self._record.step(decider).kind != "decision":
            return ""
        decision = self._world.artifacts.open(self._record.step(decider).artifact_id)
        return str(read_json(decision.path("decision.json"))["attribution"])


def _facts(record: RoundRecord) -> Mapping[str, str]:
    return {"as_of": record.as_of, "round": record.name, "who": record.who}


def _as_seen(step: StepRecord, sight: Sight) -> StepRecord:
    shown = replace(
        step,
        completed=sight.completed,
        total=sight.total,
        unit=sight.unit,
        message=sight.message,
        duration_s=sight.run_time_s,
    )
    match sight.standing:
        case Standing.RUNNING:
            return shown
        case Standing.SUCCEEDED:
            return _succeeded(shown, sight)
        case Standing.FAILED:
            unsaid = ErrorRecord(kind="ServiceError", message="failed without an error")
            return _failed(shown, sight.error or unsaid)
        case Standing.CANCELLED:
            # Somebody cancelled the step's operation itself: the round cannot go on without it.
            conflict = ErrorRecord(kind="Conflict", message="its operation was cancelled")
            return _failed(shown, conflict)


def _succeeded(step: StepRecord, sight: Sight) -> StepRecord:
    return replace(
        step,
        state=StepState.SUCCEEDED,
        artifact_id=sight.artifact_id,
        kind=sight.kind,
        outcome=sight.outcome,
        reason=sight.reason,
        cached=sight.cached,
        figures=dict(sight.figures),
        message=sight.reason,
    )


def _failed(step: StepRecord, error: ErrorRecord) -> StepRecord:
    message = f"{error.kind}: {error.message}"
    return replace(step, state=StepState.FAILED, error=error, message=message)


def _differs(before: RoundRecord, after: RoundRecord) -> bool:
    """Whether more than progress has changed."""
    kept = [(step.state, step.operation) for step in before.steps]
    return kept != [(step.state, step.operation) for step in after.steps]
