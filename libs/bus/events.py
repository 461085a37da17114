"""Events on the bus: CloudEvents 1.0 in binary mode, a protobuf message and `ce_*` headers.

Any CloudEvents reader can take them from Kafka, and a trace goes on through them.
Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Payload

from libs import telemetry
from libs.bus.port import Bus, Message
from libs.clock import Clock
from libs.errors import InvalidInput
from libs.schema import Schema, unchanged

SCHEMA = Schema(name="an event", version=1, migrations={0: unchanged})
"""Of the headers, and how the payload is held; what it may hold is its type's, versioned by
package."""
_VERSION = "ce_schemaversion"
_CONTENT_TYPE = "application/protobuf"
P = TypeVar("P", bound=Payload)


@dataclass(frozen=True, kw_only=True)
class Event(Generic[P]):
    """One event, read."""

    id: str
    source: str
    time: str
    """When it was published, RFC 3339, by the publisher's wall clock; for people only."""
    payload: P


def publish(
    bus: Bus,
    topic: str,
    key: str,
    payload: Payload,
    *,
    source: str,
    event_id: str = "",
    clock: Clock | None = None,
) -> None:
    """Publish `payload` as an event of the service `source`.

    Without `event_id` the id follows from source, topic, key and payload: publishing again after
    a crash is the same event, and readers that know its id drop it. Give one for events that may
    truly happen twice with equal content.

    Raises:
        NotFound: the topic was never declared.
    """
    value = payload.SerializeToString(deterministic=True)
    named = "\0".join((source, topic, key)).encode() + b"\0" + value
    headers = {
        "ce_specversion": "1.0",
        "ce_id": event_id or hashlib.sha256(named).hexdigest()[:32],
        "ce_type": payload.DESCRIPTOR.full_name,
        "ce_source": source,
        _VERSION: str(SCHEMA.version),
        "ce_time": datetime.fromtimestamp((clock or Clock()).now(), UTC).isoformat(),
        "content-type": _CONTENT_TYPE,
    }
    telemetry.inject(headers)
    bus.publish(topic, key=key, value=value, headers=headers)


def parse(message: Message, payload: type[P]) -> Event[P]:
    """Read an event that carries a `payload`.

    Raises:
        InvalidInput: another type of event, or bytes that are none, or from a newer Athanor.
    """
    _check_version(message)
    expected = payload.DESCRIPTOR.full_name
    found = message.headers.get("ce_type", "no ce_type")
    if found != expected:
        raise InvalidInput(f"{message.topic}: expected an event {expected}, got {found}")
    try:
        read = payload.FromString(message.value)
    except DecodeError as error:
        raise InvalidInput(f"{message.topic}: expected a {expected}, got {error}") from error
    return Event(
        id=message.headers.get("ce_id", ""),
        source=message.headers.get("ce_source", ""),
        time=message.headers.get("ce_time", ""),
        payload=read,
    )


def _check_version(message: Message) -> None:
    found = message.headers.get(_VERSION, "0")
    if not found.isdecimal():
        raise InvalidInput(f"{message.topic}: expected a number in {_VERSION}, got {found!r}")
    SCHEMA.check(int(found))
