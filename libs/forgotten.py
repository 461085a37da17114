"""Artifacts whose text was taken away on purpose, and what stands in their place.

An artifact never changes, so a document is forgotten by making another one without it, and by
deleting those files of the first that differ. Its manifest stays, so that what was made from it can
still be walked, beside `artifacts/<id>/forgotten.json`, which says where to go on. It does *not*
reach what was made from the artifact before: token ids, weights, printed reports.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

from libs.blobs.port import Blobs
from libs.errors import Conflict, Corrupt, NotFound
from libs.formats import canonical_json
from libs.schema import Schema

SCHEMA = Schema(name="the mark of what was forgotten", version=1)
FORGOTTEN = "forgotten.json"


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What was taken from one artifact."""

    replacement_id: str
    """Artifact without the documents."""
    document_ids: tuple[str, ...]
    files: tuple[str, ...]
    """Names of those that held them, which are deleted."""


def read(blobs: Blobs, artifact_id: str) -> Forgotten | None:
    """Return what was taken from an artifact, None if nothing was."""
    try:
        return from_json(blobs.read(_name(artifact_id)).data)
    except NotFound:
        return None


def from_json(data: bytes) -> Forgotten:
    """Read a mark. Raises `Corrupt` if it is none, `InvalidInput` if it is newer than this code."""
    fields = SCHEMA.read(data)
    try:
        lists = {each: tuple(fields[each]) for each in ("document_ids", "files")}
        return Forgotten(**fields | lists)
    except (TypeError, KeyError) as error:
        raise Corrupt(f"expected {SCHEMA.name}, got {error!r}") from error


def to_json(forgotten: Forgotten) -> bytes:
    """Return the bytes to store."""
    return canonical_json(SCHEMA.stamped(asdict(forgotten)))


def replacement(blobs: Blobs, artifact_id: str) -> str | None:
    """Return what stands in an artifact's place today, None if it still stands itself."""
    found = None
    while (forgotten := read(blobs, artifact_id)) is not None:
        found = artifact_id = forgotten.replacement_id
    return found


def supersede(blobs: Blobs, artifact_id: str, forgotten: Forgotten) -> None:
    """Put the replacement in an artifact's place and delete the files; safe to repeat.

    The mark is first: whoever makes the same artifact meanwhile is answered by the replacement.

    Raises:
        Conflict: something else was forgotten of it at the same time.
    """
    data = to_json(forgotten)
    try:
        blobs.create(_name(artifact_id), data)
    except Conflict:
        if blobs.read(_name(artifact_id)).data != data:
            raise
    for request, etag in [*_answered_by(blobs, artifact_id)]:
        with suppress(Conflict, NotFound):  # answered anew meanwhile, or deleted
            blobs.replace_if(request, forgotten.replacement_id.encode(), etag=etag)
    for file in forgotten.files:
        blobs.delete(f"artifacts/{artifact_id}/{file}")


def _answered_by(blobs: Blobs, artifact_id: str) -> Iterator[tuple[str, str]]:
    for blob in blobs.list("requests/"):
        with suppress(NotFound):
            stored = blobs.read(blob.name)
            if stored.data.decode() == artifact_id:
                yield blob.name, stored.etag


def _name(artifact_id: str) -> str:
    return f"artifacts/{artifact_id}/{FORGOTTEN}"
