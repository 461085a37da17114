"""Sends messages to Kafka, each written once and in order, and starts anew when that gets stuck.

After a broker hung, kafka-python 3.0's idempotent producer may never send again. So one that
failed to send in time is thrown away with all it held: everybody who waits on it is told.
"""

import threading
import time
from collections.abc import Sequence

import kafka
from kafka.errors import IllegalStateError, KafkaTimeoutError

from libs.bus.kafka_errors import Servers
from libs.errors import Unavailable


class Producer:
    """One producer at a time for all threads of the process; connected when first needed."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._lock = threading.Lock()
        self._kafka: kafka.KafkaProducer | None = None

    def send(
        self, topic: str, *, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> None:
        """Return once the message is on all replicas that are in sync.

        Raises:
            Unavailable: not within the deadline; it may still have been written.
            InvalidInput: the broker refuses it.
        """
        give_up = time.monotonic() + self._servers.deadline_s
        producer = self._connected(give_up)
        try:
            with self._servers.asked_to(f"publish to {topic}"):
                sent = producer.send(topic, key=key, value=value, headers=list(headers))
                sent.get(timeout=max(0.0, give_up - time.monotonic()))
        except Unavailable:
            self._discard(producer)
            raise
        except IllegalStateError as error:
            if self._kafka is producer:
                raise
            raise Unavailable(
                f"{self._servers}: could not publish to {topic}: another thread met silence first, "
                "and its producer was given up with all that it held"
            ) from error

    def close(self) -> None:
        """Send what is under way and disconnect; idempotent."""
        with self._lock:
            producer, self._kafka = self._kafka, None
        if producer is not None:
            _end(producer, self._servers.deadline_s)

    def _discard(self, producer: kafka.KafkaProducer) -> None:
        with self._lock:
            if self._kafka is not producer:
                return
            self._kafka = None
        _end(producer, 0.0)

    def _connected(self, give_up: float) -> kafka.KafkaProducer:
        if (ready := self._kafka) is not None:
            return ready
        if not self._lock.acquire(timeout=max(0.0, give_up - time.monotonic())):
            raise Unavailable(
                f"{self._servers}: not connected within {self._servers.deadline_s:g} s"
            )
        try:
            if self._kafka is None:
                with self._servers.asked_to("connect a producer"):
                    self._kafka = self._connect(give_up - time.monotonic())
            return self._kafka
        finally:
            self._lock.release()

    def _connect(self, timeout_s: float) -> kafka.KafkaProducer:
        deadline_ms = self._servers.deadline_ms
        return kafka.KafkaProducer(
            bootstrap_servers=list(self._servers.addresses),
            bootstrap_timeout_ms=max(1, int(timeout_s * 1000)),
            enable_idempotence=True,
            acks="all",
            allow_auto_create_topics=False,
            delivery_timeout_ms=deadline_ms,
            request_timeout_ms=deadline_ms // 2,
            max_block_ms=deadline_ms,
            metadata_max_age_ms=10_000,
            reconnect_backoff_max_ms=1000,
            metrics_enabled=False,
        )


def _end(producer: kafka.KafkaProducer, timeout_s: float) -> None:
    try:
        producer.close(timeout=timeout_s)
    except KafkaTimeoutError:
        # What could not be sent in time makes kafka-python leave its thread running: only a call
        # that is not public ends it, and fails what it held.
        producer._sender.force_close()
