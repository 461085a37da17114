"""The bus as Athanor sees it: a partitioned log with consumer groups, delivered at least once.

Topics are declared, never created by a typo. Messages with one key stay in order. What a group
has committed it does not see again; what it has not, it sees after a restart or a rebalance.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple, Protocol

from libs.errors import Conflict

MAX_VALUE_BYTES = 1_000_000
"""What one message may carry: the default of Kafka's brokers, so that both adapters agree."""
DEAD = ".dead"
"""What the name of a topic's dead letters ends in."""


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
        for each in (topic, replace(topic, name=topic.name + DEAD, compacted=False))
        if each is topic or not topic.name.endswith(DEAD)
    ]


def check_partitions(declared: Sequence[Topic], existing: Mapping[str, Topic], *, bus: str) -> None:
    """Raise `Conflict` if a declared topic exists with another number of partitions."""
    for topic in declared:
        partitions = existing.get(topic.name, topic).partitions
        if partitions != topic.partitions:
            raise Conflict(
                f"{bus}: topic {topic.name}: expected {topic.partitions} partitions, it has "
                f"{partitions}: ./athanor topics plan"
            )


class Message(NamedTuple):
    """One record of the log.

    No dataclass: a frozen one takes 3.4 microseconds to make, a third of what kafka-python takes to
    read a record.
    """

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str] = MappingProxyType({})
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


class Topics(Protocol):
    """The topics that the bus has, for whoever provides it: `./athanor topics plan|apply`."""

    def existing(self, names: Iterable[str] | None = None) -> Mapping[str, Topic]:
        """Return those of `names` that exist, as the bus has them; default: all."""
        ...

    def create(self, topics: Iterable[Topic]) -> None:
        """Create topics as declared; one that is there stays as it is."""
        ...

    def configure(self, topic: Topic) -> None:
        """Give an existing topic the declared retention and compaction."""
        ...

    def grow(self, topic: Topic) -> None:
        """Add partitions up to the declared number; most keys then fall into another one."""
        ...


class Bus(Protocol):
    """Every call may raise `Unavailable` (bus down) or `Busy` (disk full)."""

    @property
    def topics(self) -> Topics:
        """What there is, beside what is declared."""
        ...

    def declare(self, topics: Sequence[Topic]) -> None:
        """Create the topics and their dead-letter topics where missing; safe to repeat.

        One that exists keeps its retention and compaction, until `topics` changes them.

        Raises:
            Conflict: a topic exists with another number of partitions.
        """
        ...

    def publish(
        self, topic: str, *, key: str, value: bytes, headers: Mapping[str, str] = {}
    ) -> None:
        """Append one message; it is durable when this returns.

        A large value goes into the object store, where the bus has one: see `libs.bus.claims`.

        Raises:
            NotFound: the topic was never declared.
            InvalidInput: `value` is larger than `MAX_VALUE_BYTES` and cannot go there.
        """
        ...

    def subscribe(self, topics: Sequence[str], *, group: str) -> Consumer:
        """Join `group` and read its share of `topics`, from the oldest uncommitted message on.

        Raises:
            NotFound: a topic was never declared.
        """
        ...

    def scan(self, topic: str) -> Iterator[Message]:
        """Yield what a topic holds now, outside of any group; in order within a partition.

        Raises:
            NotFound: the topic was never declared.
        """
        ...

    def redeem(self, message: Message) -> Message:
        """Return a polled message with its value, wherever that is; `consume` does it.

        Raises:
            NotFound: its value is no longer in the object store.
            Corrupt: what is there is not what was published.
        """
        ...

    def close(self) -> None:
        """Release what the bus holds; idempotent."""
        ...
