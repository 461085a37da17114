import pytest

from libs.errors import Conflict, Unavailable
from libs.operations.lease import Lease, Stillness
from libs.operations.record import Progress, State
from libs.operations.step import Cancelled, LeaseLost


def test_taking_raises_the_epoch_and_of_two_takers_one_wins(stage) -> None:
    name = stage.submit()
    stored = stage.operations.read(name)
    lease = stage.take(name, "one")
    assert (lease.record.holder, lease.record.epoch) == ("one", 1)
    assert lease.record.state is State.RUNNING
    stage.operations.read = lambda _: stored  # the other looked before the first wrote
    with pytest.raises(Conflict):
        stage.take(name, "two")


@pytest.mark.parametrize(
    "late_write",
    [
        Lease.renew,
        lambda lease: lease.finish(State.SUCCEEDED),
        lambda lease: lease.count("faults"),
        lambda lease: lease.note(answered=True),
        Lease.release,
        Lease.keep,
    ],
)
def test_a_worker_that_woke_up_late_changes_nothing(stage, late_write) -> None:
    name = stage.submit()
    late = stage.take(name, "one")
    stage.take(name, "two")
    before = stage.operations.read(name)
    with pytest.raises(LeaseLost, match="expected holder one of epoch 1, got two of epoch 2"):
        late_write(late)
    assert stage.operations.read(name) == before
    with pytest.raises(LeaseLost):
        late.check()


def test_a_worker_that_slept_longer_than_its_lease_asks_before_it_goes_on(stage) -> None:
    name = stage.submit()
    late = stage.take(name, "one")
    stage.take(name, "two")
    late.tell(Progress(completed=1))  # awake: nothing is asked
    stage.clock.monotonic_s += stage.lease_s + 1
    with pytest.raises(LeaseLost):
        late.tell(Progress(completed=2))


def test_a_store_that_is_down_stops_no_work(stage, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = stage.take(stage.submit())

    def down(*_: object) -> None:
        raise Unavailable("store down")

    monkeypatch.setattr(stage.operations, "write", down)
    stage.clock.monotonic_s += 100
    lease.tell(Progress(completed=1))


def test_the_same_worker_on_a_later_epoch_is_another_holder(stage) -> None:
    name = stage.submit()
    late = stage.take(name, "one")
    stage.take(name, "one")
    with pytest.raises(LeaseLost):
        late.renew()


def test_progress_is_written_once_a_second_and_the_heartbeat_always(stage) -> None:
    name = stage.submit()
    lease = stage.take(name)
    written = []
    for _ in range(80):
        stage.clock.monotonic_s += 0.125
        lease.tell(Progress(completed=stage.clock.monotonic_s))
        lease.keep()
        written.append(stage.operations.get(name).revision)
    assert written[-1] - written[0] == 10
    for _ in range(80):
        stage.clock.monotonic_s += 0.125
        lease.keep()
    assert stage.operations.get(name).revision - written[-1] == 4  # every quarter of 10 s


def test_a_request_to_cancel_is_seen_by_the_next_look_and_survives_writes(stage) -> None:
    name = stage.submit()
    lease = stage.take(name)
    stage.operations.cancel(name)
    lease.check()
    lease.keep()
    with pytest.raises(Cancelled):
        lease.check()
    lease.renew()
    assert stage.operations.get(name).cancel_requested


def test_a_request_to_cancel_in_the_middle_of_a_write_is_kept(stage) -> None:
    name = stage.submit()
    lease = stage.take(name)
    stage.operations.cancel(name)
    lease.renew()
    assert stage.operations.get(name).cancel_requested
    with pytest.raises(Cancelled):
        lease.check()


def test_an_ended_operation_is_not_written_again(stage) -> None:
    name = stage.submit()
    lease = stage.take(name)
    lease.finish(State.SUCCEEDED)
    before = stage.operations.read(name)
    stage.clock.monotonic_s += 100
    lease.keep()
    lease.renew()
    assert stage.operations.read(name) == before


def test_a_finish_whose_answer_was_lost_is_a_finish(stage, monkeypatch: pytest.MonkeyPatch) -> None:
    name = stage.submit()
    lease = stage.take(name)
    write = stage.operations.write

    def write_and_say_nothing(*call):
        write(*call)
        raise Unavailable("connection reset")

    monkeypatch.setattr(stage.operations, "write", write_and_say_nothing)
    with pytest.raises(Unavailable):
        lease.finish(State.SUCCEEDED)
    monkeypatch.setattr(stage.operations, "write", write)
    lease.finish(State.SUCCEEDED)
    assert stage.operations.get(name).state is State.SUCCEEDED


def test_a_released_operation_is_free_and_its_worker_stops(stage) -> None:
    name = stage.submit()
    lease = stage.take(name)
    lease.release()
    record = stage.operations.get(name)
    assert (record.state, record.holder) == (State.QUEUED, "")
    with pytest.raises(LeaseLost, match="given it up"):
        lease.check()
    assert stage.take(name, "two").record.deaths == 0


def test_a_lease_that_ran_out_counts_as_a_death(stage) -> None:
    name = stage.submit()
    stage.take(name, "one")
    assert stage.take(name, "two").record.deaths == 1


def test_run_time_adds_up_over_attempts_and_leaves_out_the_time_between(stage) -> None:
    name = stage.submit()
    first = stage.take(name)
    stage.clock.monotonic_s += 3
    first.renew()
    stage.clock.monotonic_s += 50
    second = stage.take(name, "two")
    stage.clock.monotonic_s += 4
    second.finish(State.SUCCEEDED)
    assert stage.operations.get(name).run_time_s == 7


def test_stillness_is_measured_from_the_last_change_on_the_monotonic_clock_alone(clock) -> None:
    stillness = Stillness(clock)
    assert stillness.seconds("a", "e1") == 0
    clock.monotonic_s += 3
    clock.wall_s += 1e6
    assert stillness.seconds("a", "e1") == 3
    assert stillness.seconds("a", "e2") == 0
    clock.wall_s -= 2e6
    clock.monotonic_s += 1
    assert stillness.seconds("a", "e2") == 1
    stillness.forget("a")
    assert stillness.seconds("a", "e2") == 0
