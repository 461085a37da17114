"""Find what nothing keeps any more, and for how long: the survey before anything is deleted.

Grace is counted from the first survey that found an artifact unneeded, in the age of the store.
Whatever an artifact that is still in its grace was made from waits with it, so that never one is
left whose inputs are gone. `garbage/marks.json` remembers what was found when.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import NamedTuple

from libs.blobs.port import Blobs, Read
from libs.blobs.swap import standing, swap
from libs.clock import Clock
from libs.errors import Busy, Conflict, Corrupt, InvalidInput, NotFound
from libs.formats import canonical_json
from libs.schema import Schema
from services.loop.roots import TOMBSTONE, Links, closure, read_roots
from services.loop.rounds import RoundRecord
from services.loop.store_age import StoreAge

SCHEMA = Schema(name="the marks of garbage", version=1)
MARKS = "garbage/marks.json"
GRACE_S = 86400.0
_DAY_S = 86400.0
_TRIES = 10


class Reason(StrEnum):
    """Why an artifact is garbage."""

    UNREACHABLE = "unreachable"
    """No model, exam, pin, round or operation leads to it."""
    UNFINISHED = "unfinished"
    """It has no manifest: whoever made it was killed, or whoever deleted it."""
    MISSING = "missing"
    """A request is answered by it, and it is gone."""


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """One artifact that nothing keeps."""

    artifact_id: str
    kind: str
    """Empty if it has no manifest."""
    size_bytes: int
    reason: Reason
    wait_s: float
    """Grace that is left, its own or that of what was made from it; 0: it may be deleted."""
    blobs: tuple[str, ...]
    """Its files."""
    requests: tuple[str, ...]
    """Blobs of the request index that name it."""


@dataclass(frozen=True, kw_only=True)
class _Marks:
    marks: Mapping[str, float] = field(default_factory=dict)
    """Artifact or ended operation to the age of the store, seconds, when it was found."""
    revision: int = 0


def _parse(stored: Read | None) -> _Marks:
    if stored is None:
        return _Marks()
    try:
        return _Marks(**SCHEMA.read(stored.data))
    except TypeError as error:
        raise Corrupt(f"{MARKS}: expected {SCHEMA.name}, got {error!r}") from error


class Stock(NamedTuple):
    """What the store holds."""

    files: Mapping[str, list[str]]
    """Artifact id to its blobs."""
    size_bytes: Counter[str]
    requests: Mapping[str, list[str]]
    """Artifact id to the blobs of the request index that name it."""


class Survey:
    """Surveys one object store."""

    def __init__(
        self, blobs: Blobs, *, clock: Clock, age: StoreAge, grace_s: float = GRACE_S
    ) -> None:
        self._blobs = blobs
        self._clock = clock
        self.age = age
        self._grace_s = grace_s
        self.links = Links(blobs)

    def garbage(self, *, rounds_older_than_days: float = 0.0) -> list[Garbage]:
        """Return what nothing keeps, by id, and mark what was not marked yet.

        Args:
            rounds_older_than_days: rounds that ended and began before so many days keep nothing;
                0: every round keeps what it made.

        Raises:
            Corrupt, InvalidInput: a record cannot be read, so what it keeps is unknown.
        """
        now_s = self.age.look()
        # Stock before roots: what is made meanwhile is not in it, and so not garbage.
        stock = stock_of(self._blobs)
        oldest_s = self._clock.now() - rounds_older_than_days * _DAY_S
        roots = read_roots(
            self._blobs, lambda each: _is_kept(each, oldest_s, all_=not rounds_older_than_days)
        )
        # Without its tombstone a document would come back with the next answer.
        tombstones = {id_ for id_, names in stock.files.items() if _is_tombstone(names)}
        reached = closure(roots.kept | tombstones, self.links)
        unneeded = {*stock.files, *stock.requests} - reached
        waits = self._waits(self._marked(now_s, {*unneeded, *roots.ended}))
        waiting = self._spread(
            (wait_s, roots.ended.get(name, {name})) for name, wait_s in waits.items()
        )
        return [self._found(each, stock, waiting.get(each, 0.0)) for each in sorted(unneeded)]

    def _marked(self, now_s: float, names: set[str]) -> Mapping[str, float]:
        """Mark these and nothing else, and return since how many seconds each is marked."""
        for _ in range(_TRIES):
            stored = standing(self._blobs, MARKS)
            before = _parse(stored)
            kept = {name: before.marks.get(name, now_s) for name in sorted(names)}
            if stored and kept == before.marks:
                break
            after = _Marks(marks=kept, revision=before.revision + 1)
            try:
                swap(self._blobs, MARKS, canonical_json(SCHEMA.stamped(asdict(after))), stored)
                break
            except Conflict:
                continue  # another survey was faster; what it marked is older than what we do
        else:
            raise Busy(f"{MARKS} was changed {_TRIES} times while it was written")
        return {name: now_s - since_s for name, since_s in kept.items()}

    def _waits(self, marked_s: Mapping[str, float]) -> Mapping[str, float]:
        return {name: max(0.0, self._grace_s - s) for name, s in marked_s.items()}

    def _spread(self, starts: Iterable[tuple[float, Iterable[str]]]) -> Mapping[str, float]:
        """Let everything wait as long as the longest waiting of those that lead to it."""
        waiting: dict[str, float] = {}
        for wait_s, ids in sorted(starts, key=lambda each: -each[0]):
            if wait_s > 0:
                for each in closure(ids, lambda id_: () if id_ in waiting else self.links(id_)):
                    waiting.setdefault(each, wait_s)
        return waiting

    def _found(self, artifact_id: str, stock: Stock, wait_s: float) -> Garbage:
        manifest = self.links.manifest(artifact_id)
        reason = Reason.UNREACHABLE if manifest else Reason.UNFINISHED
        return Garbage(
            artifact_id=artifact_id,
            kind=manifest.kind if manifest else "",
            size_bytes=stock.size_bytes[artifact_id],
            reason=reason if artifact_id in stock.files else Reason.MISSING,
            wait_s=wait_s,
            blobs=tuple(stock.files.get(artifact_id, ())),
            requests=tuple(stock.requests.get(artifact_id, ())),
        )


def stock_of(blobs: Blobs) -> Stock:
    """List every artifact, and every answer in the request index."""
    files: dict[str, list[str]] = {}
    sizes: Counter[str] = Counter()
    for blob in blobs.list("artifacts/"):
        artifact_id = blob.name.split("/")[1]
        files.setdefault(artifact_id, []).append(blob.name)
        sizes[artifact_id] += blob.size_bytes
    requests: dict[str, list[str]] = {}
    for blob in blobs.list("requests/"):
        try:
            requests.setdefault(blobs.read(blob.name).data.decode(), []).append(blob.name)
        except NotFound:
            continue
    return Stock(files, sizes, requests)


def check_days(days: float) -> None:
    """Raise `InvalidInput` unless rounds may be kept for so many days; 0 keeps them all."""
    if not 0 <= days < math.inf:
        raise InvalidInput(f"rounds_older_than_days must be 0 or more, got {days:g}")


def _is_tombstone(names: Iterable[str]) -> bool:
    return any(name.endswith(f"/{TOMBSTONE}") for name in names)


def _is_kept(record: RoundRecord, oldest_s: float, *, all_: bool) -> bool:
    return all_ or record.outcome is None or record.create_time + record.duration_s > oldest_s
