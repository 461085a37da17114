"""How long the store was seen to exist, on clocks that only go forward: what grace is counted in.

A wall clock that is wrong by a day would end a day of grace at once. So time counts that a process
saw pass on its monotonic clock, or that passed since the last look on the same boot of the same
machine. While nothing looks, and the machine was started anew, no time counts: grace grows longer,
never shorter.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from libs.blobs.port import Blobs, Read
from libs.blobs.swap import standing, swap
from libs.errors import Conflict, Corrupt
from libs.formats import canonical_json
from libs.schema import Schema

SCHEMA = Schema(name="the store's age", version=1)
BLOB = "garbage/age.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Moment(NamedTuple):
    """A moment of one boot of one machine."""

    boot_id: str
    """Empty if the machine does not tell."""
    seconds: float
    """Since that boot, or another fixed moment of it."""


def now() -> Moment:
    """Return this moment; what the machine sleeps counts too."""
    try:
        return Moment(_BOOT_ID.read_text().strip(), time.clock_gettime(time.CLOCK_BOOTTIME))
    except (OSError, AttributeError):  # another system than Linux
        return Moment("", time.monotonic())


@dataclass(frozen=True, kw_only=True)
class _Age:
    age_s: float = 0.0
    boot_id: str = ""
    boot_s: float = 0.0
    revision: int = 0


class StoreAge:
    """Counts the age of one object store; any number of processes may."""

    def __init__(self, blobs: Blobs, *, moment: Callable[[], Moment] = now) -> None:
        self._blobs = blobs
        self._moment = moment
        self._seen = (-1, 0.0)
        """Revision, and when this process saw it first."""

    def look(self, *, take_over: bool = True) -> float:
        """Count the time that passed since the last look, and return the age in seconds.

        Without `take_over` it leaves the counting to another machine that goes on with it.
        """
        while True:
            stored = standing(self._blobs, BLOB)
            age = _parse(stored)
            moment = self._moment()
            passed_s = self._passed_s(age, moment)
            if stored and not passed_s and not take_over:
                return age.age_s
            after = _Age(
                age_s=age.age_s + passed_s,
                boot_id=moment.boot_id,
                boot_s=moment.seconds,
                revision=age.revision + 1,
            )
            data = canonical_json(SCHEMA.stamped(asdict(after)))
            try:
                swap(self._blobs, BLOB, data, stored)
            except Conflict:
                continue  # counted by somebody else: what is left is counted next
            self._seen = (after.revision, moment.seconds)
            return after.age_s

    def _passed_s(self, age: _Age, moment: Moment) -> float:
        if age.boot_id and age.boot_id == moment.boot_id:
            return max(0.0, moment.seconds - age.boot_s)
        revision, since_s = self._seen
        if revision != age.revision:
            self._seen, since_s = (age.revision, moment.seconds), moment.seconds
        return moment.seconds - since_s


def _parse(stored: Read | None) -> _Age:
    if stored is None:
        return _Age()
    try:
        return replace(_Age(), **SCHEMA.read(stored.data))
    except TypeError as error:
        raise Corrupt(f"{BLOB}: expected {SCHEMA.name}, got {error!r}") from error
