"""Kafka's failures as errors of ours, each naming the servers, the call and the time given."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kafka import errors as kafka

from libs.errors import Forbidden, InvalidInput, NotFound, ServiceError, Unavailable

_REFUSED = (
    kafka.InvalidTopicError,
    kafka.InvalidConfigurationError,
    kafka.InvalidPartitionsError,
    kafka.InvalidReplicationFactorError,
    kafka.MessageSizeTooLargeError,
    kafka.PolicyViolationError,
    kafka.RecordListTooLargeError,
)
_MISUSED = (kafka.IllegalStateError, kafka.IllegalArgumentError, kafka.KafkaConfigurationError)


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Which brokers are spoken to, and how long each call may take."""

    addresses: tuple[str, ...]
    """`host:port` of brokers to begin with."""
    deadline_s: float

    @property
    def deadline_ms(self) -> int:
        """The same in Kafka's unit."""
        return int(self.deadline_s * 1000)

    def __str__(self) -> str:
        return f"kafka {','.join(self.addresses)}"

    @contextmanager
    def asked_to(self, act: str) -> Iterator[None]:
        """Raise Kafka's failures inside the block as errors of ours; bugs stay as they are."""
        try:
            yield
        except _MISUSED:
            raise
        except kafka.KafkaError as error:
            raise self._error_of(error, act) from error

    def _error_of(self, error: kafka.KafkaError, act: str) -> ServiceError:
        if isinstance(error, kafka.AuthorizationError):
            return Forbidden(f"{self}: may not {act}: {_told(error)}")
        if isinstance(error, _REFUSED):
            return InvalidInput(f"{self}: refused to {act}: {_told(error)}")
        if isinstance(error, kafka.UnknownTopicOrPartitionError):
            return NotFound(f"{self}: could not {act}: no such topic or partition")
        return Unavailable(f"{self}: could not {act} within {self.deadline_s:g} s: {_told(error)}")


def _told(error: kafka.KafkaError) -> str:
    return f"{type(error).__name__} {error}".strip()
