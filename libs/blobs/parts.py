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
_PIECE_BYTES = 128 << 10
"""Fits a cache of the processor: a piece of 1 MiB costs half as much again in processor time."""


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

    def read(self, span: Span) -> bytes | memoryview:
        """Return a span. Raises `Corrupt` when the file was cut off meanwhile."""
        if isinstance(self._content, bytes):
            return memoryview(self._content)[span.start : span.start + span.size_bytes]
        data = os.pread(self._content, span.size_bytes, span.start)
        if len(data) < span.size_bytes:
            raise Corrupt(f"the source was cut off at {span.start + len(data)} bytes while read")
        return data

    def digest(self, span: Span) -> bytes:
        """Return the sha256 of a span."""
        digest = hashlib.sha256()
        for piece in _pieces(span):
            digest.update(self.read(piece))
        return digest.digest()


class Body:
    """One span as a request's body: urllib3 reads it piece by piece, each with its own timeout."""

    def __init__(self, source: Source, span: Span) -> None:
        self._source = source
        self._size_bytes = span.size_bytes
        self._pieces = _pieces(span)

    def __len__(self) -> int:
        return self._size_bytes

    def read(self, size_bytes: int = -1) -> bytes | memoryview:
        """Return the next piece, nothing at the end; how long it is is decided here."""
        del size_bytes
        piece = next(self._pieces, None)
        return b"" if piece is None else self._source.read(piece)


@contextmanager
def opened(content: bytes | Path) -> Iterator[Source]:
    """Open content in memory or in a file."""
    if isinstance(content, bytes):
        yield Source(content, len(content))
        return
    with content.open("rb") as file:
        yield Source(file.fileno(), os.fstat(file.fileno()).st_size)


def _pieces(span: Span) -> Iterator[Span]:
    for start in range(span.start, span.start + span.size_bytes, _PIECE_BYTES):
        yield Span(start, min(_PIECE_BYTES, span.start + span.size_bytes - start))
