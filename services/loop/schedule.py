"""Decide what a round does next, from its recipe and from where its steps stand.

Here so that order, side-by-side running, early ends and cancellation are one pure function that
can be tried on every state. `drive` takes the snapshots and carries the moves out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from services.loop.binding import BoundStep
from services.loop.outcome import Outcome


class StepState(StrEnum):
    """Where a step of a round stands."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Status(NamedTuple):
    """What the schedule knows of one step."""

    state: StepState
    outcome: str = ""
    """Set when its result ends the round."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """What to do next; when nothing is to be done and the round has not ended: wait."""

    start: tuple[str, ...] = ()
    cancel: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    outcome: Outcome | None = None
    """Set when the round has ended."""


def next_move(
    steps: Mapping[str, BoundStep], standing: Mapping[str, Status], *, cancelled: bool = False
) -> Move:
    """Return the next move of a round whose steps stand so; the steps are in running order.

    A failed step or a person ends the round as soon as what runs has stopped; steps that were not
    started stay `waiting`, so that a resumed round goes on with them.
    """
    running = _in_state(standing, StepState.RUNNING)
    failed = _in_state(standing, StepState.FAILED)
    if failed or cancelled:
        end = Outcome.FAILED if failed else Outcome.CANCELLED
        return Move(cancel=running, outcome=None if running else end)
    decider = deciding_step(steps, standing)
    if decider is not None:
        return _after_outcome(steps, standing, standing[decider].outcome)
    start = tuple(
        name for name in steps if not steps[name].when and _is_ready(steps[name], standing)
    )
    if start or running:
        return Move(start=start)
    # Every step is done and none has decided: what follows is what follows `undecided`.
    return _after_outcome(steps, standing, Outcome.UNDECIDED)


def deciding_step(steps: Mapping[str, BoundStep], standing: Mapping[str, Status]) -> str | None:
    """Return the step whose result ends the round; of several the first in running order."""
    return next(
        (name for name in steps if not steps[name].when and _gave_outcome(standing[name])), None
    )


def ancestry(steps: Mapping[str, BoundStep], names: Iterable[str]) -> frozenset[str]:
    """Return the named steps and every step that they need, directly or not."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left.extend(steps[name].needs)
    return frozenset(found)


def _after_outcome(
    steps: Mapping[str, BoundStep], standing: Mapping[str, Status], outcome: str
) -> Move:
    """Stop what has lost its purpose, and run what waits for this outcome."""
    followers = [name for name, step in steps.items() if step.when == outcome]
    running = _in_state(standing, StepState.RUNNING)
    cancel = tuple(name for name in running if name not in followers)
    start = tuple(name for name in followers if _is_ready(steps[name], standing))
    skip = tuple(
        name
        for name in _in_state(standing, StepState.WAITING)
        if name not in followers or _is_hopeless(steps[name], standing)
    )
    waits = set(running) | set(start) | (set(_in_state(standing, StepState.WAITING)) - set(skip))
    return Move(
        start=start, cancel=cancel, skip=skip, outcome=None if waits or skip else Outcome(outcome)
    )


def _in_state(standing: Mapping[str, Status], state: StepState) -> tuple[str, ...]:
    return tuple(name for name, status in standing.items() if status.state is state)


def _gave_outcome(status: Status) -> bool:
    return status.state is StepState.SUCCEEDED and bool(status.outcome)


def _is_ready(step: BoundStep, standing: Mapping[str, Status]) -> bool:
    if standing[step.name].state is not StepState.WAITING:
        return False
    return all(standing[name].state is StepState.SUCCEEDED for name in step.needs)


def _is_hopeless(step: BoundStep, standing: Mapping[str, Status]) -> bool:
    lost = (StepState.SKIPPED, StepState.CANCELLED)
    return any(standing[name].state in lost for name in step.needs)
