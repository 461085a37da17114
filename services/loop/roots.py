"""What is kept, and why: every artifact that a record names, and all that those were made from.

An id is 64 hexadecimal digits wherever it stands, so whatever a registry, a round or an operation
names is found without knowing their fields, and a field that is added tomorrow is found too. A
weights digest stands for the checkpoint that holds the weights.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from libs.blobs.port import Blobs
from libs.errors import Corrupt, NotFound
from libs.forgotten import FORGOTTEN
from libs.manifest import MANIFEST, Manifest
from libs.operations.record import Record
from services.loop.rounds import RoundRecord

_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
TOMBSTONE = "tombstone.json"
_NAMING = ("round.json", TOMBSTONE, FORGOTTEN)
"""Files of an artifact that name others, beside its manifest."""


@dataclass(frozen=True, kw_only=True)
class Roots:
    """What records name."""

    kept: frozenset[str]
    """By the registry (models, exams, pins), by operations that go on, by rounds."""
    ended: Mapping[str, frozenset[str]]
    """By operations that ended and belong to no such round: name to ids. Kept for the grace."""


def read_roots(blobs: Blobs, is_kept: Callable[[RoundRecord], bool]) -> Roots:
    """Read every record; `is_kept` says of a round whether it is a root.

    Raises:
        Corrupt, InvalidInput: a record cannot be read, so what it names is unknown.
    """
    # Operations before rounds: what an operation ended with stands in its round by then, or the
    # round goes on and is seen to.
    operations = [Record.from_json(data) for data in _contents(blobs, "operations/")]
    texts = [*_contents(blobs, "rounds/")]
    rounds = [(RoundRecord.from_json(data), data) for data in texts]
    kept_rounds = {record.id: data for record, data in rounds if is_kept(record)}
    weights = {blob.name.rpartition("/")[2]: blob.name for blob in blobs.list("weights/")}
    kept: set[str] = set()
    ended: dict[str, frozenset[str]] = {}
    for record in operations:
        if record.ended and _round_of(record, kept_rounds) is None:
            ended[record.name] = frozenset(_with_weights(blobs, weights, _named_by(record)))
        else:
            kept.update(_named_by(record))
    for data in (*kept_rounds.values(), *_contents(blobs, "registry/")):
        kept.update(named_in(data))
    return Roots(kept=frozenset(_with_weights(blobs, weights, kept)), ended=ended)


def named_in(data: bytes) -> Iterator[str]:
    """Yield what stands in the bytes and may be an id."""
    return (match.group().decode() for match in _ID.finditer(data))


def closure(start: Iterable[str], links: Callable[[str], Iterable[str]]) -> frozenset[str]:
    """Return the ids and all that they link to, however far."""
    found: set[str] = set()
    left = [*start]
    while left:
        each = left.pop()
        if each not in found:
            found.add(each)
            left.extend(links(each))
    return frozenset(found)


class Links:
    """What artifacts name: their inputs, a round its steps', and what stands in their place.

    Remembered: manifests never change. What is forgotten later is kept by its tombstone.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._manifests: dict[str, Manifest] = {}
        self._links: dict[str, frozenset[str]] = {}

    def manifest(self, artifact_id: str) -> Manifest | None:
        """Return a manifest, None if there is none."""
        if artifact_id not in self._manifests:
            try:
                data = self._blobs.read(f"artifacts/{artifact_id}/{MANIFEST}").data
            except NotFound:
                return None
            if sha256(data).hexdigest() != artifact_id:
                raise Corrupt(f"artifact {artifact_id}: what its {MANIFEST} names is damaged")
            self._manifests[artifact_id] = Manifest.from_json(data)
        return self._manifests[artifact_id]

    def __call__(self, artifact_id: str) -> frozenset[str]:
        """Return the ids that an artifact names; none if it does not exist."""
        if artifact_id not in self._links:
            manifest = self.manifest(artifact_id)
            if manifest is None:
                return frozenset()
            self._links[artifact_id] = frozenset(self._named_by(artifact_id, manifest))
        return self._links[artifact_id]

    def _named_by(self, artifact_id: str, manifest: Manifest) -> Iterator[str]:
        yield from named_in(manifest.to_json())
        names = {file.name for file in manifest.files} | {FORGOTTEN}
        for name in names.intersection(_NAMING):
            with suppress(NotFound):  # nothing was forgotten, or its files are being removed
                yield from named_in(self._blobs.read(f"artifacts/{artifact_id}/{name}").data)


def _contents(blobs: Blobs, prefix: str) -> Iterator[bytes]:
    for blob in blobs.list(prefix):
        try:
            yield blobs.read(blob.name).data
        except NotFound:
            continue


def _named_by(record: Record) -> Iterator[str]:
    yield from named_in(record.request)
    yield record.holds
    yield record.result.artifact_id if record.result else ""


def _round_of(record: Record, rounds: Mapping[str, object]) -> str | None:
    """Return the round that an operation drives or is a step of, if it is one of these."""
    head = record.request_id.partition(".")[0]
    return next((each for each in (head, record.id) if each in rounds), None)


def _with_weights(blobs: Blobs, weights: Mapping[str, str], named: Iterable[str]) -> Iterator[str]:
    for each in named:
        if each in weights:
            yield from (id_.decode() for id_ in [blobs.read(weights[each]).data] if id_)
        if each:
            yield each
