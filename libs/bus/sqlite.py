"""The bus of the embedded profile: topics, partitions, groups and offsets in one SQLite file.

It lets a machine without Kafka run every service with the same rules; both adapters pass
`tests/contract/test_bus.py`. It does not serve several machines: SQLite's locks need one kernel.
"""

import json
import threading
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from libs.blobs.port import Blobs
from libs.bus.claims import check_in, redeem
from libs.bus.port import Consumer, Message, Topic, and_dead_letters, check_partitions
from libs.bus.sqlite_consumer import SqliteConsumer, message_of
from libs.bus.sqlite_file import SqliteFile
from libs.bus.sqlite_topics import SqliteTopics
from libs.clock import Clock
from libs.errors import Busy, NotFound, Unavailable

_TIDY_S = 600.0
"""How often a process that publishes drops what is too old."""


@dataclass(kw_only=True, eq=False)
class _Letter:
    """A message on its way into the file."""

    topic: str
    partition: int
    key: str
    value: bytes
    headers: str
    written: bool = False
    woken: SimpleQueue[None] = field(default_factory=SimpleQueue)
    """Gets an item once the letter is written, or once its thread is the one to write.

    An event, written in Python, costs 10 to 20 % of the processor time of a lone publish.
    """


class SqliteBus:
    """The `Bus` of the port, for several threads and processes of one machine."""

    def __init__(
        self,
        path: Path,
        *,
        session_s: float = 10.0,
        busy_timeout_s: float = 5.0,
        blobs: Blobs | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Open the file, creating it where missing.

        A member that has not polled for `session_s` loses its partitions. A write waits
        `busy_timeout_s` for other writers. Large values go into `blobs`; without, they are refused
        where a broker would refuse them.

        Raises:
            Unavailable: the file cannot be opened or stays locked.
        """
        self._path = path
        self._session_s = session_s
        self._busy_timeout_s = busy_timeout_s
        self._clock = clock or Clock()
        self._file = SqliteFile(path, durable=True, busy_timeout_s=busy_timeout_s)
        self._blobs = blobs
        self._lock = threading.RLock()
        self._queue = threading.Lock()
        self._waiting: deque[_Letter] = deque()
        self._known: Mapping[str, Topic] = {}
        self._members: list[SqliteFile] = []
        self._tidy_at = self._clock.monotonic() + _TIDY_S
        self.topics = SqliteTopics(self._file, lock=self._lock, clock=self._clock)

    def declare(self, topics: Sequence[Topic]) -> None:
        wanted = and_dead_letters(topics)
        check_partitions(wanted, self.topics.existing(), bus=f"bus {self._path}")
        self.topics.create(wanted)
        self.topics.tidy()

    def publish(
        self, topic: str, *, key: str, value: bytes, headers: Mapping[str, str] = {}
    ) -> None:
        declared = self._declared(topic)
        value, headers = check_in(self._blobs, declared, value, headers, self._clock)
        letter = _Letter(
            topic=topic,
            partition=zlib.crc32(key.encode()) % declared.partitions,
            key=key,
            value=value,
            headers=json.dumps(dict(headers)),
        )
        try:
            self._await_turn(letter)
            if not letter.written:
                self._write_waiting()
        except BaseException:
            self._withdraw(letter)
            raise

    def subscribe(self, topics: Sequence[str], *, group: str) -> Consumer:
        partitions_by_topic = {topic: self._declared(topic).partitions for topic in topics}
        file = SqliteFile(self._path, durable=False, busy_timeout_s=self._busy_timeout_s)
        self._members.append(file)
        return SqliteConsumer(
            file,
            group=group,
            partitions_by_topic=partitions_by_topic,
            session_s=self._session_s,
            clock=self._clock,
        )

    def scan(self, topic: str) -> Iterator[Message]:
        self._declared(topic)
        with self._lock:
            rows = self._file.rows(
                "SELECT partition, position, key, value, headers, published_s FROM messages"
                " WHERE topic = ? ORDER BY partition, position",
                topic,
            )
        return (message_of(topic, row, self._clock) for row in rows)

    def redeem(self, message: Message) -> Message:
        return redeem(self._blobs, message)

    def close(self) -> None:
        for file in (*self._members, self._file):
            file.close()

    def _declared(self, topic: str) -> Topic:
        if topic not in self._known:
            self._known = dict(self.topics.existing())
        if topic not in self._known:
            raise NotFound(f"topic {topic}: expected one that a service declared")
        return self._known[topic]

    def _await_turn(self, letter: _Letter) -> None:
        """Queue up until the letter is written, or is the first and its thread has to write.

        The first writes for all that wait: one sync of the disk for many threads. Each sleeps
        on a signal of its own, so that none queues for a lock only to learn that it is done.
        """
        with self._queue:
            self._waiting.append(letter)
            if self._waiting[0] is letter:
                return
        letter.woken.get()

    def _write_waiting(self) -> None:
        with self._queue:
            letters = list(self._waiting)
        with self._lock, self._file.writing():
            for letter in letters:
                self._append(letter)
        for letter in letters:
            letter.written = True
        with self._queue:
            self._waiting = deque(each for each in self._waiting if not each.written)
            self._wake_first()
        for letter in letters:
            letter.woken.put(None)
        if self._clock.monotonic() >= self._tidy_at:
            self._tidy_at = self._clock.monotonic() + _TIDY_S
            with suppress(Busy, Unavailable):  # what was to be published is
                self.topics.tidy()

    def _withdraw(self, letter: _Letter) -> None:
        """Take back what was not written; the others, still waiting, try for themselves."""
        with self._queue:
            if letter in self._waiting:
                self._waiting.remove(letter)
            self._wake_first()

    def _wake_first(self) -> None:
        if self._waiting:
            self._waiting[0].woken.put(None)

    def _append(self, letter: _Letter) -> None:
        self._file.change(
            "INSERT INTO ends VALUES (?, ?, 1)"
            " ON CONFLICT DO UPDATE SET next_offset = next_offset + 1",
            *(letter.topic, letter.partition),
        )
        self._file.change(
            "INSERT INTO messages SELECT topic, partition, next_offset - 1, ?, ?, ?, ?"
            " FROM ends WHERE topic = ? AND partition = ?",
            *(letter.key, letter.value, letter.headers, self._clock.now()),
            *(letter.topic, letter.partition),
        )
