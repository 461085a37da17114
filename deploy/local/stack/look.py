"""Whether a server answers, and what it says; for `up`, `status` and `doctor`.

The standard library only: `doctor` runs where no package is installed.
"""

import http.client
import json
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

LOOK_S = 2.0
_METADATA = 3
"""Number of the request in Kafka's protocol: https://kafka.apache.org/protocol"""
_LARGEST_ANSWER_BYTES = 1 << 20


class Answer(NamedTuple):
    """What an HTTP server said."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes

    def json(self) -> Any:
        """Return the body's value."""
        return json.loads(self.body)


def get(url: str, *, method: str = "GET", timeout_s: float = LOOK_S) -> Answer:
    """Ask over HTTP, past any proxy. Raises `OSError` when nothing answers in time."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
    try:
        connection.request(method, f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}")
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, headers, answer.read())
    except http.client.HTTPException as error:
        raise OSError(f"{parts.netloc} answered no HTTP: {error!r}") from error
    finally:
        connection.close()


def says_ok(url: str) -> bool:
    """True if the page is there."""
    with suppress(OSError):
        return get(url).status == http.client.OK
    return False


def kafka_brokers(address: str, *, timeout_s: float = LOOK_S) -> list[str]:
    """Return `host:port` of the brokers that a Kafka server knows.

    Raises:
        OSError: nothing answers, or something that is not Kafka.
    """
    host, _, port = address.rpartition(":")
    client = b"athanor"
    # Version 1, and no topic asked for: an empty list.
    request = struct.pack(f">hhih{len(client)}si", _METADATA, 1, 7, len(client), client, 0)
    with socket.create_connection((host, int(port)), timeout=timeout_s) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _read(connection, 4))
        if not 8 <= size <= _LARGEST_ANSWER_BYTES:
            raise OSError(f"{address} does not answer as Kafka does")
        return _brokers(_read(connection, size))


def _brokers(answer: bytes) -> list[str]:
    """Read the brokers from the answer to a metadata request of version 1."""
    _, count = struct.unpack_from(">ii", answer)
    at, found = 8, []
    for _ in range(count):
        (length,) = struct.unpack_from(">h", answer, at + 4)
        host = answer[at + 6 : at + 6 + length].decode()
        at += 6 + length
        port, rack = struct.unpack_from(">ih", answer, at)
        at += 6 + max(rack, 0)
        found.append(f"{host}:{port}")
    return found


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("the server hung up in the middle of its answer")
        data += more
    return data
