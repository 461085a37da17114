"""The embedded bus beside bare SQLite with the same durability, which is the machine's limit.

Publishing is synced to the disk before it returns, on both sides; several threads share one sync on
ours, so their peer puts as many rows as there are threads into one transaction. Reading commits
after every message, unsynced on both sides.
"""

import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from libs.bus.port import Topic
from libs.bus.sqlite import SqliteBus
from tests.bench import environment
from tests.bench.measure import interleaved, rate
from tests.bench.table import Row

_TOPIC = Topic(name="bench.messages-sent.v1", key="a number", partitions=4)
_VALUE = bytes(range(200))
_THREADS = 16
_LOG_FULL = 2000
"""Commits after which the write-ahead log is used again instead of growing."""
_READ = 64
"""Rows that both sides read at once."""


def run(quick: bool) -> list[Row]:
    count, repeats = (320, 2) if quick else (4000, 7)
    # Beside the state of the services: a folder in memory would sync nothing.
    with tempfile.TemporaryDirectory(prefix=".athanor-bench-", dir=environment.ROOT) as folder:
        ours, peer = _Ours(Path(folder) / "bus.sqlite"), _Peer(Path(folder) / "bare.sqlite")
        try:
            # Until its log has been written to the end once, SQLite is half as fast.
            ours.publish(range(_LOG_FULL))
            peer.insert(_LOG_FULL, rows_a_commit=1)
            return _rows(ours, peer, count, repeats)
        finally:
            ours.close()
            peer.close()


def _rows(ours: "_Ours", peer: "_Peer", count: int, repeats: int) -> list[Row]:
    one = interleaved(
        {
            "ours": rate(lambda: ours.publish(range(count)), count),
            "peer": rate(lambda: peer.insert(count, rows_a_commit=1), count),
        },
        repeats=repeats,
    )
    many = interleaved(
        {
            "ours": rate(lambda: ours.publish_by_threads(count), count),
            "peer": rate(lambda: peer.insert(count, rows_a_commit=_THREADS), count),
        },
        repeats=repeats,
    )
    ours.read_all()
    peer.read_all()

    def consume(side: "_Ours | _Peer") -> float:
        ours.publish_by_threads(count) if side is ours else peer.insert(count, _THREADS)
        return rate(lambda: _expect(side.read_all(), count), count)()

    read = interleaved(
        {"ours": lambda: consume(ours), "peer": lambda: consume(peer)}, repeats=repeats
    )
    return [
        Row(
            benchmark="bus: publish, 1 thread",
            unit="messages/s",
            peer_name="sqlite3, one insert a commit",
            **one,
        ),
        Row(
            benchmark=f"bus: publish, {_THREADS} threads",
            unit="messages/s",
            peer_name=f"sqlite3, {_THREADS} inserts a commit, 1 thread",
            **many,
        ),
        Row(
            benchmark="bus: consume, each message committed",
            unit="messages/s",
            peer_name="sqlite3, one update a commit",
            **read,
        ),
    ]


def _expect(actual: int, expected: int) -> None:
    assert actual == expected, f"expected {expected} messages, got {actual}"


class _Ours:
    def __init__(self, path: Path) -> None:
        self._bus = SqliteBus(path)
        self._bus.declare([_TOPIC])
        self._consumer = self._bus.subscribe([_TOPIC.name], group="bench")
        self._threads = ThreadPoolExecutor(_THREADS)

    def publish(self, keys: range) -> None:
        for key in keys:
            self._bus.publish(_TOPIC.name, key=str(key), value=_VALUE)

    def publish_by_threads(self, count: int) -> None:
        shares = [range(first, count, _THREADS) for first in range(_THREADS)]
        for _ in self._threads.map(self.publish, shares):
            pass

    def read_all(self) -> int:
        """Read and commit what is there; return how many messages."""
        count = 0
        while message := self._consumer.poll(0):
            self._consumer.commit(message)
            count += 1
        return count

    def close(self) -> None:
        self._threads.shutdown()
        with self._consumer:
            pass
        self._bus.close()


class _Peer:
    def __init__(self, path: Path) -> None:
        self._writer = _opened(path, "FULL")
        self._writer.execute("CREATE TABLE log (position INTEGER PRIMARY KEY, value BLOB)")
        self._writer.execute("CREATE TABLE done (next INTEGER)")
        self._writer.execute("INSERT INTO done VALUES (1)")
        self._reader = _opened(path, "NORMAL")

    def insert(self, count: int, rows_a_commit: int) -> None:
        for first in range(0, count, rows_a_commit):
            self._writer.execute("BEGIN IMMEDIATE")
            for _ in range(min(rows_a_commit, count - first)):
                self._writer.execute("INSERT INTO log (value) VALUES (?)", (_VALUE,))
            self._writer.execute("COMMIT")

    def read_all(self) -> int:
        """Read and commit what is there; return how many messages."""
        (position,) = begin = self._reader.execute("SELECT next FROM done").fetchone()
        while rows := self._reader.execute(
            "SELECT position, value FROM log WHERE position >= ? ORDER BY position LIMIT ?",
            (position, _READ),
        ).fetchall():
            for position, _ in rows:
                self._reader.execute("BEGIN IMMEDIATE")
                self._reader.execute("UPDATE done SET next = ?", (position + 1,))
                self._reader.execute("COMMIT")
            position = rows[-1][0] + 1
        return int(position - begin[0])

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


def _opened(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    return connection
