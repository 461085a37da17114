"""Finds operations that nobody carries: a command that got lost, a worker that died.

It looks at records only, and wakes workers again through the bus; whether a lease may be taken is
decided by whoever then takes it, on its own clock.
"""

import logging
from collections import Counter

from libs import telemetry
from libs.errors import Corrupt, InvalidInput, NotFound
from libs.operations.attempt import Folders
from libs.operations.lease import Stillness
from libs.operations.record import Record, State
from libs.operations.store import Operations, Stored, name_of_blob

_log = logging.getLogger(__name__)


class Sweeper:
    """Sweeps the operations of one service; one thread."""

    def __init__(
        self, operations: Operations, folders: Folders, stillness: Stillness, *, lease_s: float
    ) -> None:
        self._operations = operations
        self._folders = folders
        self._stillness = stillness
        self._lease_s = lease_s
        self._known: dict[str, Stored] = {}
        self._unreadable: dict[str, str] = {}
        self._due: dict[str, tuple[str, float]] = {}

    def sweep(self) -> None:
        """Look at every record once: wake workers for the still ones, and count states."""
        for blob in self._operations.blobs():
            name = name_of_blob(blob)
            known = self._known.get(name)
            if known is None or known.etag != blob.etag:
                self._look(name)
            elif not known.record.ended:
                self._wake_if_still(known)
        counts = Counter(stored.record.state for stored in self._known.values())
        for state in State:
            telemetry.OPERATIONS.labels(self._operations.service, state.value).set(counts[state])
        telemetry.OPERATION_STILLNESS.labels(self._operations.service).set(self._stillest_s())

    def _stillest_s(self) -> float:
        running = (each for each in self._known.values() if each.record.state is State.RUNNING)
        return max(
            (self._stillness.seconds(each.record.name, each.etag) for each in running), default=0.0
        )

    def _look(self, name: str) -> None:
        try:
            stored = self._operations.read(name)
        except NotFound:
            self._known.pop(name, None)
            return
        except (Corrupt, InvalidInput) as error:
            # One bad record must not keep the others from being carried.
            if self._unreadable.get(name) != str(error):
                _log.critical("%s: cannot be read: %s", name, error)
            self._unreadable[name] = str(error)
            return
        self._known[name] = stored
        self._stillness.seconds(name, stored.etag)
        if stored.record.ended:
            self._stillness.forget(name)
            self._due.pop(name, None)
            self._folders.clear(stored.record)

    def _wake_if_still(self, stored: Stored) -> None:
        still_s = self._stillness.seconds(stored.record.name, stored.etag)
        etag, due_s = self._due.get(stored.record.name, ("", 0.0))
        if etag != stored.etag:
            due_s = self._lease_s
        if still_s >= due_s:
            self._operations.wake(stored.record)
            due_s = still_s + self._pause_s(stored.record, still_s)
        self._due[stored.record.name] = (stored.etag, due_s)

    def _pause_s(self, record: Record, still_s: float) -> float:
        # What waits in a long queue is not lost: wake for it ever more rarely, or the queue would
        # fill with copies of itself.
        return self._lease_s if record.state is State.RUNNING else still_s
