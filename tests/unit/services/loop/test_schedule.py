"""What comes next, on hand-made standings and on random graphs."""

from hypothesis import given
from hypothesis import strategies as st

from services.loop.binding import BoundStep
from services.loop.outcome import Outcome
from services.loop.schedule import Move, Status, StepState, ancestry, deciding_step, next_move

WAITING, RUNNING = Status(StepState.WAITING), Status(StepState.RUNNING)
DONE, SKIPPED = Status(StepState.SUCCEEDED), Status(StepState.SKIPPED)
FAILED = Status(StepState.FAILED)


def step(name, *needs, when=""):
    return BoundStep(name=name, rpc="x.Y", fields={}, produces="", takes=needs, when=when)


STEPS = {
    each.name: each
    for each in (
        step("a"),
        step("b"),
        step("c", "a"),
        step("d", "b", "c"),
        step("e", "c", when="promoted"),
        step("f", "e", when="promoted"),
        step("g", when="rejected"),
    )
}


def move(cancelled=False, **standing):
    return next_move(STEPS, dict.fromkeys(STEPS, WAITING) | standing, cancelled=cancelled)


def test_independent_steps_start_side_by_side():
    assert move() == Move(start=("a", "b"))
    assert move(a=DONE, b=RUNNING) == Move(start=("c",))


def test_a_step_waits_for_all_that_it_needs():
    assert move(a=DONE, b=RUNNING, c=DONE) == Move()


def test_an_outcome_cancels_siblings_skips_dependants_and_starts_what_waited_for_it():
    found = move(a=DONE, b=RUNNING, c=Status(StepState.SUCCEEDED, "promoted"))
    assert found == Move(start=("e",), cancel=("b",), skip=("d", "g"))


def test_a_round_ends_when_what_waited_for_its_outcome_is_done():
    promoted = Status(StepState.SUCCEEDED, "promoted")
    rest = {"a": DONE, "b": DONE, "c": DONE, "d": promoted, "g": SKIPPED}
    assert move(**rest, e=RUNNING) == Move()
    assert move(**rest, e=DONE) == Move(start=("f",))
    assert move(**rest, e=DONE, f=DONE) == Move(outcome=Outcome.PROMOTED)


def test_what_follows_a_skipped_step_is_skipped():
    early = Status(StepState.SUCCEEDED, "promoted")
    found = move(a=early, b=DONE, c=SKIPPED, d=SKIPPED, g=SKIPPED)
    assert found == Move(skip=("e",))
    assert move(a=early, b=DONE, c=SKIPPED, d=SKIPPED, e=SKIPPED, g=SKIPPED) == Move(skip=("f",))


def test_a_failure_cancels_what_runs_and_leaves_the_rest_waiting():
    assert move(a=FAILED, b=RUNNING) == Move(cancel=("b",))
    assert move(a=FAILED, b=Status(StepState.CANCELLED)) == Move(outcome=Outcome.FAILED)


def test_a_failure_after_the_outcome_fails_the_round():
    promoted = Status(StepState.SUCCEEDED, "promoted")
    found = move(a=DONE, b=DONE, c=DONE, d=promoted, e=FAILED, g=SKIPPED)
    assert found == Move(outcome=Outcome.FAILED)


def test_a_person_ends_the_round():
    assert move(cancelled=True, a=RUNNING) == Move(cancel=("a",))
    assert move(cancelled=True) == Move(outcome=Outcome.CANCELLED)


def test_a_round_that_nothing_decides_is_undecided():
    found = move(a=DONE, b=DONE, c=DONE, d=DONE)
    assert found == Move(skip=("e", "f", "g"))
    assert move(a=DONE, b=DONE, c=DONE, d=DONE, e=SKIPPED, f=SKIPPED, g=SKIPPED) == Move(
        outcome=Outcome.UNDECIDED
    )


def test_of_two_outcomes_the_first_in_order_counts():
    both = {
        "a": Status(StepState.SUCCEEDED, "starved"),
        "b": Status(StepState.SUCCEEDED, "promoted"),
    }
    assert deciding_step(STEPS, dict.fromkeys(STEPS, WAITING) | both) == "a"


def test_ancestry_is_all_that_is_needed():
    assert ancestry(STEPS, ["d"]) == {"a", "b", "c", "d"}
    assert ancestry(STEPS, ["f"]) == {"a", "c", "e", "f"}


@st.composite
def graphs(draw):
    names = [f"s{i}" for i in range(draw(st.integers(1, 8)))]
    steps = {}
    for place, name in enumerate(names):
        when = draw(st.sampled_from(["", "", "", "promoted"]))
        able = [n for n in names[:place] if when or not steps[n].when]
        needs = draw(st.lists(st.sampled_from(able), unique=True)) if able else []
        steps[name] = step(name, *needs, when=when)
    return steps


@given(graphs(), st.data())
def test_every_round_ends_and_nothing_starts_before_what_it_needs(steps, data):
    standing = dict.fromkeys(steps, WAITING)
    endings = [DONE, DONE, FAILED, Status(StepState.SUCCEEDED, "promoted")]
    for _ in range(6 * len(steps) + 2):
        found = next_move(steps, standing)
        if found.outcome:
            break
        for name in found.start:
            assert all(standing[need].state is StepState.SUCCEEDED for need in steps[name].needs)
            standing[name] = RUNNING
        standing |= dict.fromkeys(found.skip, SKIPPED)
        standing |= dict.fromkeys(found.cancel, Status(StepState.CANCELLED))
        running = [name for name, status in standing.items() if status is RUNNING]
        assert running or found.start or found.skip or found.cancel, "the round is stuck"
        if running:
            name = data.draw(st.sampled_from(running))
            standing[name] = data.draw(st.sampled_from(endings))
    else:
        raise AssertionError("the round does not end")
    assert all(status is not RUNNING for status in standing.values())
