"""One member of a consumer group on the SQLite bus: heartbeats, shares, positions, commits.

Who owns which partition is a pure function of the members' table (`share`), so there is no
leader and nothing to agree on. A member that dies keeps its row; the others see its counter of
heartbeats stand still for the session time on their own monotonic clocks and delete it.
"""

import json
import time
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from libs.bus.port import Message
from libs.bus.sqlite_file import SqliteFile
from libs.clock import Clock
from libs.errors import Conflict, ServiceError

_TICK_S = 0.025
"""How often a waiting member asks whether the file changed: about 10 microseconds of work."""
_BATCH = 64
"""Messages read from a partition at once."""


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


class Member(NamedTuple):
    """One row of the members' table."""

    id: int
    topics: Sequence[str]
    beats: int


def share(
    members: Sequence[Member], partitions_by_topic: Mapping[str, int], member: int
) -> frozenset[Partition]:
    """Return the partitions of `member`: each topic dealt out in turn to those who read it."""
    owned = set()
    for topic, partitions in partitions_by_topic.items():
        takers = sorted(each.id for each in members if topic in each.topics)
        # The first card goes to another member for each topic, or one would get all the
        # topics of a single partition.
        first = zlib.crc32(topic.encode())
        owned |= {
            Partition(topic, number)
            for number in range(partitions)
            if takers and takers[(first + number) % len(takers)] == member
        }
    return frozenset(owned)


def message_of(topic: str, row: Sequence[Any], clock: Clock) -> Message:
    """Return a message from (partition, position, key, value, headers, published_s)."""
    partition, offset, key, value, headers, published_s = row
    return Message(
        topic=topic,
        key=key,
        value=value,
        headers=json.loads(headers),
        partition=partition,
        offset=offset,
        age_s=max(0.0, clock.now() - published_s),
    )


