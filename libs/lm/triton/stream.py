"""One streamed call, read to its end whether or not its caller waits for that.

Triton 2.51 dies of a call that is cancelled while it ends: both threads use what one of them has
freed. Seen here once in 7,000 calls; https://github.com/triton-inference-server/server/issues/7368
and 8034. So a call is never cancelled: a caller that leaves, or whose time is up, has the model
told to stop, and a thread reads what still comes. What remains is a caller that is killed.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from libs.errors import DeadlineExceeded

LINGER_S = 600.0
"""How long gRPC waits beyond the caller's time, so that a server that hung finds nobody gone."""


class Stream:
    """The answers to one call, for one thread."""

    def __init__(self, call: Iterator[Any], *, timeout_s: float, leave: Callable[[], None]) -> None:
        """Begin to read `call`; `leave` asks the server to end it early."""
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._timeout_s, self._ends = timeout_s, time.monotonic() + timeout_s
        self._leave = leave
        self._has_ended = False
        self._reader = threading.Thread(target=self._read, args=(call,), daemon=True)
        self._reader.start()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Return the next answer.

        Raises:
            DeadlineExceeded: it did not come in time.
        """
        try:
            kind, value = self._answers.get(timeout=max(0.0, self._ends - time.monotonic()))
        except queue.Empty:
            raise DeadlineExceeded(f"did not answer within {self._timeout_s:g} s") from None
        if kind == "answer":
            return value
        self._has_ended = True
        raise value

    def let_end(self) -> None:
        """Want no more answers, and know that none comes: the server ends the call by itself."""
        self._has_ended = True

    def close(self) -> None:
        """Want no more answers; returns at once."""
        if not self._has_ended and self._reader.is_alive():
            threading.Thread(target=self._leave, daemon=True).start()

    def join(self, timeout_s: float) -> None:
        """Wait until the server has ended the call."""
        self._reader.join(timeout_s)

    def _read(self, call: Iterator[Any]) -> None:
        try:
            for answer in call:
                self._answers.put(("answer", answer))
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._answers.put(("error", error))
        else:
            self._answers.put(("end", StopIteration()))
