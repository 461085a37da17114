"""Rounds over a world in which nothing is computed: order, ends, silence, kills."""

import pytest
import yaml

from libs.errors import Corrupt, InvalidInput, Unavailable
from services.loop.outcome import Outcome
from services.loop.rounds import Rounds
from services.loop.schedule import StepState
from tests.unit.services.loop.conftest import Runner, bind, states


def test_a_round_runs_its_steps_and_ends_with_the_outcome(runner, fake):
    record = runner.drive()
    assert record.outcome is Outcome.PROMOTED
    assert (record.reason, record.attribution) == ("It is better.", "By the targeting.")
    assert set(states(record).values()) == {"succeeded"}
    assert [each.split(".")[1] for each in fake.started] == [
        "base",
        "exam",
        "old",
        "decide",
        "serve",
    ]
    assert fake.most_at_once == 2


def test_the_artifacts_of_steps_reach_those_that_take_them(runner, fake):
    record = runner.drive()
    rpc, fields = fake._operations[record.step("serve").operation]
    assert rpc == "loop.Serve"
    assert fields == {
        "checkpoint_id": record.step("base").artifact_id,
        "decision_id": record.step("decide").artifact_id,
        "who": "me",
    }


def test_the_demo_trains_candidate_and_control_side_by_side(blobs, fake, catalogue, library):
    text = yaml.safe_dump({"recipe": "demo", "set": {"seeds": ["http://x/"]}})
    record = Runner(blobs, fake, bind(text, catalogue, library)).drive()
    assert record.outcome is Outcome.PROMOTED
    order = [each.split(".")[1] for each in fake.started]
    assert max(order.index("train"), order.index("train_control")) < order.index("compare")
    assert order.index("plan") < min(order.index("train_control"), order.index("examine_old"))
    assert fake.most_at_once >= 3


@pytest.mark.parametrize("outcome", ["nothing_weak", "starved", "underpowered"])
def test_an_early_outcome_ends_the_round_and_skips_the_rest(runner, fake, outcome):
    fake.outcomes["old"] = (outcome, "So it is.")
    record = runner.drive()
    assert (record.outcome, record.reason) == (Outcome(outcome), "So it is.")
    assert states(record) == {
        "base": "succeeded",
        "exam": "succeeded",
        "old": "succeeded",
        "decide": "skipped",
        "serve": "skipped",
    }


def test_an_early_outcome_cancels_running_siblings(runner, fake):
    fake.outcomes["base"] = ("starved", "Too little.")
    done = fake._is_done
    fake._is_done = lambda operation: done(operation) and ".exam." not in operation
    record = runner.drive()
    assert record.outcome is Outcome.STARVED
    assert states(record)["exam"] == "cancelled"
    assert [each.split(".")[1] for each in fake.cancelled] == ["exam"]


def test_a_failing_step_fails_the_round_with_its_error(runner, fake):
    fake.failures["old", 1] = InvalidInput("half must be given")
    record = runner.drive()
    assert record.outcome is Outcome.FAILED
    assert record.reason == "Step old: half must be given"
    assert record.error.kind == "InvalidInput"
    assert states(record)["decide"] == "waiting"


def test_a_resumed_round_starts_only_what_was_not_done(runner, fake, blobs):
    fake.failures["old", 1] = Corrupt("a bad byte")
    failed = runner.drive()
    Rounds(blobs).save(failed.again("operations/loop/other"))
    fake.started.clear()
    record = runner.drive()
    assert record.outcome is Outcome.PROMOTED
    assert [each.partition(".")[2] for each in fake.started] == ["old.2", "decide.1", "serve.1"]


def test_a_cancelled_round_cancels_what_runs_and_can_be_resumed(runner, fake, blobs):
    fake.num_looks = 5
    asked = iter([False, False, True])
    record = runner.drive(cancelled=lambda: next(asked, True))
    assert record.outcome is Outcome.CANCELLED
    assert sorted(each.split(".")[1] for each in fake.cancelled) == ["base", "exam"]
    assert states(record)["old"] == "waiting"
    Rounds(blobs).save(record.again("operations/loop/other"))
    again = runner.drive()
    assert again.outcome is Outcome.PROMOTED
    assert again.step("base").attempt == 2


def test_a_service_may_be_down_for_a_while(runner, fake):
    calls = iter(range(20))
    fake.unreachable = lambda call: Unavailable("down") if next(calls, 20) < 20 else None
    seen = []
    record = runner.drive(show=seen.append)
    assert record.outcome is Outcome.PROMOTED
    assert any("waiting for the service: down" in each.step("base").message for each in seen)


def test_a_service_that_stays_down_fails_the_round_after_the_patience(blobs, fake, bound):
    fake.unreachable = lambda call: Unavailable("no answer") if "look old" in call else None
    record = Runner(blobs, fake, bound, patience_s=30.0).drive()
    assert record.outcome is Outcome.FAILED
    assert record.error.kind == "Unavailable"
    assert states(record)["base"] == "succeeded"


def test_progress_of_steps_is_shown(runner, fake):
    fake.num_looks = 5
    seen = []
    runner.drive(show=seen.append)
    assert {(each.step("base").completed, each.step("base").unit) for each in seen} >= {
        (1.0, "looks"),
        (3.0, "looks"),
    }


def test_an_ended_round_is_not_driven_again(runner, fake):
    first = runner.drive()
    fake.started.clear()
    assert runner.drive() == first
    assert not fake.started


def test_a_late_word_of_another_worker_does_not_stop_the_round(runner, fake, blobs):
    rounds = Rounds(blobs)

    def interfere(record):
        if record.step("old").state is StepState.RUNNING and not interfered:
            interfered.append(rounds.save(rounds.get(record.id)))

    interfered = []
    record = runner.drive(show=interfere)
    assert interfered
    assert record.outcome is Outcome.PROMOTED


class LeaseError(Exception):
    """Stands for the error of a worker whose lease is lost."""


def test_a_worker_that_lost_its_lease_writes_nothing_more(runner, blobs):
    rounds = Rounds(blobs)
    taken = []

    def take_over(record):
        taken.append(rounds.save(rounds.get(record.id)))

    def is_cancelled():
        if taken:
            raise LeaseError
        return False

    with pytest.raises(LeaseError):
        runner.drive(show=take_over, cancelled=is_cancelled)
    assert rounds.get(runner.record.id) == taken[-1]


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the code under test catches it."""


class Dying:
    """Blobs of a process that is killed at its n-th write, before it or right after it."""

    def __init__(self, blobs, writes, *, after):
        self._blobs, self._left, self._after = blobs, writes, after

    def __getattr__(self, name):
        return getattr(self._blobs, name)

    def replace_if(self, name, content, *, etag):
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        blob = self._blobs.replace_if(name, content, etag=etag)
        if self._left == 0:
            raise Killed
        return blob


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("num_writes", range(1, 13))
def test_a_round_killed_at_any_write_goes_on_to_the_same_end(
    num_writes, after, runner, fake, blobs, bound
):
    undisturbed = [f"{runner.record.id}.{name}.1" for name in bound.steps]
    try:
        record = runner.drive(blobs=Dying(blobs, num_writes, after=after))
    except Killed:
        record = runner.drive()
    assert record.outcome is Outcome.PROMOTED
    assert sorted(set(fake.started)) == sorted(undisturbed)
    assert set(states(record).values()) == {"succeeded"}
    assert record.reason == "It is better."


def test_there_are_no_more_writes_than_are_killed_above(runner, blobs):
    with pytest.raises(Killed):
        runner.drive(blobs=Dying(blobs, 6, after=False))
    assert runner.drive().revision <= 12
