"""One member of a consumer group on Kafka: polls ahead, hands out one by one, commits by hand.

kafka-python's own thread sends the heartbeats, but only `poll` keeps the member alive: when it
stays away for the session time, that thread leaves the group. Assignment is cooperative, so a
member that comes or goes interrupts only the partitions that move.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, wait
from types import TracebackType
from typing import Self

import kafka
from kafka import ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import CommitFailedError, RebalanceInProgressError
from kafka.structs import MemberState

from libs.bus.kafka_errors import Servers
from libs.bus.kafka_records import age_s, message_of, place_of
from libs.bus.port import Message
from libs.clock import Clock
from libs.errors import Conflict, Unavailable

_BATCH = 500
"""Messages that are handed over by kafka-python at once."""
_LEAST_SESSION_S = 6.0
"""What brokers allow for a member that is silent because its process died."""
_JOIN_S = 1.0
"""How long a question about the member's partitions waits for it to have any."""
_JOIN_POLL_S = 0.05


class KafkaMember(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """The `Consumer` of the port; see there."""

    def __init__(
        self,
        servers: Servers,
        *,
        topics: Mapping[str, str],
        group: str,
        session_s: float,
        clock: Clock,
    ) -> None:
        """Join `group`; `topics` maps names on the brokers to declared ones."""
        self._servers = servers
        self._topics = topics
        self._group = group
        self._session_s = session_s
        self._clock = clock
        self._paused = self._beating = self._closed = False
        self._joining: Future[None] | None = None
        self._ready: deque[ConsumerRecord] = deque()
        self._committed: dict[TopicPartition, int] = {}
        self._taken: dict[TopicPartition, deque[ConsumerRecord]] = {}
        """Handed out and not committed, oldest first."""
        self._next_beat = self._heard = time.monotonic()
        with servers.asked_to(f"join {group}"):
            self._kafka = self._connect()
            self._subscribe()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the group; idempotent."""
        self._closed = True
        if self._joining is not None:
            wait([self._joining], self._servers.deadline_s)
        self._kafka.close(autocommit=False, timeout_ms=self._servers.deadline_ms)

    def poll(self, timeout_s: float) -> Message | None:
        now = time.monotonic()
        if now >= self._next_beat:
            self._beat(0.0)
        give_up = now + timeout_s
        while not self._ready or self._paused or self._joining is not None:
            left_s = give_up - time.monotonic()
            self._fetch(max(0.0, left_s))
            if left_s <= 0 and (not self._ready or self._paused or self._joining is not None):
                self._ask_if_silent()
                return None
        return self._hand_out(self._ready.popleft())

    def commit(self, message: Message) -> None:
        partition = TopicPartition(self._full(message.topic), message.partition)
        give_up = time.monotonic() + self._servers.deadline_s
        with self._servers.asked_to(f"commit for {self._group}"):
            while not self._commit(partition, message):
                if time.monotonic() > give_up:
                    raise self._moved(message)
                # The group is being shared out: take part, and see whether this one stays.
                self._beat(0.02)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    @property
    def depth(self) -> int:
        with self._servers.asked_to(f"tell the depth of {self._group}"):
            partitions = self._partitions()
            ends = self._kafka.end_offsets(partitions, timeout_ms=self._servers.deadline_ms)
            return sum(
                max(0, ends[partition] - self._committed_of(partition)) for partition in partitions
            )

    @property
    def oldest_age_s(self) -> float:
        """Of those that have come here; what still lies on the brokers is younger."""
        waiting = [*(taken[0] for taken in self._taken.values() if taken), *self._ready]
        return max((age_s(record, self._clock) for record in waiting), default=0.0)

    # Called by kafka-python, always while this member polls.

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Know nothing of them: every position is the committed one."""

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Forget what was read of them; whoever owns them next reads it again."""
        self._ready = deque(record for record in self._ready if place_of(record) not in revoked)
        for partition in revoked:
            self._committed.pop(partition, None)
            self._taken.pop(partition, None)

    def _connect(self) -> kafka.KafkaConsumer:
        session_ms = int(self._session_s * 1000)
        return kafka.KafkaConsumer(
            bootstrap_servers=list(self._servers.addresses),
            bootstrap_timeout_ms=self._servers.deadline_ms,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            partition_assignment_strategy=(CooperativeStickyAssignor,),
            session_timeout_ms=int(max(self._session_s, _LEAST_SESSION_S) * 1000),
            max_poll_interval_ms=session_ms,
            heartbeat_interval_ms=min(3000, session_ms // 4),
            request_timeout_ms=self._servers.deadline_ms,
            metadata_max_age_ms=10_000,
            reconnect_backoff_max_ms=1000,
            retry_backoff_ms=50,
            metrics_enabled=False,
        )

    def _subscribe(self) -> None:
        self._kafka.subscribe(list(self._topics), listener=self)
        # A member that leads the group before it knows the topics' partitions deals out none.
        self._kafka.beginning_offsets(
            [TopicPartition(topic, 0) for topic in self._topics],
            timeout_ms=self._servers.deadline_ms,
        )

    def _fetch(self, timeout_s: float) -> None:
        """Take up what came, and what changed in the group; return within about `timeout_s`.

        kafka-python 3.0 forgets a join that ends between two polls and joins again, which shares
        out the group again. So a join is seen through by a thread of its own, and nothing else
        asks Kafka meanwhile.
        """
        if self._joining is None:
            self._poll_kafka(timeout_s)
            if self._joined():
                return
            self._joining = _apart(self._see_join_through)
            timeout_s = 0.0
        if wait([self._joining], timeout_s).done:
            joined, self._joining = self._joining, None
            joined.result()

    def _see_join_through(self) -> None:
        give_up = time.monotonic() + self._session_s
        while not self._joined() and not self._closed and time.monotonic() < give_up:
            self._poll_kafka(_JOIN_POLL_S)

    def _poll_kafka(self, timeout_s: float) -> None:
        if self._state() is MemberState.REBALANCING:
            # It also forgets, for good, a join that new partitions caused and that one poll did
            # not see through. Only a call that is not public reminds it.
            self._kafka._coordinator.request_rejoin()
        self._next_beat = time.monotonic() + self._session_s / 4
        change = self._kafka.pause if self._paused or self._beating else self._kafka.resume
        change(*self._kafka.assignment())
        with self._servers.asked_to(f"poll for {self._group}"):
            batches = self._kafka.poll(timeout_ms=int(timeout_s * 1000), max_records=_BATCH)
        for partition, records in batches.items():
            self._heard = time.monotonic()
            # A partition that went and came back may have been committed further meanwhile.
            start = self._committed.get(partition, 0)
            self._ready.extend(record for record in records if record.offset >= start)

    def _beat(self, timeout_s: float) -> None:
        """Poll for the sake of membership alone."""
        self._beating = True
        try:
            self._fetch(timeout_s)
        finally:
            self._beating = False

    def _hand_out(self, record: ConsumerRecord) -> Message:
        self._taken.setdefault(place_of(record), deque()).append(record)
        return message_of(record, self._topics[record.topic], self._clock)

    def _commit(self, partition: TopicPartition, message: Message) -> bool:
        """Commit and return True; False while the group is being shared out."""
        if self._joining is not None:
            return False
        if partition not in self._kafka.assignment():
            raise self._moved(message)
        after = message.offset + 1
        try:
            if after > self._committed_of(partition):
                self._kafka.commit(
                    {partition: OffsetAndMetadata(after, "", -1)},
                    timeout_ms=self._servers.deadline_ms,
                )
        except (RebalanceInProgressError, CommitFailedError):
            if self._state() is MemberState.UNJOINED:
                raise self._moved(message) from None
            return False
        self._settle(partition, after)
        return True

    def _settle(self, partition: TopicPartition, after: int) -> None:
        self._heard = time.monotonic()
        self._committed[partition] = max(after, self._committed[partition])
        taken = self._taken.get(partition, deque())
        while taken and taken[0].offset < after:
            taken.popleft()

    def _moved(self, message: Message) -> Conflict:
        return Conflict(
            f"{message.topic}/{message.partition}: expected it to belong to this member of "
            f"{self._group}, but it has moved"
        )

    def _committed_of(self, partition: TopicPartition) -> int:
        """Return the offset after the last committed message of one of this member's partitions."""
        if partition not in self._committed:
            deadline_ms = self._servers.deadline_ms
            offset = self._kafka.committed(partition, timeout_ms=deadline_ms)
            if offset is None:
                offset = self._kafka.beginning_offsets([partition], timeout_ms=deadline_ms)[
                    partition
                ]
            self._committed[partition] = offset
        return self._committed[partition]

    def _partitions(self) -> list[TopicPartition]:
        """Return what this member owns: nothing while it is joining, after a moment's wait."""
        if not self._joined():
            self._beat(0.0)
        if self._joining is not None:
            self._beat(_JOIN_S)
        return [] if self._joining is not None else list(self._kafka.assignment())

    def _joined(self) -> bool:
        return self._state() is MemberState.STABLE

    def _state(self) -> MemberState:
        return self._kafka.group_metadata().state

    def _ask_if_silent(self) -> None:
        """Tell a bus without messages from one that is down: kafka-python waits on both.

        Raises:
            Unavailable: the group could not be joined, or the brokers do not answer.
        """
        silent_s = time.monotonic() - self._heard
        if self._joining is not None:
            if silent_s > self._servers.deadline_s + self._session_s:
                raise Unavailable(f"{self._servers}: {self._group} not joined for {silent_s:.0f} s")
            return
        if silent_s < self._servers.deadline_s:
            return
        with self._servers.asked_to(f"answer {self._group}"):
            if partitions := list(self._kafka.assignment()):
                self._kafka.end_offsets(partitions[:1], timeout_ms=self._servers.deadline_ms)
        self._heard = time.monotonic()

    def _full(self, topic: str) -> str:
        return next(full for full, name in self._topics.items() if name == topic)


def _apart(act: Callable[[], None]) -> "Future[None]":
    """Do something in a thread that dies with the process."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            act()
            done.set_result(None)
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, name="joining", daemon=True).start()
    return done
