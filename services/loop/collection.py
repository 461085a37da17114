"""Delete garbage so that a kill at any moment, and whoever runs beside it, loses nothing.

For each batch: list it as condemned, survey again, and delete what is garbage still. Whoever named
one of them in a record before it was listed is seen by the second survey; whoever does so after
finds it on the list, and waits. One artifact goes after another, what was made from it before it:
first what answers requests with it, then its manifest, then its files.
"""

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple

from libs.blobs.port import Blobs
from libs.bus import claims
from libs.clock import Clock
from libs.condemned import Condemned
from libs.errors import RETRYABLE, Conflict, ServiceError
from libs.lm import weights
from services.loop.garbage import Garbage, Survey

_BATCH = 500
"""Artifacts that are condemned at once: whoever waits for one waits for no more than these."""
_log = logging.getLogger(__name__)


class Progress(NamedTuple):
    """How far a collection is."""

    num_deleted: int
    num_due: int
    size_bytes: int


class Collector:
    """Deletes the garbage of one object store."""

    def __init__(
        self, blobs: Blobs, survey: Survey, *, clock: Clock, is_over: Callable[[str], bool]
    ) -> None:
        """Use the parts; `is_over` says of an operation whether it ended, or never was."""
        self._blobs = blobs
        self._survey = survey
        self._condemned = Condemned(blobs)
        self._clock = clock
        self._is_over = is_over

    def collect(
        self,
        operation: str,
        *,
        tell: Callable[[Progress], None],
        rounds_older_than_days: float = 0.0,
    ) -> Progress:
        """Delete everything whose grace is over, and large messages that nobody reads any more.

        `tell` may raise to end it between two artifacts.

        Raises:
            Conflict: another collection goes on, or another attempt at this one took over.
        """
        self.absolve()
        owner = f"{operation}#{uuid.uuid4().hex}"
        done = Progress(0, 0, 0)
        self._condemned.put(owner, ())
        try:
            while due := self._due(rounds_older_than_days):
                done = done._replace(num_due=done.num_deleted + len(due))
                batch = self._in_order(due)[:_BATCH]
                self._condemned.put(owner, batch)
                still = self._due(rounds_older_than_days)
                for artifact_id in batch:
                    tell(done)
                    self._check(owner)
                    if artifact_id in still:
                        self._delete(still[artifact_id])
                        size_bytes = done.size_bytes + still[artifact_id].size_bytes
                        done = Progress(done.num_deleted + 1, done.num_due, size_bytes)
            for claim in claims.expired(self._blobs, self._clock):
                tell(done)
                self._blobs.delete(claim)
        finally:
            self._condemned.clear(owner)
        return done

    def absolve(self) -> None:
        """Take off the list what a collection left there that ended without a word."""
        listed = self._condemned.read()
        if listed.owner and self._is_over(listed.operation):
            _log.warning("%s ended with %d artifacts condemned", listed.operation, len(listed.ids))
            self._condemned.clear(listed.owner)

    def tend(self) -> None:
        """Do what is due now and then while a loop runs: count the store's age, and `absolve`."""
        try:
            self._survey.age.look(take_over=False)
            self.absolve()
        except RETRYABLE:
            raise
        except ServiceError as error:
            _log.warning("garbage is not tended: %s", error)

    def _due(self, rounds_older_than_days: float) -> Mapping[str, Garbage]:
        found = self._survey.garbage(rounds_older_than_days=rounds_older_than_days)
        return {each.artifact_id: each for each in found if not each.wait_s}

    def _in_order(self, ids: Iterable[str]) -> Sequence[str]:
        """Return what was made from others before these."""
        wanted = {*ids}
        sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(sorted(wanted), ()))
        for each in sorted(wanted):
            for named in sorted(wanted.intersection(self._survey.links(each)) - {each}):
                sorter.add(named, each)
        return [*sorter.static_order()]

    def _check(self, owner: str) -> None:
        found = self._condemned.read().owner
        if found != owner:
            raise Conflict(f"expected the list of {owner}, got that of {found or 'nobody'}")

    def _delete(self, garbage: Garbage) -> None:
        _log.info("deleting %s %s: %s", garbage.kind, garbage.artifact_id, garbage.reason)
        for request in garbage.requests:
            self._blobs.delete(request)
        if garbage.kind == "checkpoint":
            weights.disown(self._blobs, garbage.artifact_id)
        manifest = f"artifacts/{garbage.artifact_id}/manifest.json"
        for name in sorted(garbage.blobs, key=lambda name: name != manifest):
            self._blobs.delete(name)
