"""What only the SQLite bus does: how it shares, forgets, and fails."""

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from libs.bus import sqlite_file
from libs.bus.port import Topic
from libs.bus.sqlite import SqliteBus
from libs.bus.sqlite_consumer import Member, Partition, share
from libs.bus.sqlite_file import SqliteFile
from libs.clock import Clock
from libs.errors import Busy, Corrupt, InvalidInput, Unavailable

TOPIC = Topic(name="test.things-happened.v1", key="thing", partitions=1, retention_hours=1)


class ManualClock(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.wall_s = 1_700_000_000.0
        self.monotonic_s = 0.0

    def now(self) -> float:
        return self.wall_s

    def monotonic(self) -> float:
        return self.monotonic_s


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bus.sqlite"


@pytest.fixture
def bus(path: Path, clock: ManualClock) -> Iterator[SqliteBus]:
    opened = SqliteBus(path, session_s=10.0, busy_timeout_s=0.05, clock=clock)
    opened.declare([TOPIC])
    yield opened
    opened.close()


def publish(bus: SqliteBus, value: bytes = b"") -> None:
    bus.publish(TOPIC.name, key="a", value=value)


@pytest.mark.parametrize("num_members", [1, 2, 3, 5, 9])
def test_shares_are_disjoint_complete_and_even(num_members: int) -> None:
    topics = {"one": 4, "two": 1, "three": 7}
    members = [Member(3 * number, list(topics), 0) for number in range(num_members)]
    shares = [share(members, topics, member.id) for member in members]
    everything = [partition for each in shares for partition in each]
    assert sorted(everything) == sorted(
        Partition(topic, number) for topic, count in topics.items() for number in range(count)
    )
    assert max(map(len, shares)) - min(map(len, shares)) <= len(topics)


def test_a_topic_is_shared_among_those_who_read_it() -> None:
    members = [Member(1, ["one"], 0), Member(2, ["two"], 0)]
    assert share(members, {"one": 2}, 1) == {Partition("one", 0), Partition("one", 1)}
    assert share([], {"one": 2}, 1) == frozenset()


def test_a_member_is_dead_after_a_session_without_a_beat_on_the_observers_clock(
    bus: SqliteBus, clock: ManualClock
) -> None:
    members = [bus.subscribe([TOPIC.name], group="readers") for _ in range(2)]
    publish(bus)
    (alive,) = [member for member in members if member.depth == 0]
    for _ in range(4):  # seen for the first time in the first quarter, silent for three more
        clock.monotonic_s += 2.5
        clock.wall_s += 1e9
        assert alive.poll(0.0) is None
    clock.monotonic_s += 2.5
    assert alive.poll(0.0) is not None


def test_a_member_that_beats_is_never_dead(bus: SqliteBus, clock: ManualClock) -> None:
    with (
        bus.subscribe([TOPIC.name], group="readers") as owner,
        bus.subscribe([TOPIC.name], group="readers") as observer,
    ):
        for _ in range(20):
            clock.monotonic_s += 2.5
            assert owner.poll(0.0) is observer.poll(0.0) is None
        publish(bus)
        assert (owner.poll(0.0) is None) != (observer.poll(0.0) is None)


def messages_kept(bus: SqliteBus, group: str) -> int:
    with bus.subscribe([TOPIC.name], group=group) as consumer:
        count = 0
        while consumer.poll(0.0) is not None:
            count += 1
        return count


def test_forgetting_waits_for_the_slowest_group_and_offsets_go_on(
    bus: SqliteBus, clock: ManualClock
) -> None:
    with bus.subscribe([TOPIC.name], group="slow") as slow:
        for _ in range(3):
            publish(bus)
        message = slow.poll(1.0)
        slow.commit(message)
        clock.wall_s += 3601
        bus.declare([TOPIC])
        assert slow.depth == 2
    assert messages_kept(bus, "slow") == 2
    with bus.subscribe([TOPIC.name], group="slow") as slow:
        slow.poll(1.0)
        slow.commit(slow.poll(1.0))
        bus.declare([TOPIC])
        publish(bus)
        assert slow.poll(1.0).offset == 3
    assert messages_kept(bus, "new") == 1


def test_without_readers_age_alone_forgets(bus: SqliteBus, clock: ManualClock) -> None:
    publish(bus)
    clock.wall_s += 3601
    publish(bus)
    bus.declare([TOPIC])
    assert messages_kept(bus, "late") == 1


def test_a_bus_that_runs_for_long_forgets_by_itself(bus: SqliteBus, clock: ManualClock) -> None:
    publish(bus)
    clock.wall_s += 3601
    clock.monotonic_s += 601
    publish(bus)
    assert messages_kept(bus, "late") == 1


def test_compaction_drops_what_was_replaced_even_if_nobody_read_it(bus: SqliteBus) -> None:
    bus.subscribe([TOPIC.name], group="slow")
    for value in (b"1", b"2", b"3"):
        publish(bus, value)
        bus.publish(TOPIC.name, key="b", value=value)
    bus.topics.configure(replace(TOPIC, compacted=True))
    bus.topics.tidy()
    with bus.subscribe([TOPIC.name], group="new") as consumer:
        kept = [consumer.poll(0.0), consumer.poll(0.0), consumer.poll(0.0)]
    assert [each and (each.key, each.value) for each in kept] == [("a", b"3"), ("b", b"3"), None]


def test_a_file_of_the_first_schema_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    old = sqlite3.connect(path)
    old.executescript(sqlite_file._FIRST_SCHEMA + "PRAGMA user_version = 1;")
    old.execute("INSERT INTO topics VALUES ('test.olds-happened.v1', 'old', 3, 24)")
    old.commit()
    old.close()
    bus = SqliteBus(path)
    expected = Topic(name="test.olds-happened.v1", key="old", partitions=3, retention_hours=24)
    assert bus.topics.existing() == {expected.name: expected}
    bus.close()


def test_a_lock_that_is_not_given_back_is_unavailable(bus: SqliteBus, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        publish(bus)
    other.execute("ROLLBACK")
    publish(bus)
    other.close()


def test_a_full_disk_is_busy_and_loses_nothing_that_was_acknowledged(bus: SqliteBus) -> None:
    publish(bus)
    pages = bus._file.rows("PRAGMA page_count")[0][0]
    bus._file.change(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Busy, match="disk is full"):
        publish(bus, bytes(100_000))
    bus._file.change("PRAGMA max_page_count = 1000000")
    publish(bus)
    assert messages_kept(bus, "readers") == 2


def test_a_thread_whose_write_fails_takes_no_other_with_it(
    bus: SqliteBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, failed = bus._append, []

    def fail_once(letter) -> None:
        if not failed:
            failed.append(letter)
            raise Busy("full")
        append(letter)

    monkeypatch.setattr(bus, "_append", fail_once)
    errors = []

    def publish_in_thread() -> None:
        try:
            publish(bus)
        except Busy as error:
            errors.append(error)

    threads = [threading.Thread(target=publish_in_thread) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 1
    assert messages_kept(bus, "readers") == 3


def test_a_publish_is_synced_and_a_commit_need_not_be(bus: SqliteBus) -> None:
    consumer = bus.subscribe([TOPIC.name], group="readers")
    assert bus._file.rows("PRAGMA synchronous") == [(2,)]  # FULL
    assert consumer._file.rows("PRAGMA synchronous") == [(1,)]  # NORMAL
    assert bus._file.rows("PRAGMA journal_mode") == [("wal",)]


def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "bus.sqlite"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(Corrupt, match="intact SQLite file"):
        SqliteBus(path)


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be opened"):
        SqliteBus(tmp_path / "file" / "bus.sqlite")


def test_a_newer_schema_is_refused(bus: SqliteBus, path: Path) -> None:
    bus._file.change("PRAGMA user_version = 99")
    with pytest.raises(InvalidInput, match="schema 99"):
        SqliteBus(path)


def test_many_may_open_a_new_file_at_once(path: Path) -> None:
    errors = []

    def open_one() -> None:
        try:
            SqliteFile(path, durable=True, busy_timeout_s=10).close()
        except Unavailable as error:
            errors.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