class SqliteConsumer:
    """The `Consumer` of the port; see there."""

    def __init__(
        self,
        file: SqliteFile,
        *,
        group: str,
        partitions_by_topic: Mapping[str, int],
        session_s: float,
        clock: Clock,
    ) -> None:
        self._file = file
        self._group = group
        self._partitions_by_topic = partitions_by_topic
        self._session_s = session_s
        self._clock = clock
        self._paused = False
        self._beats_seen: dict[int, tuple[int, float]] = {}
        self._join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def poll(self, timeout_s: float) -> Message | None:
        give_up = time.monotonic() + timeout_s
        while True:
            self._beat()
            self._read()
            if self._ready and not self._paused:
                return self._ready.popleft()
            left = give_up - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(left, _TICK_S))

    def commit(self, message: Message) -> None:
        partition = Partition(message.topic, message.partition)
        with self._file.writing():
            if partition not in self._share():
                raise Conflict(
                    f"{message.topic}/{message.partition}: expected it to belong to this member "
                    f"of {self._group}, but it has moved"
                )
            self._file.change(
                "INSERT INTO commits VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET next_offset = max(next_offset, excluded.next_offset)",
                *(self._group, *partition, message.offset + 1),
            )

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    @property
    def depth(self) -> int:
        ends = {
            Partition(topic, number): end
            for topic, number, end in self._file.rows("SELECT * FROM ends")
        }
        return sum(
            ends.get(partition, 0) - position for partition, position in self._committed().items()
        )

    @property
    def oldest_age_s(self) -> float:
        times = [
            published
            for partition, position in self._committed().items()
            for (published,) in self._file.rows(
                "SELECT published_s FROM messages"
                " WHERE topic = ? AND partition = ? AND position >= ? ORDER BY position LIMIT 1",
                *(*partition, position),
            )
        ]
        return max(0.0, self._clock.now() - min(times)) if times else 0.0

    def _join(self) -> None:
        """Enter the group anew, knowing nothing: every position is the committed one."""
        with self._file.writing():
            self._file.change(
                "INSERT INTO members (consumers, topics, beats) VALUES (?, ?, 0)",
                *(self._group, json.dumps(sorted(self._partitions_by_topic))),
            )
            self._id = int(self._file.rows("SELECT last_insert_rowid()")[0][0])
            # From now on nothing that this group has not read is forgotten.
            for topic, partitions in self._partitions_by_topic.items():
                self._file.change_many(
                    "INSERT OR IGNORE INTO commits VALUES (?, ?, ?, 0)",
                    [(self._group, topic, number) for number in range(partitions)],
                )
            self._raise_generation()
        self._next_beat = self._clock.monotonic() + self._session_s / 4
        self._generation = self._version = -1
        self._read_full = True
        self._positions: dict[Partition, int] = {}
        self._ready: deque[Message] = deque()

    def _leave(self) -> None:
        try:
            self._remove(self._id)
        except ServiceError:
            # The others notice the silence; leaving must not hide why the block ended.
            pass
        finally:
            self._file.close()

    def _remove(self, member: int, *, beats: int | None = None) -> None:
        """Delete a member, if `beats` is given only while it has not beaten since."""
        with self._file.writing():
            gone = self._file.change(
                "DELETE FROM members WHERE id = ? AND beats = coalesce(?, beats)", member, beats
            )
            if gone:
                self._raise_generation()
        self._version = -1  # the pragma does not tell of this connection's own changes

    def _raise_generation(self) -> None:
        self._file.change(
            "INSERT INTO generations VALUES (?, 1)"
            " ON CONFLICT DO UPDATE SET generation = generation + 1",
            self._group,
        )

    def _beat(self) -> None:
        now = self._clock.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + self._session_s / 4
        if not self._file.change("UPDATE members SET beats = beats + 1 WHERE id = ?", self._id):
            self._join()
        for member in self._silent(now):
            self._remove(member.id, beats=member.beats)

    def _silent(self, now: float) -> list[Member]:
        """Return the other members whose counter this one has seen stand still for too long."""
        members = [member for member in self._members() if member.id != self._id]
        seen = self._beats_seen
        self._beats_seen = {
            member.id: seen[member.id]
            if seen.get(member.id, (-1,))[0] == member.beats
            else (member.beats, now)
            for member in members
        }
        return [
            member for member in members if now - self._beats_seen[member.id][1] >= self._session_s
        ]

    def _members(self) -> list[Member]:
        rows = self._file.rows(
            "SELECT id, topics, beats FROM members WHERE consumers = ?", self._group
        )
        return [Member(id_, json.loads(topics), beats) for id_, topics, beats in rows]

    def _share(self) -> frozenset[Partition]:
        return share(self._members(), self._partitions_by_topic, self._id)

    def _committed(self) -> dict[Partition, int]:
        """Return the committed position of each partition of this member."""
        committed = {
            Partition(topic, number): position
            for topic, number, position in self._file.rows(
                "SELECT topic, partition, next_offset FROM commits WHERE consumers = ?", self._group
            )
        }
        return {partition: committed[partition] for partition in self._share()}

    def _read(self) -> None:
        """Take up changes of the group and of the log; costs one pragma when there are none."""
        version = self._file.version()
        changed, self._version = version != self._version, version
        if changed:
            self._rebalance()
        # Remembered while messages are left: the version will not say it again.
        self._read_full |= changed
        if not self._ready and self._read_full:
            self._fetch()

    def _rebalance(self) -> None:
        rows = self._file.rows(
            "SELECT generation FROM generations WHERE consumers = ?", self._group
        )
        if rows[0][0] == self._generation:
            return
        self._generation = rows[0][0]
        # A partition that went and came back between two polls may have been committed further.
        self._positions = {
            partition: max(position, self._positions.get(partition, 0))
            for partition, position in self._committed().items()
        }
        self._ready = deque(
            message
            for message in self._ready
            if Partition(message.topic, message.partition) in self._positions
        )

    def _fetch(self) -> None:
        self._read_full = False
        for partition, position in sorted(self._positions.items()):
            rows = self._file.rows(
                "SELECT position, key, value, headers, published_s FROM messages"
                " WHERE topic = ? AND partition = ? AND position >= ? ORDER BY position LIMIT ?",
                *(*partition, position, _BATCH),
            )
            self._ready.extend(
                message_of(partition.topic, (partition.number, *row), self._clock) for row in rows
            )
            if rows:
                self._positions[partition] = rows[-1][0] + 1
            self._read_full |= len(rows) == _BATCH
