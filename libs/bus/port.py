"""The bus as Athanor sees it: a partitioned log with consumer groups, delivered at least once.

Topics are declared, never created by a typo. Messages with one key stay in order. What a group
has committed it does not see again; what it has not, it sees after a restart or a rebalance.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

MAX_VALUE_BYTES = 1_000_000
"""What one message may carry: the default of Kafka's brokers, so that both adapters agree."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic, declared in its owner's `topics.py`."""

    name: str
    """`<service>.<plural-noun>-<past-verb>.v1` for events, `<service>.commands.v1`, or `.dead`."""
    key: str
    """What the key is, in words."""
    partitions: int = 4
    retention_hours: int = 168
    """A younger message is kept; an older one may be dropped, whether or not it was read."""
    compacted: bool = False
    """Keep the newest message of each key for ever, instead of every message for a time; readers
    may still see older ones."""


def and_dead_letters(topics: Sequence[Topic]) -> list[Topic]:
    """Return the topics and, for each that is none itself, its dead-letter topic."""
    return [
        each
        for topic in topics
        for each in (topic, replace(topic, name=f"{topic.name}.dead", compacted=False))
        if each is topic or not topic.name.endswith(".dead")
    ]


@dataclass(frozen=True, kw_only=True)
class Message:
    """One record of the log."""

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    partition: int = -1
    """Set by the bus when the message is read."""
    offset: int = -1
    """Position in the partition, from 0; set by the bus when the message is read."""
    age_s: float = 0.0
    """Seconds between publishing and reading."""


class Consumer(AbstractContextManager["Consumer"], Protocol):
    """One member of a group, for one thread at a time; leaving the block leaves the group."""

    def poll(self, timeout_s: float) -> Message | None:
        """Return the next message of the member's partitions, or None after `timeout_s`.

        Polling is what keeps the member alive; one that stays away longer than the group's
        session time loses its partitions to the others.
        """
        ...

    def commit(self, message: Message) -> None:
        """Mark everything up to `message` in its partition as done for the group.

        Raises:
            Conflict: the partition has moved to another member; the message will be seen there.
        """
        ...

    def pause(self) -> None:
        """Keep membership but hand out nothing until `resume`; `poll` then only heartbeats."""
        ...

    def resume(self) -> None:
        """Hand out messages again."""
        ...

    @property
    def depth(self) -> int:
        """Messages published and not yet committed in this member's partitions."""
        ...

    @property
    def oldest_age_s(self) -> float:
        """Age of the oldest of them in seconds; 0 when there are none."""
        ...


class Bus(Protocol):
    """Every call may raise `Unavailable` (bus down) or `Busy` (disk full)."""

    def declare(self, topics: Sequence[Topic]) -> None:
        """Create the topics and their dead-letter topics where missing; safe to repeat.

        Raises:
            Conflict: a topic exists with another number of partitions.
        """
        ...

    def publish(
        self, topic: str, *, key: str, value: bytes, headers: Mapping[str, str] = {}
    ) -> None:
        """Append one message; it is durable when this returns.

        Raises:
            NotFound: the topic was never declared.
            InvalidInput: `value` is larger than `MAX_VALUE_BYTES`.
        """
        ...

    def subscribe(self, topics: Sequence[str], *, group: str) -> Consumer:
        """Join `group` and read its share of `topics`, from the oldest uncommitted message on.

        Raises:
            NotFound: a topic was never declared.
        """
        ...

    def close(self) -> None:
        """Release what the bus holds; idempotent."""
        ...
