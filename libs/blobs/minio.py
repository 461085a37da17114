"""The object store on MinIO, or any server that speaks S3 with conditional writes and checksums.

    bucket of a name   S3 bucket <namespace><bucket>, made by the first write to it
    create             PUT with If-None-Match: *        large: as parts, completed so
    replace_if         PUT with If-Match                large: as parts, completed so
    etag               the server's, which follows the content (parts are cut by size alone)
    digest             x-amz-checksum-sha256: checked by the server as it takes the bytes, and
                       here whenever a whole blob is read or fetched

A write whose answer was lost is sent again; it knows its own earlier success by the `writer` in the
object's metadata, a random number of each call. So a create that returns has made the blob and of
racing creators one returns. (One exception: of two that send the same bytes in parts, the second
takes the first for killed and joins its upload; if then an answer is lost, both may return.)

MinIO hides a blob that lies under another's name (`a/b` beside `a`) from `list`; Athanor has none.
Deletes are unconditional. Nobody is kept from reading what a bucket's policy lets him read, and
over plain http nothing is hidden from the network.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar
from uuid import uuid4

from urllib3 import BaseHTTPResponse

from libs.blobs import names
from libs.blobs.buckets import bucket_name, check_namespace
from libs.blobs.cache import MAX_BYTES, Cache
from libs.blobs.download import Download
from libs.blobs.parts import (
    PART_BYTES,
    Body,
    Source,
    Span,
    checksum,
    checksum_of,
    checksum_of_file,
    opened,
)
from libs.blobs.port import Blob, Read, check_expiry
from libs.blobs.s3 import S3, Headers, Request
from libs.blobs.s3_errors import OutOfRange
from libs.blobs.upload import Refused, Upload
from libs.clock import Clock
from libs.errors import Busy, Conflict, Corrupt, InvalidInput, NotFound

T = TypeVar("T")

_PAGE = 1000  # keys that one request lists
_WRITER = "x-amz-meta-writer"
_CHECKED = {"x-amz-checksum-mode": "ENABLED"}
_ASKS_FIRST_BYTES = 64 << 10
"""A body longer than this is sent only after a look whether it can be taken: a server that refuses
it early closes the connection, and the answer is lost."""
_TRIES = 5
"""How often a blob may change under a reader, or vanish under a writer, in one call."""


class MinioBlobs:
    """`Blobs` on one S3 server, for any number of processes and threads.

    Every call may raise `Forbidden`, and makes at most `_TRIES` rounds of few requests, each of
    which ends within `deadline_s` when the server is silent.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        access_key: str,
        secret_key: str,
        cache: Path,
        namespace: str = "",
        cache_bytes: int = MAX_BYTES,
        clock: Clock | None = None,
        deadline_s: float = 20.0,
    ) -> None:
        """Use the server at `endpoint`, `http(s)://host:port`; connects at the first call.

        `cache` is the folder of `local`, `cache_bytes` its bound, `namespace` a prefix of buckets,
        `clock` tells the time that requests are signed with.
        """
        check_namespace(namespace)
        self._s3 = S3(
            endpoint,
            access_key=access_key,
            secret_key=secret_key,
            clock=clock or Clock(),
            deadline_s=deadline_s,
        )
        self._cache = Cache(cache / "blobs", max_bytes=cache_bytes)
        self._namespace = namespace

    def create(self, name: str, content: bytes | Path) -> Blob:
        """See `Blobs.create`. A large file that a killed call sent in part is gone on with.

        Raises:
            Corrupt: the source was cut off while it was read, or a byte changed on the way.
            Forbidden: also where the bucket is absent and these credentials may not make it.
        """
        names.check(name)
        with opened(content) as source:
            return self._write(name, source, etag=None)

    def replace_if(self, name: str, content: bytes, *, etag: str) -> Blob:
        """See `Blobs.replace_if`."""
        names.check(name)
        with opened(content) as source:
            return self._write(name, source, etag=etag)

    def read(self, name: str) -> Read:
        """See `Blobs.read`. Raises `Corrupt` when the bytes do not match their checksum."""
        names.check(name)

        def use(response: BaseHTTPResponse) -> tuple[Read, str]:
            found = _found(name, response)
            return Read(response.read(), found.blob.etag), found.checksum

        read, expected = self._ask("GET", name, use, headers=_CHECKED)
        _require(name, expected=expected, actual=checksum_of(read.data))
        return read

    def read_range(self, name: str, start: int, size_bytes: int) -> bytes:
        """See `Blobs.read_range`. The checksum, being of the whole, is not checked."""
        names.check(name)
        if start < 0 or size_bytes < 0:
            raise InvalidInput(f"{name}: a range must not be negative, got {start}, {size_bytes}")
        if size_bytes == 0:
            self.stat(name)
            return b""
        headers = {"Range": f"bytes={start}-{start + size_bytes - 1}"}
        with suppress(OutOfRange):
            return self._ask("GET", name, lambda response: response.read(), headers=headers)
        return b""

    def stat(self, name: str) -> Blob:
        """See `Blobs.stat`."""
        names.check(name)
        return self._stat(name).blob

    def list(self, prefix: str) -> Iterator[Blob]:
        """See `Blobs.list`. A blob created or deleted meanwhile may be missing or not."""
        names.check_prefix(prefix)
        bucket, _, start = prefix.partition("/")
        return self._listed(bucket, start)

    def delete(self, name: str) -> None:
        """See `Blobs.delete`."""
        names.check(name)
        with suppress(NotFound):
            self._ask("DELETE", name, lambda response: None)

    def local(self, name: str) -> Path:
        """See `Blobs.local`: the copy in the cache if it is that of now, else fetched anew."""
        names.check(name)
        for _ in range(_TRIES):
            found = self._stat(name)
            with suppress(Conflict):
                return self._copy(name, found)
        raise Busy(f"{name} changed {_TRIES} times while it was fetched")

    def link(self, name: str, *, expires_s: float) -> str:
        """See `Blobs.link`: a URL on the endpoint that this adapter was given."""
        check_expiry(name, expires_s)
        self.stat(name)
        return self._s3.link(*self._place(name), expires_s=expires_s)

    # Writing.

    def _write(self, name: str, source: Source, *, etag: str | None) -> Blob:
        """Store the source under the condition that `etag` is the blob's, None that it has none."""
        writer = uuid4().hex
        for _ in range(_TRIES):
            try:
                return Blob(name, source.size_bytes, self._put(name, source, etag, writer))
            except NotFound:
                if etag is not None:
                    raise NotFound(f"there is no blob {name}") from None
                self._s3.make_bucket(self._place(name)[0])
            except Conflict as conflict:
                with suppress(NotFound):  # it vanished meanwhile, or only its upload was ended
                    found = self._stat(name)
                    if found.writer == writer and not isinstance(conflict, Refused):
                        return found.blob  # an earlier sending succeeded, its answer was lost
                    _refuse(found.blob, etag)
        raise Busy(f"{name} changed {_TRIES} times while it was written")

    def _put(self, name: str, source: Source, etag: str | None, writer: str) -> str:
        bucket, key = self._place(name)
        condition = {"If-None-Match": "*"} if etag is None else {"If-Match": f'"{etag}"'}
        metadata = {_WRITER: writer}
        if source.size_bytes > PART_BYTES:
            self._look(name, etag)
            upload = Upload(s3=self._s3, bucket=bucket, key=key, name=name, source=source)
            return upload.send(condition=condition, metadata=metadata)
        data = source.read(Span(0, source.size_bytes))

        def body() -> Body:
            if source.size_bytes > _ASKS_FIRST_BYTES:
                self._look(name, etag)
            return Body(data)

        digest = {"x-amz-checksum-sha256": checksum([hashlib.sha256(data).digest()])}
        headers = {**condition, **metadata, **digest}
        return self._ask("PUT", name, _etag, headers=headers, body=body)

    def _look(self, name: str, etag: str | None) -> None:
        """Raise if the condition does not hold now."""
        try:
            found = self._stat(name)
        except NotFound:
            if etag is not None:
                raise
        else:
            _refuse(found.blob, etag)

    # Reading.

    def _stat(self, name: str) -> "_Stat":
        return self._ask("HEAD", name, lambda response: _found(name, response), headers=_CHECKED)

    def _listed(self, bucket: str, start: str) -> Iterator[Blob]:
        after = ""
        while True:
            page = self._page(bucket, start, after)
            for key, size_bytes, etag in page:
                yield Blob(f"{bucket}/{key}", size_bytes, etag)
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    def _page(self, bucket: str, start: str, after: str) -> Sequence[tuple[str, int, str]]:
        there = bucket_name(self._namespace, bucket)
        with suppress(NotFound):
            return self._s3.repeated(
                lambda: [*islice(self._s3.keys(there, start, after=after), _PAGE)],
                f"list of {bucket}/{start}",
            )
        return []  # nobody has made the bucket yet

    def _copy(self, name: str, found: "_Stat") -> Path:
        copy = self._cache.find(name, found.checksum, checksum_of_file)
        if copy is not None:
            return copy
        bucket, key = self._place(name)
        size_bytes, etag = found.blob.size_bytes, found.blob.etag
        download = Download(
            s3=self._s3, bucket=bucket, key=key, name=name, size_bytes=size_bytes, etag=etag
        )

        def fetch(descriptor: int) -> None:
            _require(name, expected=found.checksum, actual=download.write_to(descriptor))

        return self._cache.keep(name, size_bytes, fetch)

    # Asking.

    def _place(self, name: str) -> tuple[str, str]:
        bucket, _, key = name.partition("/")
        return bucket_name(self._namespace, bucket), key

    def _ask(
        self,
        method: str,
        name: str,
        use: Callable[[BaseHTTPResponse], T],
        *,
        headers: Headers | None = None,
        body: bytes | Callable[[], Body] = b"",
    ) -> T:
        bucket, key = self._place(name)
        request = Request(
            what=name, method=method, bucket=bucket, key=key, headers=headers or {}, body=body
        )
        return self._s3.request(request, use)


class _Stat(NamedTuple):
    blob: Blob
    checksum: str
    writer: str


def _found(name: str, response: BaseHTTPResponse) -> _Stat:
    size_bytes = int(response.headers["Content-Length"])
    return _Stat(
        Blob(name, size_bytes, _etag(response)),
        response.headers.get("x-amz-checksum-sha256", ""),
        response.headers.get(_WRITER, ""),
    )


def _etag(response: BaseHTTPResponse) -> str:
    return response.headers["ETag"].strip('"')


def _refuse(blob: Blob, etag: str | None) -> None:
    if etag is None:
        raise Conflict(f"the blob {blob.name} exists")
    if blob.etag != etag:
        raise Conflict(f"{blob.name}: expected etag {etag}, it is {blob.etag}")


def _require(name: str, *, expected: str, actual: str) -> None:
    if not expected:
        raise Corrupt(f"{name} carries no sha256 checksum, so it was not written by Athanor")
    if actual != expected:
        raise Corrupt(f"{name}: expected sha256 checksum {expected}, got {actual}")
