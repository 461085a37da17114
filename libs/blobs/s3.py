"""One S3 server through minio-py: requests that are signed, repeated and bounded in time.

minio-py 7.2 has no public parameter for a condition on PUT, for the parts of an upload or for the
time that a request is signed with. So one private method of it is called (`Minio._execute`, in
`S3._once`) and one is extended (`Minio._build_headers`, in `_Client`); both are covered by
`tests/contract/test_blobs.py` on the real server, which tells when they change.
"""

import mimetypes
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from time import sleep
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from minio import Minio
from minio.time import to_amz_date
from urllib3 import BaseHTTPResponse, PoolManager, Timeout

from libs.blobs.parts import Body
from libs.blobs.s3_errors import FAILURES, code_of, failure
from libs.clock import Clock, pause_s
from libs.errors import Busy, Conflict, Forbidden, InvalidInput, Unavailable

T = TypeVar("T")
Headers = Mapping[str, str]

_REGION = "us-east-1"
"""MinIO's own; naming it saves a request for each bucket."""
_CONNECTIONS = 32
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_NEVER = {"If-Match": '"none"'}
"""A condition that no object meets."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request to the server."""

    what: str
    """Begins the message of its failure."""
    method: str
    bucket: str
    key: str | None = None
    body: bytes | Callable[[], Body | bytes] = b""
    """A function is called anew for every repeat."""
    headers: Headers = field(default_factory=dict)
    query: Headers = field(default_factory=dict)


class S3:
    """Requests to one server, for any number of threads; a forked child makes its own.

    A request that meets a server which is down, busy or of another opinion about the time is
    sent again until `deadline_s` is nearly over, and then raises `Unavailable` or `Busy`, naming
    the server. One that moves no byte for a third of `deadline_s` counts as failed, so a server
    that is stopped ends a request within `deadline_s`; a long transfer may last while bytes flow.
    """

    def __init__(
        self, endpoint: str, *, access_key: str, secret_key: str, clock: Clock, deadline_s: float
    ) -> None:
        """Connect to nothing yet. Raises `InvalidInput` for an endpoint that is no URL."""
        url = urlsplit(endpoint)
        if url.scheme not in ("http", "https") or not url.netloc or url.path.strip("/"):
            raise InvalidInput(f"MinIO's endpoint must be http(s)://host:port, got {endpoint!r}")
        self.server = f"MinIO at {url.netloc}"
        self._clock = clock
        self._stall_s = deadline_s / 3
        self._last_try_s = deadline_s - self._stall_s
        self._client = _Client(
            url.netloc,
            access_key=access_key,
            secret_key=secret_key,
            secure=url.scheme == "https",
            region=_REGION,
            http_client=PoolManager(
                maxsize=_CONNECTIONS,
                timeout=Timeout(connect=self._stall_s, read=self._stall_s),
                retries=False,  # repeated here, where the deadline is known
            ),
        )
        self._client.clock = clock

    def request(self, request: Request, use: Callable[[BaseHTTPResponse], T]) -> T:
        """Send a request and return what `use` makes of its answer, read inside the repeats.

        Raises one of the eight errors, its text beginning with the request's `what`.
        """
        writes = request.method in ("PUT", "POST")
        return self.repeated(
            partial(self._once, request, use),
            request.what,
            may=partial(self._may_write, request) if writes else None,
        )

    def _once(self, request: Request, use: Callable[[BaseHTTPResponse], T]) -> T:
        body = request.body() if callable(request.body) else request.body
        # The private call: `_execute` takes any headers and query, the public calls do not.
        response = self._client._execute(
            request.method,
            request.bucket,
            request.key,
            body=cast(bytes, body),
            headers={**request.headers},
            query_params={**request.query},
            preload_content=False,
        )
        try:
            return use(response)
        finally:
            response.close() if response.length_remaining else response.release_conn()

    def repeated(
        self, act: Callable[[], T], what: str, *, may: Callable[[], bool] | None = None
    ) -> T:
        """Return what `act` returns, tried again while it fails for want of the server.

        `may` tells of a write that was denied whether the credentials may do it all the same.
        """
        begin = self._clock.monotonic()
        failures = 0
        while True:
            try:
                return act()
            except FAILURES as error:
                raised = failure(error, what=what, server=self.server, now=self._clock.now())
                if may is not None and isinstance(raised, Forbidden) and may():
                    raised = Unavailable(
                        f"{what}: {self.server} refuses a write that the credentials may do: "
                        "its disk is read-only"
                    )
                failures += 1
                pause = pause_s(failures, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)
                is_late = self._clock.monotonic() + pause - begin > self._last_try_s
                if is_late or not isinstance(raised, Unavailable | Busy):
                    raise raised from error
            sleep(pause)

    def keys(self, bucket: str, prefix: str, *, after: str = "") -> Iterator[tuple[str, int, str]]:
        """Yield key, size in bytes and etag of what begins with `prefix` and follows `after`."""
        listed = self._client.list_objects(
            bucket, prefix=prefix, recursive=True, start_after=after or None
        )
        for each in listed:
            yield str(each.object_name), int(each.size or 0), str(each.etag)

    def make_bucket(self, bucket: str) -> None:
        """Create a bucket; one that exists already is well. Raises `Forbidden`."""
        with suppress(Conflict):
            self.repeated(lambda: self._client.make_bucket(bucket), f"bucket {bucket}")

    def link(self, bucket: str, key: str, *, expires_s: float) -> str:
        """Return a URL that reads one object without credentials until it expires."""
        kind = mimetypes.guess_type(key)[0]
        return self._client.get_presigned_url(
            "GET",
            bucket,
            key,
            expires=timedelta(seconds=expires_s),
            # Blobs are stored without a type; a browser would save a page instead of showing it.
            response_headers={"response-content-type": kind} if kind else None,
            request_date=datetime.fromtimestamp(self._clock.now(), UTC),
        )

    def _may_write(self, request: Request) -> bool:
        """True if a policy lets the credentials write; found out by a PUT that cannot succeed.

        MinIO says AccessDenied of a policy, of a disk that became read-only, and for an instant
        where a folder is made beside one that is removed. But it looks at the policy first, at
        the condition next and at the disk last.
        """
        try:
            self._once(
                replace(request, method="PUT", body=b"", headers=_NEVER, query={}), lambda _: None
            )
        except FAILURES as error:
            return code_of(error) in ("PreconditionFailed", "NoSuchKey")
        return True


class _Client(Minio):
    """minio-py, signing by a given clock and streaming bodies that carry their own checksum."""

    clock: Clock

    def _build_headers(
        self, host: str, headers: Any = None, body: Any = None, creds: Any = None
    ) -> tuple[Any, datetime]:
        """Put our time and, for a `Body`, its length in the place of what minio-py computes.

        A `Body` is signed as UNSIGNED-PAYLOAD: its `x-amz-checksum-sha256` header is signed, and
        the server compares the bytes with it, so that they are digested once on either side.
        """
        streams = isinstance(body, Body)
        headers, _ = super()._build_headers(host, headers, None if streams else body, creds)
        if streams:
            headers["Content-Length"] = str(len(body))
            headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD"
            headers.pop("Content-MD5", None)
        date = datetime.fromtimestamp(self.clock.now(), UTC)
        headers["x-amz-date"] = to_amz_date(date)
        return headers, date
