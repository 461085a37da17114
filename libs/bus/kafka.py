"""The bus of the cluster profile: Kafka, through kafka-python.

Both adapters pass `tests/contract/test_bus.py`. A topic's or a group's name on the brokers is the
declared one behind the namespace, a bare prefix, so that several installations share brokers. This
module does not encrypt or authenticate: the brokers are reached on a trusted network.
"""

from collections.abc import Iterator, Mapping, Sequence

from libs.blobs.port import Blobs
from libs.bus.claims import check_in, redeem
from libs.bus.kafka_consumer import KafkaMember
from libs.bus.kafka_errors import Servers
from libs.bus.kafka_producer import Producer
from libs.bus.kafka_records import scan
from libs.bus.kafka_topics import KafkaTopics
from libs.bus.port import Consumer, Message, Topic, and_dead_letters, check_partitions
from libs.clock import Clock
from libs.errors import NotFound


class KafkaBus:
    """The `Bus` of the port; nothing is connected before the first call that needs it."""

    def __init__(
        self,
        servers: str,
        *,
        namespace: str = "",
        session_s: float = 10.0,
        deadline_s: float = 10.0,
        blobs: Blobs | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Speak to `servers`, `host:port` split at commas.

        A member that has not polled for `session_s` loses its partitions. A call that the
        brokers do not answer within `deadline_s` is `Unavailable`. Large values go into `blobs`;
        without, those are refused that the brokers would refuse.
        """
        self._servers = Servers(addresses=tuple(servers.split(",")), deadline_s=deadline_s)
        self._prefix = namespace
        self._blobs = blobs
        self._session_s = session_s
        self._clock = clock or Clock()
        self._producer = Producer(self._servers)
        self._known: Mapping[str, Topic] = {}
        self._members: list[KafkaMember] = []
        self.topics = KafkaTopics(self._servers, prefix=self._prefix)

    def declare(self, topics: Sequence[Topic]) -> None:
        wanted = and_dead_letters(topics)
        existing = self.topics.existing(topic.name for topic in wanted)
        check_partitions(wanted, existing, bus=str(self._servers))
        if missing := [topic for topic in wanted if topic.name not in existing]:
            self.topics.create(missing)

    def publish(
        self, topic: str, *, key: str, value: bytes, headers: Mapping[str, str] = {}
    ) -> None:
        declared = self._known.get(topic) or self._declared([topic])[topic]
        value, headers = check_in(self._blobs, declared, value, headers, self._clock)
        self._producer.send(
            self._prefix + topic,
            key=key.encode(),
            value=value,
            headers=[(name, text.encode()) for name, text in headers.items()],
        )

    def subscribe(self, topics: Sequence[str], *, group: str) -> Consumer:
        self._declared(topics)
        member = KafkaMember(
            self._servers,
            topics={self._prefix + topic: topic for topic in topics},
            group=self._prefix + group,
            session_s=self._session_s,
            clock=self._clock,
        )
        self._members.append(member)
        return member

    def scan(self, topic: str) -> Iterator[Message]:
        return scan(
            self._servers,
            full=self._prefix + topic,
            topic=topic,
            partitions=self._declared([topic])[topic].partitions,
            clock=self._clock,
        )

    def redeem(self, message: Message) -> Message:
        return redeem(self._blobs, message)

    def close(self) -> None:
        for member in self._members:
            member.close()
        self._producer.close()
        self.topics.close()

    def _declared(self, topics: Sequence[str]) -> Mapping[str, Topic]:
        if unknown := set(topics) - self._known.keys():
            self._known = {**self._known, **self.topics.existing(unknown)}
        for topic in topics:
            if topic not in self._known:
                raise NotFound(f"topic {topic}: expected one that a service declared")
        return self._known
