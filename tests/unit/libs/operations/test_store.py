import threading
from dataclasses import replace

import pytest
from athanor.corpus.v1.corpus_pb2 import CrawlRequest

from libs import telemetry
from libs.errors import Conflict, DeadlineExceeded, InvalidInput, NotFound, Unavailable
from libs.operations.record import Progress, State
from libs.operations.store import Operations, name_of


def commands(stage) -> list[str]:
    with stage.bus.subscribe(["corpus.commands.v1"], group="test") as consumer:
        found = []
        while (message := consumer.poll(0.0)) is not None:
            found.append(name_of(message))
        return found


def test_a_submit_records_first_and_then_wakes_a_worker(stage) -> None:
    name = stage.submit("a", "one")
    record = stage.operations.get(name)
    assert (record.state, record.epoch, record.method) == (State.QUEUED, 0, "Crawl")
    assert CrawlRequest.FromString(record.request).seeds == ["a"]
    assert record.create_time == stage.clock.wall_s
    assert commands(stage) == [name]


def test_a_record_whose_command_could_not_be_sent_is_there_to_be_swept(stage) -> None:
    class Down:
        def publish(self, *args: object, **kwargs: object) -> None:
            raise Unavailable("bus down")

    broken = Operations("corpus", blobs=stage.blobs, bus=Down(), clock=stage.clock)
    with pytest.raises(Unavailable):
        broken.submit("Crawl", CrawlRequest(request_id="one"))
    assert [record.request_id for record in stage.operations.list()] == ["one"]
    stage.operations.submit("Crawl", CrawlRequest(request_id="one"))
    assert len(commands(stage)) == 1


def test_one_request_id_is_one_operation(stage) -> None:
    assert stage.submit("a", "one") == stage.submit("a", "one")
    assert stage.submit("a") != stage.submit("a")
    with pytest.raises(Conflict, match="'one' was used for another Crawl request"):
        stage.submit("b", "one")


def test_a_record_keeps_the_trace_of_its_submit(stage) -> None:
    with telemetry.span("caller") as trace_id:
        record = stage.operations.get(stage.submit())
    assert record.trace_id == trace_id
    with telemetry.span("attempt", telemetry.extract(record.trace)) as later:
        assert later == trace_id


def test_a_queued_operation_is_cancelled_at_once_and_a_running_one_is_asked(stage) -> None:
    queued, running = stage.submit(), stage.submit()
    stage.take(running)
    assert stage.operations.cancel(queued).state is State.CANCELLED
    asked = stage.operations.cancel(running)
    assert (asked.state, asked.cancel_requested) == (State.RUNNING, True)
    assert stage.operations.cancel(running) == asked


def test_an_ended_operation_cannot_be_cancelled(stage) -> None:
    name = stage.submit()
    stage.take(name).finish(State.SUCCEEDED)
    assert stage.operations.cancel(name).state is State.SUCCEEDED


def test_a_cancel_that_races_a_change_is_not_lost(stage, monkeypatch: pytest.MonkeyPatch) -> None:
    name = stage.submit()
    lease = stage.take(name)
    read = stage.operations.read

    def read_and_be_overtaken(asked: str):
        monkeypatch.setattr(stage.operations, "read", read)
        stored = read(asked)
        lease.renew()
        return stored

    monkeypatch.setattr(stage.operations, "read", read_and_be_overtaken)
    assert stage.operations.cancel(name).cancel_requested


def test_a_write_over_another_write_conflicts(stage) -> None:
    name = stage.submit()
    stale = stage.operations.read(name)
    stage.operations.write(stale, replace(stale.record, faults=1))
    with pytest.raises(Conflict):
        stage.operations.write(stale, replace(stale.record, faults=2))


def test_every_write_raises_the_revision_so_that_no_two_states_look_alike(stage) -> None:
    name = stage.submit()
    first = stage.operations.read(name)
    there = stage.operations.write(first, replace(first.record, faults=1))
    back = stage.operations.write(there, replace(there.record, faults=0))
    assert back.etag != first.etag
    assert back.record.revision == 2


@pytest.mark.parametrize(
    "name", ["operations/loop/a", "operations/corpus/", "x", "operations/corpus/../a"]
)
def test_a_name_of_nothing_is_not_found(stage, name: str) -> None:
    with pytest.raises(NotFound):
        stage.operations.get(name)


def test_a_watcher_sees_each_visible_change_and_the_end(stage) -> None:
    name = stage.submit()
    lease = stage.take(name)
    seen = []
    for record in stage.operations.watch(name, timeout_s=60):
        seen.append((record.state, record.progress.completed))
        if len(seen) == 1:
            lease.renew()  # a heartbeat shows nothing new
            lease.tell(Progress(completed=1))
            lease.renew()
        elif len(seen) == 2:
            lease.finish(State.SUCCEEDED)
    assert seen == [(State.RUNNING, 0), (State.RUNNING, 1), (State.SUCCEEDED, 1)]


def test_watching_ends_with_the_deadline_and_waiting_with_what_is(stage) -> None:
    name = stage.submit()
    with pytest.raises(DeadlineExceeded, match="did not end within 0 s"):
        list(stage.operations.watch(name, timeout_s=0))
    assert stage.operations.wait(name, timeout_s=0).state is State.QUEUED


def test_a_watcher_that_went_away_is_let_go(stage) -> None:
    gone = threading.Event()
    watching = stage.operations.watch(stage.submit(), timeout_s=60, stopped=gone.is_set)
    next(watching)
    gone.set()
    assert list(watching) == []


def test_operations_are_listed_newest_first(stage) -> None:
    names = []
    for _ in range(3):
        names.append(stage.submit())
        stage.clock.wall_s += 1
    assert [record.name for record in stage.operations.list()] == names[::-1]


def test_what_is_no_command_is_invalid(stage) -> None:
    stage.bus.publish("corpus.commands.v1", key="a", value=b"[]")
    with stage.bus.subscribe(["corpus.commands.v1"], group="test") as consumer:
        message = consumer.poll(1.0)
    with pytest.raises(InvalidInput, match="expected a command"):
        name_of(message)
