import pytest
from prometheus_client import REGISTRY

from libs.operations.lease import Stillness
from libs.operations.record import State
from libs.operations.store import name_of
from libs.operations.sweeper import Sweeper


@pytest.fixture
def sweeper(stage) -> Sweeper:
    stillness = Stillness(stage.clock)
    return Sweeper(stage.operations, stage.folders, stillness, lease_s=stage.lease_s)


@pytest.fixture
def woken(stage, sweeper):
    """Sweep once and return the operations that workers were woken for."""
    consumer = stage.bus.subscribe(["corpus.commands.v1"], group="test")

    def sweep_after(seconds: float) -> list[str]:
        while (message := consumer.poll(0.0)) is not None:
            consumer.commit(message)
        stage.clock.monotonic_s += seconds
        sweeper.sweep()
        names = []
        while (message := consumer.poll(0.0)) is not None:
            names.append(name_of(message))
        return names

    with consumer:
        yield sweep_after


def test_a_command_that_got_lost_is_published_again_after_a_lease(stage, woken) -> None:
    name = stage.submit()
    assert woken(0) == []
    assert woken(9.9) == []
    assert woken(0.1) == [name]


def test_what_waits_in_the_queue_is_woken_for_ever_more_rarely(stage, woken) -> None:
    name = stage.submit()
    stage.clock.monotonic_s = 0.0
    times = [second for second in range(200) if woken(1 if second else 0) == [name]]
    assert times == [10, 20, 40, 80, 160]


def test_a_dead_workers_operation_is_woken_for_every_lease(stage, woken) -> None:
    name = stage.submit()
    stage.take(name)
    assert [woken(seconds) for seconds in (0, 10, 5, 5)] == [[], [name], [], [name]]


def test_a_kept_lease_wakes_nobody_whatever_the_wall_clock_says(stage, woken) -> None:
    lease = stage.take(stage.submit())
    for _ in range(10):
        lease.renew()
        stage.clock.wall_s += 86_400
        assert woken(9) == []


def test_what_ended_is_left_alone_and_its_folders_are_removed(stage, woken) -> None:
    name = stage.submit()
    lease = stage.take(name)
    scratch = stage.folders.scratch(lease.record)
    out = stage.folders.out(lease.record)
    assert woken(0) == []
    assert scratch.exists()
    lease.finish(State.SUCCEEDED)
    assert [woken(20), woken(20)] == [[], []]
    assert not scratch.exists()
    assert not out.exists()


def test_states_are_counted(stage, sweeper) -> None:
    stage.submit()
    stage.take(stage.submit())
    stage.take(stage.submit()).finish(State.FAILED)
    sweeper.sweep()

    def count(state: str) -> float | None:
        labels = {"service": "corpus", "state": state}
        return REGISTRY.get_sample_value("athanor_operations", labels)

    counts = [count(state.value) for state in State]
    assert counts == [1, 1, 0, 1, 0]


def test_the_longest_silence_of_a_running_operation_is_shown(stage, sweeper) -> None:
    def shown() -> float | None:
        sweeper.sweep()
        return REGISTRY.get_sample_value(
            "athanor_operation_stillness_seconds", {"service": "corpus"}
        )

    stage.submit()
    lease = stage.take(stage.submit())
    assert shown() == 0
    stage.clock.monotonic_s += 7
    assert shown() == 7
    lease.finish(State.SUCCEEDED)
    assert shown() == 0


def test_a_damaged_record_does_not_stop_the_sweep(
    stage, woken, caplog: pytest.LogCaptureFixture
) -> None:
    stage.blobs.create("operations/corpus/00.json", b"no record")
    name = stage.submit()
    assert [woken(0), woken(10)] == [[], [name]]
    assert [line.levelname for line in caplog.records] == ["CRITICAL"]
