"""The web, as `ports.Fetcher`: bounded in size and time, and closed to private networks.

A name is resolved here, every address it has is checked, and the connection goes to one that was
checked, so that no second look-up can answer differently. Bodies are decompressed as they arrive
and dropped at the limit. Proxies in the environment are not used: they would resolve for us.
Not protected against: a resolver that does not answer (its own time limit holds), and whatever a
public address itself relays to.
"""

import ipaddress
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import httpcore

from services.corpus.ports import Response, Unanswered
from services.corpus.refusals import Reason
from services.corpus.robots import USER_AGENT

_MAX_CONNECTIONS = 16
_HEADERS = (
    (b"User-Agent", f"{USER_AGENT}/0.1".encode()),
    (b"Accept", b"text/html,application/xhtml+xml,text/plain;q=0.9,*/*;q=0.1"),
    (b"Accept-Encoding", b"gzip, deflate"),
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
Resolve = Callable[[str, int], Sequence[str]]
"""Takes host and port and returns addresses. Raises `OSError`."""


def resolve(host: str, port: int) -> Sequence[str]:
    """Return every address of a host, as the system resolves it."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({str(each[4][0]) for each in found})


def is_public(address: str) -> bool:
    """Tell whether an address, and any IPv4 address inside it, belongs to the public internet."""
    ip = ipaddress.ip_address(address.split("%")[0])
    inner: list[ipaddress.IPv4Address | None] = []
    if isinstance(ip, ipaddress.IPv6Address):
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _NAT64:
            inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return all(each.is_global and not each.is_multicast for each in (ip, *filter(None, inner)))


class _PrivateAddressError(Exception):
    """A host has an address that may not be connected to."""


class HttpFetcher:
    """A `Fetcher` over HTTP/1.1 with kept connections."""

    def __init__(
        self,
        *,
        max_bytes: int,
        timeout_s: float,
        allow_private_hosts: Iterable[str] = (),
        hosts: Mapping[str, tuple[str, int]] = {},
        resolve: Resolve = resolve,
    ) -> None:
        """Set the limits.

        Args:
            max_bytes: of a body, both as sent and decompressed.
            timeout_s: for a whole fetch, connecting included.
            allow_private_hosts: `name` or `name:port` that may have a private address.
            hosts: name to the address and port that stand for it here, as in a hosts file.
            resolve: for tests.
        """
        self._max_bytes, self._timeout_s = max_bytes, timeout_s
        self._limit = _Limit()
        allowed = {host.lower() for host in allow_private_hosts}
        self._pool = httpcore.ConnectionPool(
            max_connections=_MAX_CONNECTIONS,
            network_backend=_CheckedBackend(allowed, hosts, resolve, self._limit),
        )

    def __enter__(self) -> "HttpFetcher":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def fetch(
        self, url: str, *, types: tuple[str, ...] = (), max_bytes: int | None = None
    ) -> Response | Unanswered:
        """Return the answer to one GET, or why there is none."""
        self._limit.start(self._timeout_s)
        try:
            with self._pool.stream("GET", url, headers=_HEADERS) as response:
                return self._read(response, types, max_bytes or self._max_bytes)
        except _PrivateAddressError:
            return Unanswered(
                reason=Reason.PRIVATE_ADDRESS, detail="its host has a private address"
            )
        except httpcore.TimeoutException:
            detail = f"no whole answer within {self._timeout_s:g} s"
            return Unanswered(reason=Reason.TIMED_OUT, detail=detail)
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            detail = type(error).__name__
            return Unanswered(reason=Reason.UNREACHABLE, detail=f"connection failed: {detail}")

    def _read(
        self, response: httpcore.Response, types: tuple[str, ...], max_bytes: int
    ) -> Response | Unanswered:
        headers: dict[str, str] = {}
        for name, value in response.headers:
            headers.setdefault(name.decode("ascii").lower(), _header(value))
        if not 200 <= response.status < 300:
            return Response(status=response.status, headers=headers)
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if types and kind not in types:
            return Unanswered(reason=Reason.NOT_TEXT, detail=f"it is {kind}")
        body = _body(response, headers, max_bytes)
        if isinstance(body, bytes):
            return Response(status=response.status, headers=headers, body=body)
        return body


def _header(value: bytes) -> str:
    """Return a header's value: UTF-8 as browsers read addresses, else as HTTP says."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _body(
    response: httpcore.Response, headers: dict[str, str], max_bytes: int
) -> bytes | Unanswered:
    stated = headers.get("content-length", "")
    if stated.isdigit() and int(stated) > max_bytes:
        return _too_large(max_bytes)
    inflater = _inflater(headers.get("content-encoding", ""), max_bytes)
    if inflater is None:
        name = headers["content-encoding"]
        return Unanswered(reason=Reason.UNDECODABLE, detail=f"it is compressed by {name[:40]}")
    body, num_sent = bytearray(), 0
    try:
        for chunk in response.iter_stream():
            num_sent += len(chunk)
            body += inflater.feed(chunk)
            if max(num_sent, len(body)) > max_bytes:
                return _too_large(max_bytes)
        inflater.end()
    except zlib.error:
        return Unanswered(reason=Reason.UNDECODABLE, detail="its compressed body is broken")
    return bytes(body)


