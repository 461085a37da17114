"""Artifacts that a person wants kept: who pinned each, and why; `registry/pins.json`."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from libs.artifacts import Artifacts
from libs.blobs.port import Blobs, Read
from libs.blobs.swap import standing, swap
from libs.errors import Conflict, Corrupt, NotFound
from libs.formats import canonical_json
from libs.schema import Schema

SCHEMA = Schema(name="the pins", version=1)
_BLOB = "registry/pins.json"


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One artifact that is kept."""

    artifact_id: str
    who: str
    why: str
    when: str
    """RFC 3339, wall clock."""


@dataclass(frozen=True, kw_only=True)
class _Pinned:
    pins: tuple[Pin, ...] = ()
    revision: int = 0


class Pins:
    """The pins of one object store. Every call raises as `Blobs` does, besides its own."""

    def __init__(self, blobs: Blobs, artifacts: Artifacts) -> None:
        self._blobs = blobs
        self._artifacts = artifacts

    def all(self) -> tuple[Pin, ...]:
        """Return the pins, oldest first."""
        return _parse(standing(self._blobs, _BLOB)).pins

    def pin(self, pin: Pin) -> Pin:
        """Keep an artifact with all it was made from, and return its pin; the first one stands.

        Raises:
            NotFound: there is no such artifact, or it was being removed.
        """
        self._artifacts.open(pin.artifact_id)
        pins = self._change(lambda pins: pins if _of(pins, pin.artifact_id) else (*pins, pin))
        # Written before it is looked at: a collection saw the pin, or is seen here.
        self._artifacts.settle([pin.artifact_id], check=_nothing)
        try:
            self._artifacts.open(pin.artifact_id)
        except NotFound:
            self.unpin(pin.artifact_id)
            raise
        return next(each for each in pins if each.artifact_id == pin.artifact_id)

    def unpin(self, artifact_id: str) -> None:
        """Keep an artifact no longer for its own sake. Raises `NotFound` if it is not pinned."""
        if not _of(self.all(), artifact_id):
            raise NotFound(f"artifact {artifact_id} is not pinned")
        self._change(lambda pins: tuple(each for each in pins if each.artifact_id != artifact_id))

    def _change(self, change: Callable[[tuple[Pin, ...]], tuple[Pin, ...]]) -> tuple[Pin, ...]:
        while True:
            stored = standing(self._blobs, _BLOB)
            pinned = _parse(stored)
            after = replace(pinned, pins=change(pinned.pins), revision=pinned.revision + 1)
            if after.pins == pinned.pins:
                return after.pins
            data = canonical_json(SCHEMA.stamped(asdict(after)))
            try:
                swap(self._blobs, _BLOB, data, stored)
            except Conflict:
                continue  # somebody else was faster
            return after.pins


def _parse(stored: Read | None) -> _Pinned:
    if stored is None:
        return _Pinned()
    fields = SCHEMA.read(stored.data)
    try:
        pins = tuple(Pin(**each) for each in fields.pop("pins"))
        return _Pinned(**fields, pins=pins)
    except (TypeError, KeyError) as error:
        raise Corrupt(f"{_BLOB}: expected {SCHEMA.name}, got {error!r}") from error


def _of(pins: tuple[Pin, ...], artifact_id: str) -> bool:
    return any(each.artifact_id == artifact_id for each in pins)


def _nothing() -> None:
    pass
