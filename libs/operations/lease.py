"""Who may write an operation's record: the holder of its lease, judged without any wall clock.

A lease is nothing but `holder` and `epoch` in the record. Its holder rewrites the record often;
an observer that has seen the record unchanged for `lease_s` on its own monotonic clock may take it
under the next epoch. Both go through `replace_if`, so of two at most one wins, and a worker that
woke up late finds another epoch and writes nothing.
"""

import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

from libs.clock import Clock
from libs.errors import Busy, Conflict, ErrorRecord, NotFound, Unavailable
from libs.operations.record import Progress, Record, Result, State, printable
from libs.operations.step import Cancelled, LeaseLost
from libs.operations.store import Operations, Stored

PROGRESS_S = 1.0
"""Progress is written at most this often."""


class Stillness:
    """Remembers since when this process has seen each record unchanged. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[str, tuple[str, float]] = {}

    def seconds(self, name: str, etag: str) -> float:
        """Return how long `name` has been seen under `etag`, in seconds; 0 the first time."""
        now = self._clock.monotonic()
        with self._lock:
            known, since = self._since.get(name, ("", now))
            if known != etag:
                since = now
            self._since[name] = (etag, since)
            return now - since

    def forget(self, name: str) -> None:
        """Drop what is known of an operation that ended."""
        with self._lock:
            self._since.pop(name, None)


def take(operations: Operations, stored: Stored, *, holder: str, lease_s: float) -> "Lease":
    """Take the lease of a record that is free, or whose holder was seen silent for long enough.

    Raises:
        Conflict: somebody else was faster.
    """
    record = stored.record
    taken = replace(
        record,
        state=State.RUNNING,
        holder=holder,
        epoch=record.epoch + 1,
        deaths=record.deaths + (record.state is State.RUNNING),
    )
    return Lease(operations, operations.write(stored, taken), lease_s=lease_s)


class Lease:
    """One holder's right to write one record, from `take` to `finish` or `release`.

    The step's thread tells progress and checks, a keeper's thread calls `keep`. Thread-safe.
    """

    def __init__(self, operations: Operations, stored: Stored, *, lease_s: float) -> None:
        self._operations = operations
        self._clock = operations.clock
        self._stored = stored
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._lost = ""
        self._told = stored.record.progress
        self._started = self._written = self._clock.monotonic()
        self._run_time_s = stored.record.run_time_s

    @property
    def record(self) -> Record:
        """The record as it was last read or written."""
        return self._stored.record

    def tell(self, progress: Progress) -> None:
        """Keep progress for the next write."""
        self._told = progress
        self.check()

    def check(self) -> None:
        """Raise if the work should stop.

        Raises:
            Cancelled: somebody asked for it.
            LeaseLost: another worker has the operation, or may have: it was asked for.
        """
        if not self._lost and self._clock.monotonic() - self._written > self._lease_s:
            # This process slept or was cut off: others may have judged it dead.
            with suppress(Unavailable, Busy):
                self.renew()
        if self._lost:
            raise LeaseLost(self._lost)
        if self.record.cancel_requested:
            raise Cancelled(f"cancellation of {self.record.name} was requested")

    def keep(self) -> None:
        """Write the record if that is due, else look whether somebody else has.

        Raises:
            LeaseLost: another worker has the operation; said once.
        """
        if self._lost or self.record.ended:
            return
        silent_s = self._clock.monotonic() - self._written
        is_news = self._told != self.record.progress and silent_s >= PROGRESS_S
        if is_news or silent_s >= self._lease_s / 4:
            self.renew()
        elif self._operations.stat(self.record.name).etag != self._stored.etag:
            with self._lock:
                self._read()

    def renew(self) -> None:
        """Write the record now. Raises `LeaseLost`."""
        self._change()

    def count(self, counter: str) -> int:
        """Add one to `retries` or `faults` and return the sum. Raises `LeaseLost`."""
        self._change(**{counter: getattr(self.record, counter) + 1})
        return int(getattr(self.record, counter))

    def note(self, *, answered: bool) -> None:
        """Write whether the artifact was there before anything was done. Raises `LeaseLost`."""
        self._change(answered=answered)

    def hold(self, artifact_id: str) -> None:
        """Name what is about to be made or used, so that it is no garbage. Raises `LeaseLost`."""
        if artifact_id != self.record.holds:
            self._change(holds=artifact_id)

    def finish(
        self, state: State, *, result: Result | None = None, error: ErrorRecord | None = None
    ) -> None:
        """End the operation: the one write that makes its effect visible.

        Raises:
            LeaseLost: another worker has the operation; nothing was changed.
        """
        if error is not None:
            error = replace(error, message=printable(error.message))
        self._change(state=state, result=result, error=error)

    def release(self) -> None:
        """Give the operation back to the queue, so that another worker need not wait.

        Raises:
            LeaseLost: another worker has it already.
        """
        self._change(state=State.QUEUED, holder="")
        self.abandon()

    def abandon(self) -> None:
        """Stop writing; the record is left as after a kill."""
        self._lost = f"{self.record.name}: this worker has given it up"

    def _change(self, **changes: Any) -> None:
        with self._lock:
            while not self.record.ended:
                if self._lost:
                    raise LeaseLost(self._lost)
                try:
                    self._stored = self._operations.write(self._stored, self._next(changes))
                    self._written = self._clock.monotonic()
                    return
                except (Conflict, NotFound):
                    self._read()

    def _next(self, changes: dict[str, Any]) -> Record:
        run_time_s = self._run_time_s + self._clock.monotonic() - self._started
        return replace(self.record, **{"progress": self._told, "run_time_s": run_time_s, **changes})

    def _read(self) -> None:
        """Take up what was written meanwhile: a request to cancel, or the loss of the lease."""
        held = self.record
        try:
            stored = self._operations.read(held.name)
        except NotFound:
            self._lost = f"{held.name}: its record is gone"
            raise LeaseLost(self._lost) from None
        found = stored.record
        if (found.holder, found.epoch) != (held.holder, held.epoch):
            self._lost = (
                f"{held.name}: expected holder {held.holder} of epoch {held.epoch}, "
                f"got {found.holder or 'nobody'} of epoch {found.epoch}"
            )
            raise LeaseLost(self._lost)
        self._stored = stored
