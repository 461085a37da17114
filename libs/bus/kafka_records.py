"""Kafka's records as messages of ours, and a look through all that a topic holds."""

import time
from collections.abc import Iterator

import kafka
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from libs.bus.kafka_errors import Servers
from libs.bus.port import Message
from libs.clock import Clock
from libs.errors import Unavailable

_POLL_MS = 200


def message_of(record: ConsumerRecord, topic: str, clock: Clock) -> Message:
    """Return a record as a message of the declared `topic`."""
    return Message(
        topic=topic,
        key=record.key.decode(),
        value=record.value,
        headers={name: text.decode() for name, text in record.headers},
        partition=record.partition,
        offset=record.offset,
        age_s=age_s(record, clock),
    )


def age_s(record: ConsumerRecord, clock: Clock) -> float:
    """Return the seconds since the broker took the record."""
    published_s: float = record.timestamp / 1000
    return max(0.0, clock.now() - published_s)


def place_of(record: ConsumerRecord) -> TopicPartition:
    """Return the partition that a record lies in."""
    return TopicPartition(record.topic, record.partition)


def scan(
    servers: Servers, *, full: str, topic: str, partitions: int, clock: Clock
) -> Iterator[Message]:
    """Yield what the topic holds now, outside of any group.

    Args:
        servers: the brokers.
        full: the topic's name there.
        topic: its declared name.
        partitions: how many it has.
        clock: tells how old each message is.
    """
    places = [TopicPartition(full, number) for number in range(partitions)]
    with servers.asked_to(f"look through {topic}"):
        reader = kafka.KafkaConsumer(
            bootstrap_servers=list(servers.addresses),
            bootstrap_timeout_ms=servers.deadline_ms,
            request_timeout_ms=servers.deadline_ms,
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        try:
            reader.assign(places)
            for record in _records(reader, places, servers):
                yield message_of(record, topic, clock)
        finally:
            reader.close(timeout_ms=servers.deadline_ms)


def _records(
    reader: kafka.KafkaConsumer, places: list[TopicPartition], servers: Servers
) -> Iterator[ConsumerRecord]:
    starts = reader.beginning_offsets(places, timeout_ms=servers.deadline_ms)
    ends = reader.end_offsets(places, timeout_ms=servers.deadline_ms)
    for place in places:
        reader.seek(place, starts[place])
    left = {place for place in places if starts[place] < ends[place]}
    heard = time.monotonic()
    while left:
        for place, records in reader.poll(timeout_ms=_POLL_MS).items():
            heard = time.monotonic()
            yield from (record for record in records if record.offset < ends[place])
            if records[-1].offset + 1 >= ends[place]:
                left.discard(place)
        if time.monotonic() - heard > servers.deadline_s:
            raise Unavailable(f"{servers}: nothing came for {servers.deadline_s:g} s")
