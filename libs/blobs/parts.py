"""Content cut into parts: how a blob is sent, resumed, fetched and digested.

Where the cuts lie follows from the size alone, so equal content has equal parts, and with them an
equal etag and an equal checksum, whoever sent it and however often it was interrupted.
"""

import hashlib
import os
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from libs.digests import remembered_sha256
from libs.errors import Corrupt

PART_BYTES = 16 << 20
"""Large enough that a request's fixed cost does not show, small enough to be sent again."""
_MAX_PARTS = 10_000  # S3's limit for one object
_READ_BYTES = 128 << 10
"""Fits a cache of the processor: a piece of 1 MiB costs half as much again in processor time."""
_SEND_BYTES = 1 << 20


class Span(NamedTuple):
    """Bytes [start, start + size_bytes) of a blob."""

    start: int
    size_bytes: int


def spans(size_bytes: int) -> list[Span]:
    """Cut `size_bytes` into equal parts and a rest; at least one, which may be empty."""
    part = PART_BYTES
    while part * _MAX_PARTS < size_bytes:
        part *= 2
    starts = range(0, max(size_bytes, 1), part)
    return [Span(start, min(part, size_bytes - start)) for start in starts]


def checksum(digests: Sequence[bytes]) -> str:
    """Return S3's sha256 checksum of the parts with these digests.

    Of one part it is the base64 of its digest; of several, that of the digest of the digests and
    their number. Source: "Checking object integrity" in the S3 user guide, composite checksums.
    """
    if len(digests) == 1:
        return b64encode(digests[0]).decode()
    return f"{b64encode(hashlib.sha256(b''.join(digests)).digest()).decode()}-{len(digests)}"


def checksum_of(data: bytes) -> str:
    """Return S3's sha256 checksum of a blob's bytes."""
    view = memoryview(data)
    return checksum(
        [hashlib.sha256(view[at : at + size]).digest() for at, size in spans(len(data))]
    )


def checksum_of_file(path: Path) -> str:
    """Return S3's sha256 checksum of a local file."""
    if path.stat().st_size <= PART_BYTES:
        return checksum([bytes.fromhex(remembered_sha256(path))])
    with opened(path) as source:
        return checksum([source.digest(span) for span in spans(source.size_bytes)])


class Source:
    """Bytes that may be read at any place by several threads."""

    def __init__(self, content: bytes | int, size_bytes: int) -> None:
        """Use bytes, or an open file by its descriptor."""
        self._content = content
        self.size_bytes = size_bytes

    def read(self, span: Span) -> memoryview:
        """Return a span. Raises `Corrupt` when the file was cut off meanwhile."""
        if isinstance(self._content, bytes):
            return memoryview(self._content)[span.start : span.start + span.size_bytes]
        data = os.pread(self._content, span.size_bytes, span.start)
        if len(data) < span.size_bytes:
            raise Corrupt(f"the source was cut off at {span.start + len(data)} bytes while read")
        return memoryview(data)

    def digest(self, span: Span) -> bytes:
        """Return the sha256 of a span, read in pieces."""
        digest = hashlib.sha256()
        for start in range(span.start, span.start + span.size_bytes, _READ_BYTES):
            size_bytes = min(_READ_BYTES, span.start + span.size_bytes - start)
            digest.update(self.read(Span(start, size_bytes)))
        return digest.digest()


class Body:
    """A request's body that urllib3 sends in pieces, each with its own timeout."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._pieces = iter(range(0, len(data), _SEND_BYTES))

    def __len__(self) -> int:
        return len(self._data)

    def read(self, size_bytes: int = -1) -> memoryview:
        """Return the next piece, nothing at the end; how long it is is decided here."""
        del size_bytes
        start = next(self._pieces, len(self._data))
        return self._data[start : start + _SEND_BYTES]


@contextmanager
def opened(content: bytes | Path) -> Iterator[Source]:
    """Open content in memory or in a file."""
    if isinstance(content, bytes):
        yield Source(content, len(content))
        return
    with content.open("rb") as file:
        yield Source(file.fileno(), os.fstat(file.fileno()).st_size)
