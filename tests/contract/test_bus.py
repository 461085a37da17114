"""What every bus promises, whichever adapter stands behind the port."""

import itertools
import multiprocessing
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from libs.blobs.folder import FolderBlobs
from libs.bus.consume import consume
from libs.bus.port import MAX_VALUE_BYTES, Bus, Consumer, Message, Topic
from libs.errors import Busy, Conflict, Corrupt, InvalidInput, NotFound, Unavailable
from tests import buses

PATIENCE_S = 20.0
KEYS = [f"key-{number}" for number in range(16)]
_names = itertools.count()


@dataclass(frozen=True)
class Adapter:
    """One bus under test: how to open it, here or in another process, and its session time."""

    open: Callable[..., Bus]
    session_s: float


@pytest.fixture(params=buses.ADAPTERS)
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Adapter]:
    session_s = {"sqlite": 0.4, "kafka": 2.0}[request.param]
    with buses.opener(request.param, request, tmp_path, session_s=session_s) as open_bus:
        yield Adapter(open_bus, session_s)


@pytest.fixture
def bus(adapter: Adapter) -> Iterator[Bus]:
    opened = adapter.open()
    yield opened
    opened.close()


@pytest.fixture
def topic(bus: Bus) -> str:
    name = f"test.things-happened-{next(_names)}.v1"
    bus.declare([Topic(name=name, key="thing", partitions=4)])
    return name


def publish_all(bus: Bus, topic: str, keys: Sequence[str] = KEYS, times: int = 1) -> None:
    for number in range(times):
        for key in keys:
            bus.publish(topic, key=key, value=str(number).encode())


def take(consumer: Consumer, count: int) -> list[Message]:
    """Poll until `count` messages came."""
    taken: list[Message] = []
    give_up = time.monotonic() + PATIENCE_S
    while len(taken) < count:
        assert time.monotonic() < give_up, f"{len(taken)} of {count} messages came"
        message = consumer.poll(0.1)
        if message is not None:
            taken.append(message)
    return taken


def poll_for(consumer: Consumer, seconds: float) -> list[Message]:
    """Return what comes within some time."""
    give_up = time.monotonic() + seconds
    polled = []
    while time.monotonic() < give_up:
        polled.append(consumer.poll(0.05))
    return [message for message in polled if message is not None]


