"""Restore a backup into an empty store, so that a kill at any moment leaves one to go on with.

The whole backup is checked before anything is written. What is named is written before what names
it: artifacts, then the registry, rounds, and the operations that services take up at once.
`registry/restored.json` says which backup a store is from, and lets the same restore go on.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from libs import forgotten
from libs.artifacts import Artifacts
from libs.backup.archive import Backup, Entry
from libs.backup.take import RECORDS
from libs.blobs.port import Blobs
from libs.errors import Conflict, Corrupt, NotFound
from libs.formats import canonical_json
from libs.manifest import MANIFEST, Manifest
from libs.schema import Schema

SCHEMA = Schema(name="the mark of a restore", version=1)
MARK = "registry/restored.json"
_STARTS_ROUNDS = b'"method":"StartRound"'


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Which backup a store is from."""

    backup_sha256: str
    done: bool = False
    revision: int = 1


class Restored(NamedTuple):
    """What was restored."""

    num_artifacts: int
    num_blobs: int


def restore(
    blobs: Blobs, path: Path, *, tell: Callable[[int], None] = lambda done: None
) -> Restored:
    """Restore a backup; `tell` is called with the number of blobs done. Safe to repeat and to kill.

    Raises:
        NotFound, Corrupt, InvalidInput: it is no whole backup that this version reads; or it has
            no files, and the store misses one.
        Conflict: the store holds records that are not of this backup.
    """
    backup = Backup(path)
    marked = mark(blobs)
    if marked is None:
        _require_empty(blobs)
    elif marked.backup_sha256 != backup.sha256 or marked.done:
        raise Conflict(f"expected an empty store, got one that a backup was restored into: {MARK}")
    manifests = _check_files(blobs, backup)
    if marked is None:
        begun = Mark(backup_sha256=backup.sha256)
        blobs.create(MARK, canonical_json(SCHEMA.stamped(asdict(begun))))
    with TemporaryDirectory() as folder:
        for number, (name, content) in enumerate(_in_order(backup, Path(folder))):
            _put(blobs, name, content, backup.index[name])
            tell(number + 1)
    _finish(blobs)
    return Restored(len(manifests), len(backup.index))


def _require_empty(blobs: Blobs) -> None:
    for prefix in RECORDS:
        found = next(iter(blobs.list(prefix)), None)
        if found is not None:
            raise Conflict(f"expected an empty store to restore into, got one with {found.name}")


def mark(blobs: Blobs) -> Mark | None:
    try:
        fields = SCHEMA.read(blobs.read(MARK).data)
    except NotFound:
        return None
    try:
        return Mark(**fields)
    except TypeError as error:
        raise Corrupt(f"{MARK}: expected {SCHEMA.name}, got {error!r}") from error


def _finish(blobs: Blobs) -> None:
    stored = blobs.read(MARK)
    done = replace(Mark(**SCHEMA.read(stored.data)), done=True, revision=2)
    blobs.replace_if(MARK, canonical_json(SCHEMA.stamped(asdict(done))), etag=stored.etag)


def _check_files(blobs: Blobs, backup: Backup) -> Sequence[Manifest]:
    """Require every file that a manifest names, in the backup or else in the store."""
    manifests = []
    gone: Sequence[str] = ()
    for name, file in backup.blobs():
        if name.startswith("artifacts/") and name.endswith(f"/{forgotten.FORGOTTEN}"):
            gone = forgotten.from_json(file.read()).files  # lies before its manifest
        if not name.startswith("artifacts/") or not name.endswith(f"/{MANIFEST}"):
            continue
        data = file.read()
        manifest = Manifest.from_json(data)
        manifests.append(manifest)
        if name != f"artifacts/{manifest.id}/{MANIFEST}":
            raise Corrupt(f"{backup.path}: {name}: expected that of {manifest.id}")
        for each in manifest.files:
            if each.name in gone:
                continue
            expected = Entry(each.size_bytes, each.sha256)
            _check_file(blobs, backup, f"artifacts/{manifest.id}/{each.name}", expected)
        gone = ()
    return manifests


def _check_file(blobs: Blobs, backup: Backup, name: str, expected: Entry) -> None:
    found = backup.index.get(name)
    if found is None:
        problem = Artifacts(blobs).problem(name, expected.size_bytes, expected.sha256)
        if problem:
            raise Corrupt(
                f"{backup.path} has no files, and in the store {name} is not as expected: {problem}"
            )
    elif found != expected:
        raise Corrupt(f"{backup.path}: {name}: expected sha256 {expected.sha256}, got {found}")


def _in_order(backup: Backup, folder: Path) -> Iterator[tuple[str, bytes | Path]]:
    """Yield the blobs, artifacts first as they lie, then records in the order to write them in."""
    held: list[tuple[str, bytes]] = []
    for name, file in backup.blobs():
        if name.startswith(RECORDS):
            held.append((name, file.read()))
        elif backup.index[name].size_bytes < 1 << 20:
            yield name, file.read()
        else:
            with (folder / "blob").open("wb") as copy:
                shutil.copyfileobj(file, copy)
            yield name, folder / "blob"
    yield from sorted(held, key=_rank)


def _rank(held: tuple[str, bytes]) -> tuple[int, bool, str]:
    name, data = held
    order: Iterable[Any] = ("registry/", "rounds/", "operations/")
    place = next(number for number, prefix in enumerate(order) if name.startswith(prefix))
    # What drives a round looks at the operations of its steps: they come before it.
    return place, _STARTS_ROUNDS in data, name


def _put(blobs: Blobs, name: str, content: bytes | Path, entry: Entry) -> None:
    """Create a blob; one that is there already must hold the same."""
    if name == MARK:  # of the store that was backed up: it had been restored itself
        return
    with suppress(Conflict):
        blobs.create(name, content)
        return
    if name.startswith("artifacts/") and not name.endswith("/run.json"):
        problem = Artifacts(blobs).problem(name, entry.size_bytes, entry.sha256)
        if problem:
            raise Corrupt(f"{name} stands in the store already, and is damaged: {problem}")
