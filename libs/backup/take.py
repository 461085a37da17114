"""Take a backup of a store, also while services run.

What changes is copied before what it names, so that whatever is named is there: rounds, then the
operations of their steps, then the registry that those changed, then the artifacts, which never
change. An operation that went on meanwhile goes on after a restore, as after a kill. Not in it:
messages on the bus, which operations are woken without, and copies (search indexes, what Triton
serves), which are made anew.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from libs import forgotten
from libs.backup.archive import Entry, Writer
from libs.blobs.port import Blobs
from libs.errors import Corrupt, NotFound
from libs.manifest import MANIFEST, RUN, Manifest

RECORDS = ("rounds/", "operations/", "registry/")
"""What changes, in the order in which it is copied."""
COPIES = ("weights/", "requests/", "reports/")


class Taken(NamedTuple):
    """What a backup holds."""

    num_artifacts: int
    num_blobs: int
    size_bytes: int


def take(
    blobs: Blobs, path: Path, *, with_files: bool, tell: Callable[[int], None] = lambda done: None
) -> Taken:
    """Write a backup to a new file; `tell` is called with the number of artifacts done.

    Args:
        with_files: the artifacts' files too; without them they must be in the store that is
            restored into, beside their manifests they are large.

    Raises:
        Conflict: the file exists.
        Corrupt: a file of an artifact is missing or damaged.
        Busy, Unavailable: it cannot be written.
    """
    num_artifacts = 0
    with Writer(path) as writer:
        for prefix in (*RECORDS, *COPIES):
            for name, data in contents(blobs, prefix):
                writer.add(name, data)
        for artifact_id in _artifact_ids(blobs):
            num_artifacts += _add(blobs, writer, artifact_id, with_files=with_files)
            tell(num_artifacts)
        index = writer.index
    return Taken(num_artifacts, len(index), sum(each.size_bytes for each in index.values()))


def contents(blobs: Blobs, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes; what is deleted meanwhile is left out."""
    for blob in blobs.list(prefix):
        try:
            yield blob.name, blobs.read(blob.name).data
        except NotFound:
            continue


def _artifact_ids(blobs: Blobs) -> list[str]:
    names = (blob.name.split("/") for blob in blobs.list("artifacts/"))
    return sorted(artifact_id for _, artifact_id, file in names if file == MANIFEST)


def _add(blobs: Blobs, writer: Writer, artifact_id: str, *, with_files: bool) -> bool:
    """Add an artifact; False if it was deleted meanwhile."""
    folder = f"artifacts/{artifact_id}"
    try:
        data = blobs.read(f"{folder}/{MANIFEST}").data
        run = blobs.read(f"{folder}/{RUN}").data
    except NotFound:
        return False
    gone = forgotten.read(blobs, artifact_id)
    if gone is not None:
        writer.add(f"{folder}/{forgotten.FORGOTTEN}", forgotten.to_json(gone))
    for file in Manifest.from_json(data).files if with_files else ():
        if gone is not None and file.name in gone.files:
            continue
        name, entry = f"{folder}/{file.name}", Entry(file.size_bytes, file.sha256)
        try:
            writer.add_file(name, blobs.local(name), entry)
        except NotFound as error:
            raise Corrupt(f"{name} is missing: delete or mend its artifact first") from error
    writer.add(f"{folder}/{RUN}", run)
    writer.add(f"{folder}/{MANIFEST}", data)
    return True
