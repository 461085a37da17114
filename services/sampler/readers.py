"""Admits readers of streams, few enough, and ends those that stopped reading.

A stream holds a server thread while it waits for its reader. A reader that takes nothing for a
while is cancelled, which frees the thread; if it still lives it resumes where it was.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from libs.errors import Busy
from services.sampler import metrics


@dataclass(kw_only=True, eq=False)
class Reader:
    """One open stream."""

    cancel: Callable[[], object]
    waiting_since: float = math.inf
    """Monotonic seconds at which the last batch was handed over; infinite while none waits."""


class Readers:
    """The open streams; safe for many threads. A watching thread lives while any is open."""

    def __init__(self, *, limit: int, stall_s: float) -> None:
        """Admit `limit` readers at once and end one that takes nothing for `stall_s` seconds."""
        self._limit, self._stall_s = limit, stall_s
        self._open: set[Reader] = set()
        self._watching = False
        self._changed = threading.Condition()

    @contextmanager
    def admitted(self, cancel: Callable[[], object]) -> Iterator[Reader]:
        """Hold a place for one reader; `cancel` ends its call from any thread.

        Raises:
            Busy: every place is taken.
        """
        reader = Reader(cancel=cancel)
        with self._changed:
            if len(self._open) >= self._limit:
                raise Busy(f"{self._limit} streams are open, which is the limit")
            self._open.add(reader)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="sampler-readers", daemon=True).start()
            self._report()
        try:
            yield reader
        finally:
            with self._changed:
                self._open.discard(reader)
                self._report()

    def handed(self, reader: Reader) -> None:
        """Note that the reader has a batch to take from now on."""
        reader.waiting_since = time.monotonic()

    def taken(self, reader: Reader) -> None:
        """Note that the batch was taken: from now on the reader waits for us, not we for it."""
        reader.waiting_since = math.inf

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no stream is open; return False when the time ran out before."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, timeout_s)

    def _report(self) -> None:
        metrics.STREAMS_OPEN.set(len(self._open))
        self._changed.notify_all()

    def _watch(self) -> None:
        with self._changed:
            while self._open:
                now = time.monotonic()
                for reader in self._open:
                    if now - reader.waiting_since >= self._stall_s:
                        reader.waiting_since = math.inf
                        metrics.STREAMS_STALLED.inc()
                        reader.cancel()
                self._changed.wait(self._stall_s / 4)
            self._watching = False
