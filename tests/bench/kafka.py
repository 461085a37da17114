"""The Kafka bus beside bare kafka-python: same broker, same durability, same topics.

Publishing waits for the acknowledgement of all replicas before it returns, on both sides, and the
producer is idempotent. Reading takes messages one by one, the peer through its own iterator, and
decodes keys and headers; it is measured without commits, and with a commit after every message.
What is read was sent by one bare producer, alike for both.
"""

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import kafka
from kafka import OffsetAndMetadata, TopicPartition

from libs.bus.kafka import KafkaBus
from libs.bus.port import Topic
from tests import stack
from tests.bench.measure import interleaved, rate
from tests.bench.table import Row

_TOPIC = Topic(name="bench.messages-sent.v1", key="a number", partitions=4)
_VALUE = bytes(range(200))
_HEADERS = {"ce_id": "0123456789abcdef", "ce_type": "athanor.bench.v1.Sent"}
_RAW_HEADERS = [(name, text.encode()) for name, text in _HEADERS.items()]
_THREADS = 16
_GOAL = 0.9


def run(quick: bool) -> list[Row]:
    count, repeats = (320, 2) if quick else (4000, 5)
    servers = stack.settings()["ATHANOR_KAFKA"]
    ours, peer = _Ours(servers), _Peer(servers)
    try:
        return [
            _row("publish, 1 thread", "publish", ours, peer, count // 4, repeats),
            _row(f"publish, {_THREADS} threads", "publish_by_threads", ours, peer, count, repeats),
            _row("consume", "read", ours, peer, 25 * count, repeats),
            _row("consume, each message committed", "settle", ours, peer, count // 4, repeats),
        ]
    finally:
        ours.close()
        peer.close()


def _row(what: str, act: str, ours: "_Ours", peer: "_Peer", count: int, repeats: int) -> Row:
    def side(of: "_Ours | _Peer") -> float:
        if act in ("read", "settle"):
            of.fill(count + 1)
            of.join(act)
        return rate(lambda: getattr(of, act)(count), count)()

    measured = interleaved(
        {"ours": lambda: side(ours), "peer": lambda: side(peer)}, repeats=repeats
    )
    row = Row(benchmark=f"kafka: {what}", unit="messages/s", peer_name="kafka-python", **measured)
    return replace(row, goal=f"at least {_GOAL:g} of it", met=row.ratio >= _GOAL)


class _Side:
    """Has a topic of its own, and a producer that fills it for readers."""

    def __init__(self, servers: str) -> None:
        self._bus = KafkaBus(servers, namespace=f"bench-{uuid.uuid4().hex[:8]}-")
        self._bus.declare([_TOPIC])  # the same settings of the topic
        self._topic = self._bus.topics.full(_TOPIC.name)
        self._producer = kafka.KafkaProducer(
            bootstrap_servers=servers, enable_idempotence=True, acks="all"
        )
        self._threads = ThreadPoolExecutor(_THREADS)

    def publish(self, count: int) -> None:
        raise NotImplementedError

    def publish_by_threads(self, count: int) -> None:
        list(self._threads.map(self.publish, [count // _THREADS] * _THREADS))

    def fill(self, count: int) -> None:
        """Let that many lie in the topic."""
        for number in range(count):
            self._producer.send(
                self._topic, key=str(number).encode(), value=_VALUE, headers=_RAW_HEADERS
            )
        self._producer.flush()

    def close(self) -> None:
        self._threads.shutdown()
        self._producer.close()
        self._bus.topics.delete(self._bus.topics.existing())
        self._bus.close()


class _Ours(_Side):
    def __init__(self, servers: str) -> None:
        super().__init__(servers)
        self._members = {
            act: self._bus.subscribe([_TOPIC.name], group=act) for act in ("read", "settle")
        }

    def publish(self, count: int) -> None:
        for number in range(count):
            self._bus.publish(_TOPIC.name, key=str(number), value=_VALUE, headers=_HEADERS)

    def join(self, act: str) -> None:
        """Be back in the group, which other turns outlast."""
        while not self._members[act].poll(1.0):
            pass

    def read(self, count: int) -> None:
        while count:
            count -= self._members["read"].poll(1.0) is not None

    def settle(self, count: int) -> None:
        while count:
            if message := self._members["settle"].poll(1.0):
                self._members["settle"].commit(message)
                count -= 1


class _Peer(_Side):
    def __init__(self, servers: str) -> None:
        super().__init__(servers)
        self._members = {
            act: kafka.KafkaConsumer(
                self._topic,
                bootstrap_servers=servers,
                group_id=self._bus.topics.full(act),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
            )
            for act in ("read", "settle")
        }

    def publish(self, count: int) -> None:
        for number in range(count):
            self._producer.send(
                self._topic, key=str(number).encode(), value=_VALUE, headers=_RAW_HEADERS
            ).get()

    def join(self, act: str) -> None:
        """Be in the group."""
        self._next(act)

    def read(self, count: int) -> None:
        for _ in range(count):
            self._next("read")

    def settle(self, count: int) -> None:
        for _ in range(count):
            place, offset = self._next("settle")
            self._members["settle"].commit({place: OffsetAndMetadata(offset + 1, "", -1)})

    def _next(self, act: str) -> tuple[TopicPartition, int]:
        record = next(self._members[act])
        assert record.key.decode() and len(record.value) == len(_VALUE)
        assert {name: text.decode() for name, text in record.headers} == _HEADERS
        return TopicPartition(record.topic, record.partition), record.offset

    def close(self) -> None:
        for member in self._members.values():
            member.close()
        super().close()
