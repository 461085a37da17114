"""How many calls a server has under way, and whether it takes another one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from libs.errors import Busy, Unavailable


class Gate:
    """Counts the calls under way and lets no more in than there are threads, none once closed."""

    def __init__(self, service: str, limit: int) -> None:
        self._service, self._limit = service, limit
        self._running, self._unsent, self._closed = 0, 0, False
        self._changed = threading.Condition()

    @contextmanager
    def admitted(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Let a call in for the block.

        Raises:
            Unavailable: the gate is closed.
            Busy: every thread is taken.
        """
        with self._changed:
            if self._closed:
                raise Unavailable(f"{self._service} is shutting down")
            if self._running >= self._limit:
                raise Busy(f"{self._service} answers {self._limit} calls at once, all are taken")
            self._running += 1
            # The servicer has returned some time before its last answer is on the wire.
            self._unsent += context.add_callback(self._sent)
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in from now on."""
        with self._changed:
            self._closed = True

    def wait(self, timeout_s: float) -> None:
        """Wait until the last answer is on the wire, for `timeout_s` at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._running + self._unsent == 0, timeout=timeout_s)

    def _sent(self) -> None:
        with self._changed:
            self._unsent -= 1
            self._changed.notify_all()