def settle(consumers: Sequence[Consumer], seconds: float = 2.0) -> None:
    """Poll every member for a while, so that a rebalance ends before anything is published."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        for consumer in consumers:
            assert consumer.poll(0.05) is None


def test_messages_of_one_key_stay_in_order(bus: Bus, topic: str) -> None:
    publish_all(bus, topic, KEYS[:3], times=40)
    with bus.subscribe([topic], group="readers") as consumer:
        values = defaultdict(list)
        for message in take(consumer, 120):
            values[message.key].append(int(message.value))
    assert values == {key: list(range(40)) for key in KEYS[:3]}


def test_what_came_while_messages_were_left_is_read_after_them(bus: Bus, topic: str) -> None:
    with bus.subscribe([topic], group="readers") as consumer:
        settle([consumer])
        for value in (b"1", b"2"):
            bus.publish(topic, key="a", value=value)
        first = take(consumer, 1)
        bus.publish(topic, key="a", value=b"3")
        rest = take(consumer, 2)
    assert [message.value for message in (*first, *rest)] == [b"1", b"2", b"3"]


def test_a_key_always_falls_into_the_same_partition(bus: Bus, topic: str) -> None:
    publish_all(bus, topic, times=2)
    with bus.subscribe([topic], group="readers") as consumer:
        partitions = {(message.key, message.partition) for message in take(consumer, 32)}
    assert len(partitions) == len(KEYS)
    assert len({partition for _, partition in partitions}) == 4


def test_a_message_arrives_whole_and_with_its_place(bus: Bus, topic: str) -> None:
    bus.publish(topic, key="a", value=b"\x00\xff", headers={"ce_id": "1", "note": "Zürich"})
    bus.publish(topic, key="a", value=b"")
    with bus.subscribe([topic], group="readers") as consumer:
        first, second = take(consumer, 2)
    assert (first.topic, first.key, first.value) == (topic, "a", b"\x00\xff")
    assert first.headers == {"ce_id": "1", "note": "Zürich"}
    assert (first.offset, second.offset, second.value) == (0, 1, b"")
    assert 0 <= first.age_s < PATIENCE_S


def test_an_undeclared_topic_is_not_found(bus: Bus, topic: str) -> None:
    with pytest.raises(NotFound, match=r"test\.typo\.v1"):
        bus.publish("test.typo.v1", key="a", value=b"")
    with pytest.raises(NotFound, match=r"test\.typo\.v1"):
        bus.subscribe([topic, "test.typo.v1"], group="readers")


def test_declaring_again_changes_nothing_and_other_partitions_conflict(
    bus: Bus, topic: str
) -> None:
    bus.publish(topic, key="a", value=b"kept")
    bus.declare([Topic(name=topic, key="thing", partitions=4)])
    with pytest.raises(Conflict, match="partitions"):
        bus.declare([Topic(name=topic, key="thing", partitions=5)])
    with bus.subscribe([topic], group="readers") as consumer:
        assert take(consumer, 1)[0].value == b"kept"


def test_a_value_too_large_for_a_broker_is_refused(bus: Bus, topic: str) -> None:
    with pytest.raises(InvalidInput, match="object store"):
        bus.publish(topic, key="a", value=bytes(MAX_VALUE_BYTES + 1))


def test_a_compacted_topic_keeps_the_newest_message_of_each_key(bus: Bus, topic: str) -> None:
    name = f"{topic}.newest"
    compacted = Topic(name=name, key="thing", partitions=2, compacted=True)
    bus.declare([compacted])
    publish_all(bus, name, KEYS[:4], times=3)
    bus.declare([compacted])
    with bus.subscribe([name], group="readers") as consumer:
        newest: dict[str, bytes] = {}
        while list(newest.values()) != [b"2"] * 4:
            newest |= {message.key: message.value for message in take(consumer, 1)}
    found = bus.topics.existing([name, f"{name}.dead"])
    assert (found[name].compacted, found[f"{name}.dead"].compacted) == (True, False)


def test_topics_are_described_and_changed(bus: Bus, topic: str) -> None:
    assert bus.topics.existing([topic, "test.typo.v1"]).keys() == {topic}
    changed = Topic(name=topic, key="thing", partitions=6, retention_hours=5, compacted=True)
    bus.topics.configure(changed)
    bus.topics.grow(changed)
    found = bus.topics.existing()[topic]
    assert (found.partitions, found.retention_hours, found.compacted) == (6, 5, True)


# Claim-check.

LARGE = bytes(range(256)) * 1200


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


@pytest.fixture
def claiming(adapter: Adapter, blobs: FolderBlobs) -> Iterator[Bus]:
    opened = adapter.open(blobs=blobs)
    yield opened
    opened.close()


def test_a_large_value_travels_by_the_object_store(
    bus: Bus, claiming: Bus, topic: str, blobs: FolderBlobs
) -> None:
    for _ in range(2):
        claiming.publish(topic, key="a", value=LARGE, headers={"ce_id": "1"})
    claiming.publish(topic, key="a", value=b"small")
    with bus.subscribe([topic], group="readers") as consumer:
        one, two, small = take(consumer, 3)
    assert one.value == two.value == b""
    read = claiming.redeem(one)
    assert (read.value, read.headers, read.offset) == (LARGE, {"ce_id": "1"}, one.offset)
    assert claiming.redeem(small) is small
    assert len(list(blobs.list("claims/"))) == 1


def test_a_claim_whose_bytes_changed_is_buried_as_it_came(
    claiming: Bus, topic: str, blobs: FolderBlobs
) -> None:
    claiming.publish(topic, key="a", value=LARGE)
    (claim,) = blobs.list("claims/")
    blobs.replace_if(claim.name, b"other bytes", etag=claim.etag)
    claiming.publish(topic, key="a", value=b"good")
    handled: list[bytes] = []
    run_loop(claiming, topic, lambda each: handled.append(each.value), lambda: bool(handled))
    assert handled == [b"good"]
    with claiming.subscribe([f"{topic}.dead"], group="doctors") as consumer:
        (letter,) = take(consumer, 1)
    assert letter.headers["cause"].startswith("Corrupt: ")
    with pytest.raises(Corrupt, match=claim.name):
        claiming.redeem(letter)


def test_a_claim_that_is_gone_is_not_found(
    bus: Bus, claiming: Bus, topic: str, blobs: FolderBlobs
) -> None:
    claiming.publish(topic, key="a", value=LARGE)
    (claim,) = blobs.list("claims/")
    blobs.delete(claim.name)
    with bus.subscribe([topic], group="readers") as consumer:
        (message,) = take(consumer, 1)
    with pytest.raises(NotFound):
        claiming.redeem(message)
    with pytest.raises(NotFound, match="object store"):
        bus.redeem(message)


def test_a_compacted_topic_takes_no_claims(claiming: Bus, topic: str) -> None:
    name = f"{topic}.newest"
    claiming.declare([Topic(name=name, key="thing", partitions=1, compacted=True)])
    with pytest.raises(InvalidInput, match=str(len(LARGE))):
        claiming.publish(name, key="a", value=LARGE)


def test_members_of_a_group_share_the_messages(bus: Bus, topic: str) -> None:
    with (
        bus.subscribe([topic], group="readers") as one,
        bus.subscribe([topic], group="readers") as two,
    ):
        settle([one, two])
        publish_all(bus, topic)
        shares = [set(), set()]
        while sum(map(len, shares)) < len(KEYS):
            for consumer, share in zip((one, two), shares, strict=True):
                message = consumer.poll(0.1)
                if message is not None:
                    share.add((message.partition, message.key))
    assert {key for share in shares for _, key in share} == set(KEYS)
    partitions = [{partition for partition, _ in share} for share in shares]
    assert [len(owned) for owned in partitions] == [2, 2]
    assert not partitions[0] & partitions[1]


def test_groups_are_independent(bus: Bus, topic: str) -> None:
    publish_all(bus, topic)
    for group in ("readers", "others"):
        with bus.subscribe([topic], group=group) as consumer:
            for message in take(consumer, len(KEYS)):
                consumer.commit(message)
            assert consumer.poll(0.0) is None


def test_committed_is_not_seen_again_and_uncommitted_is(bus: Bus, topic: str) -> None:
    publish_all(bus, topic, ["a"], times=5)
    with bus.subscribe([topic], group="readers") as consumer:
        consumer.commit(take(consumer, 5)[2])
    with bus.subscribe([topic], group="readers") as consumer:
        assert [message.offset for message in take(consumer, 2)] == [3, 4]
        assert consumer.poll(0.1) is None


def test_a_late_commit_of_an_early_message_does_not_go_back(bus: Bus, topic: str) -> None:
    publish_all(bus, topic, ["a"], times=3)
    with bus.subscribe([topic], group="readers") as consumer:
        first, _, last = take(consumer, 3)
        consumer.commit(last)
        consumer.commit(first)
    with bus.subscribe([topic], group="readers") as consumer:
        assert consumer.poll(0.2) is None


def test_the_partitions_of_a_member_that_died_move_with_what_it_had_not_committed(
    bus: Bus, topic: str, adapter: Adapter
) -> None:
    dead = bus.subscribe([topic], group="readers")
    publish_all(bus, topic)
    lost = take(dead, len(KEYS))
    dead.commit(lost[0])
    started = time.monotonic()
    with bus.subscribe([topic], group="readers") as alive:
        seen = {message.key for message in take(alive, len(KEYS) - 1)}
        assert seen >= {message.key for message in lost[1:]}
    assert time.monotonic() - started >= adapter.session_s / 2


def test_a_commit_after_the_partition_moved_conflicts(bus: Bus, topic: str) -> None:
    publish_all(bus, topic)
    late = bus.subscribe([topic], group="readers")
    messages = take(late, len(KEYS))
    with bus.subscribe([topic], group="readers") as alive:
        take(alive, len(KEYS))
        with pytest.raises(Conflict, match="moved"):
            late.commit(messages[0])


def test_a_member_given_up_for_dead_joins_again_when_it_polls(bus: Bus, topic: str) -> None:
    late = bus.subscribe([topic], group="readers")
    publish_all(bus, topic)
    take(late, len(KEYS))
    with bus.subscribe([topic], group="readers") as alive:
        for message in take(alive, len(KEYS)):
            alive.commit(message)
    publish_all(bus, topic)
    with late:
        for message in take(late, len(KEYS)):
            late.commit(message)


def test_a_member_that_leaves_gives_its_partitions_at_once(bus: Bus, topic: str) -> None:
    with bus.subscribe([topic], group="readers") as stays:
        with bus.subscribe([topic], group="readers") as leaves:
            settle([stays, leaves])
        publish_all(bus, topic)
        assert {message.key for message in take(stays, len(KEYS))} == set(KEYS)


def test_a_paused_member_gets_nothing_and_keeps_its_partitions(
    bus: Bus, topic: str, adapter: Adapter
) -> None:
    with (
        bus.subscribe([topic], group="readers") as paused,
        bus.subscribe([topic], group="readers") as other,
    ):
        settle([paused, other])
        paused.pause()
        publish_all(bus, topic)
        seen = []
        give_up = time.monotonic() + 3 * adapter.session_s
        while time.monotonic() < give_up:
            assert paused.poll(0.05) is None
            message = other.poll(0.05)
            if message is not None:
                seen.append(message.key)
        assert 0 < len(seen) < len(KEYS)
        paused.resume()
        rest = [message.key for message in take(paused, len(KEYS) - len(seen))]
    assert sorted(seen + rest) == sorted(KEYS)


def test_depth_and_age_tell_what_waits(bus: Bus, topic: str) -> None:
    with bus.subscribe([topic], group="readers") as consumer:
        settle([consumer])
        assert (consumer.depth, consumer.oldest_age_s) == (0, 0.0)
        publish_all(bus, topic, ["a"], times=3)
        messages = take(consumer, 3)
        assert consumer.depth == 3
        assert 0 < consumer.oldest_age_s < PATIENCE_S
        consumer.commit(messages[1])
        assert consumer.depth == 1
        consumer.commit(messages[2])
        assert (consumer.depth, consumer.oldest_age_s) == (0, 0.0)


def test_one_member_reads_several_topics(bus: Bus, topic: str) -> None:
    bus.declare([Topic(name=f"{topic}.second", key="thing", partitions=1)])
    bus.publish(topic, key="a", value=b"1")
    bus.publish(f"{topic}.second", key="a", value=b"2")
    with bus.subscribe([topic, f"{topic}.second"], group="readers") as consumer:
        assert sorted(message.value for message in take(consumer, 2)) == [b"1", b"2"]


def test_many_threads_publish_without_losing_any(bus: Bus, topic: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: publish_all(bus, topic, [key], times=10), KEYS[:8]))
    with bus.subscribe([topic], group="readers") as consumer:
        values = defaultdict(list)
        for message in take(consumer, 80):
            values[message.key].append(int(message.value))
    assert values == {key: list(range(10)) for key in KEYS[:8]}


# The loop over a bus, so that every adapter is shown to carry its policy.


def run_loop(
    bus: Bus, topic: str, handle: Callable[[Message], None], until: Callable[[], bool]
) -> None:
    """Run `consume` until `until` holds at the start of one of its turns."""
    stopped = threading.Event()
    give_up = time.monotonic() + PATIENCE_S

    def stop_when_done() -> None:
        assert time.monotonic() < give_up
        if until():
            stopped.set()

    with bus.subscribe([topic], group="handlers") as consumer:
        consume(bus, consumer, handle, stopped=stopped, each_poll=stop_when_done)


def depth(bus: Bus, topic: str) -> int:
    with bus.subscribe([topic], group="handlers") as consumer:
        return consumer.depth


def test_a_hopeless_message_is_dead_lettered_with_cause_and_origin(bus: Bus, topic: str) -> None:
    bus.publish(topic, key="a", value=b"bad", headers={"ce_id": "7"})
    seen: list[Message] = []

    def handle(message: Message) -> None:
        seen.append(message)
        raise InvalidInput("expected good, got bad")

    run_loop(bus, topic, handle, lambda: bool(seen))
    with bus.subscribe([f"{topic}.dead"], group="doctors") as consumer:
        (letter,) = take(consumer, 1)
    labels = {"topic": topic, "error": "InvalidInput"}
    assert REGISTRY.get_sample_value("athanor_bus_dead_letters_total", labels) == 1
    assert (letter.key, letter.value) == ("a", b"bad")
    assert letter.headers == {
        "ce_id": "7",
        "cause": "InvalidInput: expected good, got bad",
        "origin": f"{topic}/{seen[0].partition}/0",
    }
    assert depth(bus, topic) == 0


@pytest.mark.parametrize("error", [Busy("full"), Unavailable("down")])
def test_a_message_is_tried_again_until_its_dependency_is_back(
    bus: Bus, topic: str, error: Busy | Unavailable
) -> None:
    error.retry_after_s = 0.01
    publish_all(bus, topic, ["a"], times=2)
    tries: list[bytes] = []

    def handle(message: Message) -> None:
        tries.append(message.value)
        if len(tries) < 3:
            raise error

    run_loop(bus, topic, handle, lambda: len(tries) == 4)
    assert tries == [b"0", b"0", b"0", b"1"]
    assert depth(bus, topic) == 0


def test_a_bug_stops_the_loop_before_it_commits(bus: Bus, topic: str) -> None:
    publish_all(bus, topic, ["a"])

    def handle(message: Message) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_loop(bus, topic, handle, lambda: False)
    assert depth(bus, topic) == 1


def test_a_handler_that_outlasts_the_session_keeps_its_partition(
    bus: Bus, topic: str, adapter: Adapter
) -> None:
    handling, release, handled = threading.Event(), threading.Event(), list[Message]()

    def handle(message: Message) -> None:
        handling.set()
        assert release.wait(PATIENCE_S)
        handled.append(message)

    with ThreadPoolExecutor(1) as pool, bus.subscribe([topic], group="handlers") as other:
        ended = pool.submit(run_loop, bus, topic, handle, lambda: bool(handled))
        settle([other])
        publish_all(bus, topic)
        assert handling.wait(PATIENCE_S)
        seen = poll_for(other, 3 * adapter.session_s)
        release.set()
        ended.result()
    assert {message.partition for message in seen} < set(range(4))
    assert handled[0].partition not in {message.partition for message in seen}


# Several processes: the functions below run in children.


def _read_until_done(open_bus: Callable[[], Bus], topic: str, report: str) -> None:
    """Move every message to `report` until one says `done`."""
    bus = open_bus()
    with bus.subscribe([topic], group="processes") as consumer:
        bus.publish(report, key="joined", value=b"")
        while (message := consumer.poll(PATIENCE_S)) is not None and message.value != b"done":
            bus.publish(report, key=message.key, value=message.value)
            consumer.commit(message)


def _publish_many(open_bus: Callable[[], Bus], topic: str, key: str, times: int) -> None:
    publish_all(open_bus(), topic, [key], times)


@pytest.fixture
def spawn() -> Iterator[Callable[..., multiprocessing.process.BaseProcess]]:
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:

        def start(*call: object) -> multiprocessing.process.BaseProcess:
            process = context.Process(target=call[0], args=call[1:], daemon=True)
            process.start()
            stack.callback(process.join, PATIENCE_S)
            stack.callback(process.kill)
            return process

        yield start


def test_processes_publish_side_by_side(
    adapter: Adapter, bus: Bus, topic: str, spawn: Callable[..., object]
) -> None:
    for key in ("a", "b"):
        spawn(_publish_many, adapter.open, topic, key, 50)
    with bus.subscribe([topic], group="readers") as consumer:
        values = defaultdict(list)
        for message in take(consumer, 100):
            values[message.key].append(int(message.value))
    assert values == {"a": list(range(50)), "b": list(range(50))}


def test_what_a_killed_process_had_not_committed_reaches_another(
    adapter: Adapter, bus: Bus, topic: str, spawn: Callable[..., object]
) -> None:
    report = f"{topic}.report"
    bus.declare([Topic(name=report, key="thing", partitions=1)])
    with bus.subscribe([report], group="readers") as reports:
        child = spawn(_read_until_done, adapter.open, topic, report)
        take(reports, 1)
        publish_all(bus, topic, KEYS[:4])
        first = {message.key for message in take(reports, 4)}
        child.kill()  # type: ignore[attr-defined]
        publish_all(bus, topic, KEYS[4:])
        spawn(_read_until_done, adapter.open, topic, report)
        second: set[str] = set()
        while not second >= set(KEYS[4:]):
            second |= {message.key for message in take(reports, 1)}
    assert first == set(KEYS[:4])
