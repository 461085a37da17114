"""Fetches a blob into a file by several streams, each digesting its parts as they pass."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from urllib3 import BaseHTTPResponse

from libs.blobs.parts import Span, checksum, spans
from libs.blobs.s3 import S3, Request

STREAMS = min(4, len(os.sched_getaffinity(0)))
"""Each digests what it fetches, so more of them than cores only stand in each other's way."""
_READ_BYTES = 128 << 10
"""Fits a cache of the processor: a piece of 1 MiB costs half as much again in processor time."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """One version of one object to be fetched."""

    s3: S3
    bucket: str
    key: str
    name: str
    """What the blob is called in messages."""
    size_bytes: int
    etag: str

    def write_to(self, descriptor: int) -> str:
        """Write the bytes to an open file and return their checksum.

        Raises:
            Conflict: the object has another etag by now.
        """
        parts = spans(self.size_bytes)
        if self.size_bytes == 0:
            return checksum([hashlib.sha256().digest()])
        with ThreadPoolExecutor(min(STREAMS, len(parts))) as pool:
            fetching = [pool.submit(self._fetch, part, descriptor) for part in parts]
            try:
                return checksum([each.result() for each in fetching])
            finally:
                for each in fetching:
                    each.cancel()

    def _fetch(self, part: Span, descriptor: int) -> bytes:
        last = part.start + part.size_bytes - 1
        request = Request(
            what=self.name,
            method="GET",
            bucket=self.bucket,
            key=self.key,
            headers={"Range": f"bytes={part.start}-{last}", "If-Match": f'"{self.etag}"'},
        )
        return self.s3.request(request, _writer(descriptor, part.start))


def _writer(descriptor: int, start: int) -> Callable[[BaseHTTPResponse], bytes]:
    """Return what writes an answer's body to a place in a file and returns its sha256."""

    def write(response: BaseHTTPResponse) -> bytes:
        digest, at = hashlib.sha256(), start
        for piece in response.stream(_READ_BYTES):
            digest.update(piece)
            at += os.pwrite(descriptor, piece, at)
        return digest.digest()

    return write
