"""A MinIO of a test's own, to be killed, stopped and made read-only, and a wire to cut to it."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from tests.own_server import OwnServer

_PATIENCE_S = 60.0
_READ_BYTES = 1 << 16


class OwnMinio(OwnServer):
    """A MinIO whose disk can be made read-only."""

    def __init__(self, folder: Path) -> None:
        super().__init__("minio", folder)
        self.disk = folder / "minio" / "data"

    def read_only(self, on: bool) -> None:
        """Take from its disk, or give back, the permission to write."""
        read_only(self.disk, on)


class Wire:
    """A TCP relay to a server that can lose answers, or let something happen in mid-transfer."""

    def __init__(self, port: int) -> None:
        self.sent_bytes = self.received_bytes = 0
        self._target = ("127.0.0.1", port)
        self.num_lost = 0
        self._flips = False
        self._lose = b""
        self._loser: socket.socket | None = None
        self._lock = threading.Lock()
        self._action: Callable[[], None] | None = None
        self._action_at = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_answer_to(self, request: bytes) -> None:
        """Let the answer to the next request that holds these bytes come as far as here only."""
        self._lose = request

    def flip_a_byte(self) -> None:
        """Change one byte in the middle of the next body that goes either way."""
        self._flips = True

    def once_moved(self, size_bytes: int, action: Callable[[], None]) -> None:
        """Call `action` when so many more bytes went either way, the transfer waiting for it."""
        with self._lock:
            self._action = action
            self._action_at = self.sent_bytes + self.received_bytes + size_bytes

    def close(self) -> None:
        """Accept nobody any more."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                try:
                    far = socket.create_connection(self._target, timeout=_PATIENCE_S)
                except OSError:
                    near.close()
                    continue
                for relay in (self._to_server, self._to_client):
                    threading.Thread(target=self._end_after, args=(relay, near, far)).start()

    def _end_after(
        self, relay: Callable[..., None], near: socket.socket, far: socket.socket
    ) -> None:
        with contextlib.suppress(OSError):
            relay(near, far)
        for end in (near, far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _to_server(self, near: socket.socket, far: socket.socket) -> None:
        while data := near.recv(_READ_BYTES):
            self._count(sent=len(data))
            if self._lose and self._lose in data:
                self._lose, self._loser = b"", near
            far.sendall(self._passed(data))

    def _to_client(self, near: socket.socket, far: socket.socket) -> None:
        while data := far.recv(_READ_BYTES):
            self._count(received=len(data))
            if near is self._loser:
                self.num_lost += 1
                return
            near.sendall(self._passed(data))

    def _passed(self, data: bytes) -> bytes:
        """Return what goes on: a piece this long is of a body, not of headers."""
        if not self._flips or len(data) < _READ_BYTES // 2:
            return data
        self._flips = False
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]

    def _count(self, *, sent: int = 0, received: int = 0) -> None:
        with self._lock:
            self.sent_bytes += sent
            self.received_bytes += received
            if self._action and self.sent_bytes + self.received_bytes >= self._action_at:
                action, self._action = self._action, None
                action()


def read_only(folder: Path, on: bool) -> None:
    """Make the disk of a MinIO that is bound by permissions read-only, or writable again.

    What it answers then is what it answers on a file system that was mounted anew as read-only.
    """
    for each, _, _ in os.walk(folder):  # parents first: nothing new appears below
        Path(each).chmod(0o555 if on else 0o755)
