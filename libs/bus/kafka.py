"""The bus of the cluster profile: Kafka, through kafka-python.

Both adapters pass `tests/contract/test_bus.py`. A topic's or a group's name on the brokers is the
declared one behind the namespace, so that several installations share brokers. This module does
not encrypt or authenticate: the brokers are reached on a trusted network.
"""

import threading
from collections.abc import Mapping, Sequence

import kafka

from libs.bus.kafka_consumer import KafkaMember
from libs.bus.kafka_errors import Servers
from libs.bus.kafka_topics import KafkaTopics
from libs.bus.port import MAX_VALUE_BYTES, Consumer, Topic, and_dead_letters
from libs.clock import Clock
from libs.errors import Conflict, InvalidInput, NotFound


class KafkaBus:
    """The `Bus` of the port; nothing is connected before the first call that needs it."""

    def __init__(
        self,
        servers: str,
        *,
        namespace: str = "",
        session_s: float = 10.0,
        deadline_s: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        """Speak to `servers`, `host:port` split at commas.

        A member that has not polled for `session_s` loses its partitions. A call that the
        brokers do not answer within `deadline_s` is `Unavailable`.
        """
        self._servers = Servers(addresses=tuple(servers.split(",")), deadline_s=deadline_s)
        self._prefix = f"{namespace}." if namespace else ""
        self._session_s = session_s
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._producer: kafka.KafkaProducer | None = None
        self._known: set[str] = set()
        self._members: list[KafkaMember] = []
        self.topics = KafkaTopics(self._servers, prefix=self._prefix)

    def declare(self, topics: Sequence[Topic]) -> None:
        wanted = and_dead_letters(topics)
        existing = self.topics.existing(topic.name for topic in wanted)
        for topic in wanted:
            partitions = existing.get(topic.name, topic).partitions
            if partitions != topic.partitions:
                raise Conflict(
                    f"{self._servers}: topic {topic.name}: expected {topic.partitions} partitions, "
                    f"it has {partitions}: ./athanor topics plan"
                )
        if missing := [topic for topic in wanted if topic.name not in existing]:
            self.topics.create(missing)

    def publish(
        self, topic: str, *, key: str, value: bytes, headers: Mapping[str, str] = {}
    ) -> None:
        if len(value) > MAX_VALUE_BYTES:
            raise InvalidInput(
                f"{topic}: expected at most {MAX_VALUE_BYTES} bytes, got {len(value)}; "
                "put large payloads into the object store and send their name"
            )
        self._check_declared([topic])
        with self._servers.asked_to(f"publish to {topic}"):
            sent = self._connected().send(
                self._prefix + topic,
                key=key.encode(),
                value=value,
                headers=[(name, text.encode()) for name, text in headers.items()],
            )
            # The producer gives up by itself, a little before.
            sent.get(timeout=self._servers.deadline_s + 1)

    def subscribe(self, topics: Sequence[str], *, group: str) -> Consumer:
        self._check_declared(topics)
        member = KafkaMember(
            self._servers,
            topics={self._prefix + topic: topic for topic in topics},
            group=self._prefix + group,
            session_s=self._session_s,
            clock=self._clock,
        )
        self._members.append(member)
        return member

    def close(self) -> None:
        for member in self._members:
            member.close()
        with self._lock:
            if self._producer is not None:
                self._producer.close(timeout=self._servers.deadline_s)
                self._producer = None
        self.topics.close()

    def _check_declared(self, topics: Sequence[str]) -> None:
        unknown = set(topics) - self._known
        if not unknown:
            return
        self._known |= self.topics.existing(unknown).keys()
        for topic in sorted(unknown - self._known):
            raise NotFound(f"topic {topic}: expected one that a service declared")

    def _connected(self) -> kafka.KafkaProducer:
        if self._producer is None:
            with self._lock:
                if self._producer is None:
                    self._producer = self._connect()
        return self._producer

    def _connect(self) -> kafka.KafkaProducer:
        """Connect a producer that writes each message once and in order, whatever it retries."""
        return kafka.KafkaProducer(
            bootstrap_servers=list(self._servers.addresses),
            bootstrap_timeout_ms=self._servers.deadline_ms,
            enable_idempotence=True,
            acks="all",
            allow_auto_create_topics=False,
            delivery_timeout_ms=self._servers.deadline_ms,
            request_timeout_ms=self._servers.deadline_ms // 2,
            max_block_ms=self._servers.deadline_ms,
            metadata_max_age_ms=30_000,
            reconnect_backoff_max_ms=1000,
            metrics_enabled=False,
        )