def _too_large(max_bytes: int) -> Unanswered:
    return Unanswered(reason=Reason.TOO_LARGE, detail=f"more than {max_bytes} bytes")


class _Plain:
    """A body that is sent as it is."""

    def feed(self, chunk: bytes) -> bytes:
        return chunk

    def end(self) -> None:
        """Nothing can be missing: HTTP says where the body ends."""


class _Deflated:
    """A body in gzip or deflate; never gives more than the limit and one byte at a time."""

    def __init__(self, wbits: int, max_bytes: int) -> None:
        self._wbits, self._max_bytes = wbits, max_bytes
        self._stream = zlib.decompressobj(wbits)
        self._begun = False
        self._held = b""
        """First byte of what may be another member."""

    def feed(self, chunk: bytes) -> bytes:
        out, chunk, self._held = bytearray(), self._held + chunk, b""
        while chunk and len(out) <= self._max_bytes:
            if self._stream.eof:
                # gzip may have several members; what follows the last one is padding.
                if self._wbits < 0 or not chunk.startswith(b"\x1f\x8b"):
                    self._held = chunk if chunk == b"\x1f" else b""
                    break
                self._stream = zlib.decompressobj(self._wbits)
            out += self._inflated(chunk)
            chunk = self._stream.unconsumed_tail or self._stream.unused_data
        return bytes(out)

    def _inflated(self, chunk: bytes) -> bytes:
        try:
            return self._stream.decompress(chunk, self._max_bytes + 1)
        except zlib.error:
            if self._begun or self._wbits < 0:
                raise
            # Some servers send `deflate` without its zlib header.
            self._wbits = -zlib.MAX_WBITS
            self._stream = zlib.decompressobj(self._wbits)
            return self._stream.decompress(chunk, self._max_bytes + 1)
        finally:
            self._begun = True

    def end(self) -> None:
        """Raise `zlib.error` when the stream was cut."""
        if self._begun and not self._stream.eof:
            raise zlib.error("cut")


def _inflater(encoding: str, max_bytes: int) -> _Plain | _Deflated | None:
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return _Plain()
    # wbits 32 + 15 reads gzip and zlib headers alike.
    known = ("gzip", "x-gzip", "deflate")
    return _Deflated(32 + zlib.MAX_WBITS, max_bytes) if name in known else None


class _Limit(threading.local):
    """The moment at which the calling thread's fetch ends: httpcore limits single reads only."""

    _ends = 0.0

    def start(self, timeout_s: float) -> None:
        self._ends = time.monotonic() + timeout_s

    def remaining_s(self, error: type[Exception]) -> float:
        remaining = self._ends - time.monotonic()
        if remaining <= 0:
            raise error("the time for this fetch is over")
        return remaining


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to checked addresses only."""

    def __init__(
        self,
        allowed: set[str],
        hosts: Mapping[str, tuple[str, int]],
        resolve: Resolve,
        limit: _Limit,
    ) -> None:
        self._allowed, self._hosts = allowed, hosts
        self._resolve, self._limit = resolve, limit
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first of the host's addresses that answers."""
        last: Exception = httpcore.ConnectError("the host has no address")
        allowed = bool(self._allowed & {host.lower(), f"{host.lower()}:{port}"})
        host, port = self._hosts.get(host.lower(), (host, port))
        for address in self._addresses(host, port, allowed=allowed):
            remaining_s = self._limit.remaining_s(httpcore.ConnectTimeout)
            try:
                stream = self._plain.connect_tcp(
                    address, port, remaining_s, local_address, socket_options
                )
                return _LimitedStream(stream, self._limit)
            except httpcore.ConnectError as error:
                last = error
        raise last

    def _addresses(self, host: str, port: int, *, allowed: bool) -> Iterator[str]:
        try:
            found = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("the host cannot be resolved") from error
        if not allowed and not all(is_public(address) for address in found):
            raise _PrivateAddressError(host)
        return iter(found)


class _LimitedStream(httpcore.NetworkStream):
    """Passes on reads and writes while the fetch has time left."""

    def __init__(self, stream: httpcore.NetworkStream, limit: _Limit) -> None:
        self._stream, self._limit = stream, limit

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._limit.remaining_s(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._limit.remaining_s(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        remaining_s = self._limit.remaining_s(httpcore.ConnectTimeout)
        secured = self._stream.start_tls(ssl_context, server_hostname, remaining_s)
        return _LimitedStream(secured, self._limit)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
