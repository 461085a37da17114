"""The artifacts that garbage collection removes this moment: a list that users look at.

A user and a collection meet here, each writing before it looks, so that one sees the other:

    a user         names the artifact in its operation's record, then looks at the list
    a collection   puts the artifact on the list, then looks at the records

So what is used is spared, or its user waits here until it is gone and makes it anew. The blob
`garbage/condemned.json` holds the list of one collection at a time. It does *not* protect against
a collection whose process is stopped for longer than its lease within one call of the store, which
may then delete one file of what was made anew meanwhile; the next use finds that and mends it.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

from libs.blobs.port import Blobs, Read
from libs.blobs.swap import standing, swap
from libs.errors import Busy, Conflict, Corrupt
from libs.formats import canonical_json
from libs.schema import Schema

SCHEMA = Schema(name="the list of condemned artifacts", version=1)
BLOB = "garbage/condemned.json"
_PATIENCE_S = 300.0
_LOOK_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What stands on the list."""

    owner: str = ""
    """Operation that collects, and a number of its attempt after `#`; empty: nothing is listed."""
    ids: tuple[str, ...] = ()
    revision: int = 0

    @property
    def operation(self) -> str:
        """Operation that collects."""
        return self.owner.partition("#")[0]


class Condemned:
    """The list of one object store. Every call raises as `Blobs` does."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def read(self) -> Listed:
        """Return what stands on the list. Raises `Corrupt`, `InvalidInput` if it cannot be read."""
        return _parse(standing(self._blobs, BLOB))

    def put(self, owner: str, ids: Iterable[str]) -> None:
        """List what `owner` is about to remove, in place of what it, or nobody, had listed.

        Raises:
            Conflict: another collection's list stands.
        """
        stored = standing(self._blobs, BLOB)
        listed = _parse(stored)
        if listed.owner and listed.operation != Listed(owner=owner).operation:
            raise Conflict(f"expected no other collection, got that of {listed.operation}")
        self._write(replace(listed, owner=owner, ids=tuple(ids)), stored)

    def clear(self, owner: str) -> None:
        """Take everything off the list, if it is the owner's; idempotent."""
        stored = standing(self._blobs, BLOB)
        listed = _parse(stored)
        if listed.owner == owner:
            self._write(Listed(revision=listed.revision), stored)

    def settle(self, artifact_ids: Iterable[str], *, check: Callable[[], None]) -> None:
        """Return once none of them is being removed: each is to be had whole, or is gone.

        `check` is called between looks, and what it raises ends the wait.

        Raises:
            Busy: one stayed listed for five minutes.
        """
        wanted, give_up = {*artifact_ids}, time.monotonic() + _PATIENCE_S
        while being_removed := wanted.intersection(self.read().ids):
            if time.monotonic() > give_up:
                raise Busy(
                    f"artifact {min(being_removed)} is being removed as garbage since "
                    f"{_PATIENCE_S:.0f} s by {self.read().operation or 'a collection'}"
                )
            check()
            time.sleep(_LOOK_S)

    def _write(self, listed: Listed, before: Read | None) -> None:
        """Write the next revision. Raises `Conflict` if somebody else was faster."""
        raised = replace(listed, revision=listed.revision + 1)
        swap(self._blobs, BLOB, canonical_json(SCHEMA.stamped(asdict(raised))), before)


def _parse(stored: Read | None) -> Listed:
    if stored is None:
        return Listed()
    fields = SCHEMA.read(stored.data)
    try:
        return Listed(**fields | {"ids": tuple(fields["ids"])})
    except (TypeError, KeyError) as error:
        raise Corrupt(f"{BLOB}: expected {SCHEMA.name}, got {error!r}") from error
