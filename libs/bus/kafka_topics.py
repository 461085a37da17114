"""Kafka's topics: which there are, and how a declared one is created and changed."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, errors
from kafka.admin import ConfigResource, ConfigResourceType

from libs.bus.kafka_errors import Servers
from libs.bus.port import Topic
from libs.errors import Unavailable

_MS_PER_HOUR = 3_600_000
_LONGEST_SEGMENT_HOURS = 24
"""A broker drops and compacts closed segments only, so none stays open longer than this."""


class KafkaTopics:
    """The topics of one namespace; safe for several threads."""

    def __init__(self, servers: Servers, *, prefix: str) -> None:
        self._servers = servers
        self._prefix = prefix
        self._lock = threading.Lock()
        self._client: KafkaAdminClient | None = None

    def full(self, name: str) -> str:
        """Return the name on the brokers."""
        return self._prefix + name

    def existing(self, names: Iterable[str] | None = None) -> Mapping[str, Topic]:
        """Return those of `names` that exist, as the brokers have them; default: all."""
        with self._asked_to("describe topics"):
            partitions = self._partitions(names)
            settings = self._settings(partitions)
        return {name: _topic(name, count, settings[name]) for name, count in partitions.items()}

    def create(self, topics: Iterable[Topic]) -> None:
        """Create topics, and return once their partitions can be written; one that is there stays.

        Raises:
            Unavailable: the brokers did not do so in time.
        """
        wanted = {
            self.full(topic.name): {"num_partitions": topic.partitions, "configs": configs(topic)}
            for topic in topics
        }
        with self._asked_to(f"create {', '.join(wanted)}"):
            answer = self._admin().create_topics(
                wanted, timeout_ms=self._servers.deadline_ms, raise_errors=False
            )
            _check(answer["topics"])
            self._admin().wait_for_topics(list(wanted), timeout_ms=self._servers.deadline_ms)

    def configure(self, topic: Topic) -> None:
        """Give a topic the declared retention and clean-up."""
        resource = ConfigResource(ConfigResourceType.TOPIC, self.full(topic.name), configs(topic))
        with self._asked_to(f"configure {topic.name}"):
            self._admin().alter_configs([resource])

    def grow(self, topic: Topic) -> None:
        """Add partitions up to the declared number; keys then fall into other partitions."""
        counts = {self.full(topic.name): topic.partitions}
        with self._asked_to(f"add partitions to {topic.name}"):
            self._admin().create_partitions(counts, timeout_ms=self._servers.deadline_ms)

    def delete(self, names: Iterable[str]) -> None:
        """Delete topics and every message in them."""
        with self._asked_to("delete topics"):
            self._admin().delete_topics(
                [self.full(name) for name in names], timeout_ms=self._servers.deadline_ms
            )

    def close(self) -> None:
        """Close the connection; idempotent."""
        with self._lock:
            self._disconnect()

    @contextmanager
    def _asked_to(self, act: str) -> Iterator[None]:
        """Let one thread ask; after a failure the next one connects anew, within the deadline."""
        if not self._lock.acquire(timeout=self._servers.deadline_s):
            raise Unavailable(f"{self._servers}: could not {act}: others ask, and get no answer")
        try:
            with self._servers.asked_to(act):
                yield
        except Unavailable:
            self._disconnect()
            raise
        finally:
            self._lock.release()

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _admin(self) -> KafkaAdminClient:
        if self._client is None:
            self._client = KafkaAdminClient(
                bootstrap_servers=list(self._servers.addresses),
                bootstrap_timeout_ms=self._servers.deadline_ms,
                # Two requests at the most before an answer is missed.
                request_timeout_ms=self._servers.deadline_ms // 2,
                reconnect_backoff_max_ms=1000,
            )
        return self._client

    def _partitions(self, names: Iterable[str] | None) -> dict[str, int]:
        asked = None if names is None else [self.full(name) for name in names]
        if asked == []:
            return {}
        return {
            topic["name"].removeprefix(self._prefix): len(topic["partitions"])
            for topic in self._admin().describe_topics(asked)
            if not topic["error_code"]
            and not topic["is_internal"]
            and topic["name"].startswith(self._prefix)
        }

    def _settings(self, names: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        resources = [ConfigResource(ConfigResourceType.TOPIC, self.full(name)) for name in names]
        if not resources:
            return {}
        found = self._admin().describe_configs(resources, config_filter="all")
        return {
            name.removeprefix(self._prefix): entries for name, entries in found["topic"].items()
        }


def _check(answers: Iterable[Mapping[str, Any]]) -> None:
    """Raise the first error, unless it says that somebody else created the topic just now."""
    for answer in answers:
        kind = errors.for_code(answer["error_code"])
        if kind not in (errors.NoError, errors.TopicAlreadyExistsError):
            raise kind(f"{answer['name']}: {answer['error_message']}")


def configs(topic: Topic) -> dict[str, str]:
    """Return a broker's configuration of a declared topic."""
    segment_hours = min(_LONGEST_SEGMENT_HOURS, topic.retention_hours)
    return {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(topic.retention_hours * _MS_PER_HOUR),
        "segment.ms": str(segment_hours * _MS_PER_HOUR),
        # The broker's clock, or a publisher whose clock runs ahead is refused.
        "message.timestamp.type": "LogAppendTime",
    }


def _topic(name: str, partitions: int, settings: Mapping[str, Any]) -> Topic:
    return Topic(
        name=name,
        key="",
        partitions=partitions,
        retention_hours=int(settings["retention.ms"]["value"]) // _MS_PER_HOUR,
        compacted="compact" in settings["cleanup.policy"]["value"],
    )
