"""The topics of the SQLite bus: declared ones, and what retention and compaction let go."""

import threading
from collections.abc import Iterable, Mapping

from libs.bus.port import Topic
from libs.bus.sqlite_file import SqliteFile
from libs.clock import Clock


class SqliteTopics:
    """The `Topics` of the port, for several threads that share `lock`."""

    def __init__(self, file: SqliteFile, *, lock: threading.RLock, clock: Clock) -> None:
        self._file = file
        self._lock = lock
        self._clock = clock

    def existing(self, names: Iterable[str] | None = None) -> Mapping[str, Topic]:
        wanted = None if names is None else set(names)
        with self._lock:
            rows = self._file.rows(
                "SELECT name, key, partitions, retention_hours, compacted FROM topics"
            )
        return {
            name: Topic(
                name=name,
                key=key,
                partitions=partitions,
                retention_hours=retention_hours,
                compacted=bool(compacted),
            )
            for name, key, partitions, retention_hours, compacted in rows
            if wanted is None or name in wanted
        }

    def create(self, topics: Iterable[Topic]) -> None:
        with self._lock, self._file.writing():
            for topic in topics:
                self._file.change(
                    "INSERT OR IGNORE INTO topics"
                    " (name, key, partitions, retention_hours, compacted) VALUES (?, ?, ?, ?, ?)",
                    *(topic.name, topic.key, topic.partitions),
                    *(topic.retention_hours, topic.compacted),
                )

    def configure(self, topic: Topic) -> None:
        self._update(
            "retention_hours = ?, compacted = ?", topic, topic.retention_hours, topic.compacted
        )

    def grow(self, topic: Topic) -> None:
        """Add partitions; a process takes them up when it opens the file anew."""
        self._update("partitions = max(partitions, ?)", topic, topic.partitions)

    def tidy(self) -> None:
        """Drop what is older than its topic's retention, or replaced in a compacted one.

        Unlike Kafka, keep longer what a group that reads the topic has not committed: a clock that
        runs ahead deletes nothing that anybody waits for.
        """
        for topic in self.existing().values():
            with self._lock:
                self._compact(topic) if topic.compacted else self._forget(topic)

    def _update(self, assignments: str, topic: Topic, *values: object) -> None:
        with self._lock:
            self._file.change(
                f"UPDATE topics SET {assignments} WHERE name = ?", *values, topic.name
            )

    def _forget(self, topic: Topic) -> None:
        self._file.change(
            "DELETE FROM messages WHERE topic = ? AND published_s < ? AND position < coalesce("
            " (SELECT min(next_offset) FROM commits AS c"
            "  WHERE c.topic = messages.topic AND c.partition = messages.partition),"
            " position + 1)",
            *(topic.name, self._clock.now() - topic.retention_hours * 3600),
        )

    def _compact(self, topic: Topic) -> None:
        self._file.change(
            "DELETE FROM messages WHERE topic = ? AND (partition, position) NOT IN"
            " (SELECT partition, max(position) FROM messages WHERE topic = ?"
            "  GROUP BY partition, key)",
            *(topic.name, topic.name),
        )
