"""The object store as Athanor sees it: few calls, each atomic, each safe to race.

A name is `<bucket>/<key>`, segments of `[A-Za-z0-9._=-]+` joined by `/`. Nothing is ever half
written: a reader sees the whole of one version or `NotFound`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from libs.errors import InvalidInput

LINK_S = range(1, 7 * 24 * 3600 + 1)
"""How long a link may work, seconds; S3's limits."""


class Blob(NamedTuple):
    """What the store knows of one blob without reading it to the caller."""

    name: str
    size_bytes: int
    etag: str
    """Follows the content: the same bytes, the same etag. Replaceable records therefore carry
    a revision that only grows, or A, B, A would fool a stale writer."""


def check_expiry(name: str, expires_s: float) -> None:
    """Raise `InvalidInput` unless a link to `name` may work for so long."""
    if not LINK_S.start <= expires_s < LINK_S.stop:
        raise InvalidInput(
            f"{name}: a link works for 1 s to {LINK_S.stop - 1} s, got {expires_s:g} s"
        )


class Read(NamedTuple):
    """Bytes and the etag they were read under."""

    data: bytes
    etag: str


class Blobs(Protocol):
    """Every call may raise `Unavailable` (store down or read-only) or `Busy` (disk full)."""

    def create(self, name: str, content: bytes | Path) -> Blob:
        """Store a new blob, from memory or from a local file.

        Raises:
            Conflict: the name exists; the stored bytes are untouched. A store may also refuse a
                name that lies under another blob's (`a/b/c` beside `a/b`).
            InvalidInput: the name is malformed.
        """
        ...

    def replace_if(self, name: str, content: bytes, *, etag: str) -> Blob:
        """Replace a blob only while its etag is the expected one.

        Raises:
            Conflict: the blob has another etag.
            NotFound: there is no such blob.
        """
        ...

    def read(self, name: str) -> Read:
        """Return the whole blob. Raises `NotFound`."""
        ...

    def read_range(self, name: str, start: int, size_bytes: int) -> bytes:
        """Return bytes [start, start + size_bytes), fewer at the end. Raises `NotFound`."""
        ...

    def stat(self, name: str) -> Blob:
        """Describe one blob. Raises `NotFound`."""
        ...

    def list(self, prefix: str) -> Iterator[Blob]:
        """Yield the blobs whose name starts with `prefix`, by name ascending.

        Raises:
            InvalidInput: the prefix does not begin with a whole bucket and `/`.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove a blob, or do nothing when it is absent. For scratch and garbage only."""
        ...

    def local(self, name: str) -> Path:
        """Return a local file with the blob's bytes, not to be written to.

        The path ends in the name, so blobs of one prefix that were asked for lie in one folder.

        Raises:
            NotFound: there is no such blob.
            Corrupt: the bytes do not match their digest.
        """
        ...

    def link(self, name: str, *, expires_s: float) -> str:
        """Return where a person finds the blob: a path, or a URL that needs no credentials.

        A URL works for `expires_s`, from 1 s to 7 days: whoever has it reads this one blob.

        Raises:
            NotFound: there is no such blob.
            InvalidInput: `expires_s` lies outside.
        """
        ...
