"""Claim-check: a large value goes into the object store, and the message carries its name.

A claim is `claims/<day after which it may go>/<sha256>`: equal values of one day are stored once,
and what may be deleted is told by names alone. It outlives its message and the dead letter that the
message may become.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from libs.blobs.port import Blobs
from libs.bus.port import MAX_VALUE_BYTES, Message, Topic
from libs.clock import Clock
from libs.errors import Conflict, Corrupt, InvalidInput, NotFound

INLINE_BYTES = 256 * 1024
"""A larger value is claim-checked where the bus has an object store."""
_FOLDER = "claims/"
_NAME, _SHA256 = "claim-name", "claim-sha256"
_DAY_S = 86_400.0


class Checked(NamedTuple):
    """What a message carries on the bus itself."""

    value: bytes
    headers: Mapping[str, str]


def check_in(
    blobs: Blobs | None, topic: Topic, value: bytes, headers: Mapping[str, str], clock: Clock
) -> Checked:
    """Store a large value, and return what to publish in its place; a small one stays as it is.

    Raises:
        InvalidInput: too large for a broker and no object store, or large on a compacted topic.
    """
    if len(value) <= INLINE_BYTES or (blobs is None and len(value) <= MAX_VALUE_BYTES):
        return Checked(value, headers)
    if blobs is None or topic.compacted:
        # A compacted topic keeps its messages for ever, and no claim lives as long.
        limit = MAX_VALUE_BYTES if blobs is None else INLINE_BYTES
        raise InvalidInput(
            f"{topic.name}: expected at most {limit} bytes, got {len(value)}; "
            "put large payloads into the object store and send their name"
        )
    digest = hashlib.sha256(value).hexdigest()
    name = f"{_FOLDER}{_last_day(topic, clock)}/{digest}"
    with suppress(Conflict):  # the same value is there, or the reader will tell
        blobs.create(name, value)
    return Checked(b"", {**headers, _NAME: name, _SHA256: digest})


def redeem(blobs: Blobs | None, message: Message) -> Message:
    """Return the message with the value and the headers that were published.

    Raises:
        NotFound: the claim is gone, or this bus has no object store.
        Corrupt: the stored bytes are not those that were published.
    """
    name = message.headers.get(_NAME)
    if name is None:
        return message
    if blobs is None:
        raise NotFound(f"{message.topic}: expected an object store that holds {name}, got none")
    value = blobs.read(name).data
    expected, found = message.headers.get(_SHA256), hashlib.sha256(value).hexdigest()
    if found != expected:
        raise Corrupt(f"{message.topic}: expected {name} with sha256 {expected}, got {found}")
    headers = {key: text for key, text in message.headers.items() if key not in (_NAME, _SHA256)}
    return message._replace(value=value, headers=headers)


def expired(blobs: Blobs, clock: Clock) -> Iterator[str]:
    """Yield the names of claims that no message and no dead letter needs any more, oldest first."""
    today = _day(clock.now())
    for blob in blobs.list(_FOLDER):
        if blob.name.removeprefix(_FOLDER) >= today:
            return
        yield blob.name


def _last_day(topic: Topic, clock: Clock) -> str:
    """Return the day on which a claim made now is needed for the last time.

    The message may be buried at the end of its retention, and its letter replayed at the end of
    its own; two days more are for clocks that differ, and for what a broker drops late.
    """
    return _day(clock.now() + 2 * topic.retention_hours * 3600 + 2 * _DAY_S)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
