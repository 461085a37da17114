"""One thread for all arithmetic, which callers use in turns, so that nobody waits for a long call.

A call is an iterator of what it computes: it advances for a turn, then goes to the end of the
queue. One item (a batch, a token, the loading of a model) is never cut, so with other callers a
call waits as long as their longest items take. Whose turn it is changes no bit of an answer.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from libs.errors import DeadlineExceeded

T = TypeVar("T")

TURN_S = 0.05
"""No new item begins after this: what a streamed token waits for its company at most."""


class Turns:
    """The thread; every method may be called by any other."""

    def __init__(self, prepare: Callable[[], None]) -> None:
        """Start it; it calls `prepare` first."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lm", initializer=prepare)

    def run(self, work: Callable[[], T], what: str, timeout_s: float | None) -> T:
        """Do the work in one turn.

        Raises:
            DeadlineExceeded: `what` did not end within `timeout_s`, `None` being forever. Work
                that has begun goes on to its end.
        """
        return self._wait(work, _Deadline(what, timeout_s))

    def share(self, items: Iterator[T], what: str, timeout_s: float | None) -> Iterator[list[T]]:
        """Yield the items, those of a turn together, as they are computed. Raises as `run`.

        The time counts from the first `next`, for all of them. While the caller does nothing with
        them nothing more is computed.
        """
        deadline = _Deadline(what, timeout_s)
        has_ended = False
        while not has_ended:
            found, has_ended = self._wait(partial(_turn, items), deadline)
            yield found

    def close(self) -> None:
        """Stop after the turn under way; what waits is dropped."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _wait(self, work: Callable[[], T], deadline: "_Deadline") -> T:
        future: Future[T] = self._thread.submit(work)
        try:
            return future.result(deadline.left_s())
        except FutureTimeout:
            future.cancel()
            raise deadline.error() from None


class _Deadline:
    """When a call ends, and what to say then."""

    def __init__(self, what: str, timeout_s: float | None) -> None:
        self._what, self._timeout_s, self._started = what, timeout_s, time.monotonic()

    def left_s(self) -> float | None:
        if self._timeout_s is None:
            return None
        return max(self._timeout_s - (time.monotonic() - self._started), 0.0)

    def error(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"{self._what} did not end within {self._timeout_s:.1f} s")


class _Turn(NamedTuple, Generic[T]):
    items: list[T]
    has_ended: bool


def _turn(items: Iterator[T]) -> _Turn[T]:
    """Advance until the turn is over, by one item at least."""
    found, ends = [], time.monotonic() + TURN_S
    for item in items:
        found.append(item)
        if time.monotonic() >= ends:
            return _Turn(found, False)
    return _Turn(found, True)
