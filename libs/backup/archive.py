"""One backup: a tar file of blobs by name, and last an index with the sha256 of each.

The index comes last because digests are taken as bytes go by; a backup that was cut has none, and
so is none. Any tar opens it: `blobs/registry/models.json` is the registry of models.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from libs.errors import KINDS, Conflict, Corrupt, InvalidInput, NotFound, Unavailable, scarce
from libs.formats import canonical_json
from libs.schema import Schema

SCHEMA = Schema(name="the index of a backup", version=1)
_BLOBS, _INDEX = "blobs/", "index.json"
_CHUNK_BYTES = 1 << 20


class Entry(NamedTuple):
    """One blob of a backup."""

    size_bytes: int
    sha256: str


class Writer:
    """Writes a backup beside its name and puts it there once it is whole."""

    def __init__(self, path: Path) -> None:
        """Begin `path`. Raises `Conflict` if it exists, `Unavailable` if it cannot be written."""
        if path.exists():
            raise Conflict(f"{path} exists: name a backup that does not")
        self._path, self._part = path, path.with_name(f"{path.name}.part")
        self.index: dict[str, Entry] = {}
        with _failures(path):
            self._tar = tarfile.open(self._part, "w")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the backup in its place; after an error nothing is left."""
        try:
            if error is None:
                with _failures(self._path):
                    self._finish()
        finally:
            self._tar.close()
            self._part.unlink(missing_ok=True)

    def add(self, name: str, data: bytes) -> None:
        """Add a blob from memory."""
        with _failures(self._path):
            self._tar.addfile(_member(_BLOBS + name, len(data)), io.BytesIO(data))
        self.index[name] = Entry(len(data), hashlib.sha256(data).hexdigest())

    def add_file(self, name: str, path: Path, entry: Entry) -> None:
        """Add a blob from a local file whose bytes are those of `entry`."""
        with _failures(self._path), path.open("rb") as file:
            self._tar.addfile(_member(_BLOBS + name, entry.size_bytes), file)
        self.index[name] = entry

    def _finish(self) -> None:
        entries = {name: entry._asdict() for name, entry in self.index.items()}
        data = canonical_json(SCHEMA.stamped({"blobs": entries}))
        self._tar.addfile(_member(_INDEX, len(data)), io.BytesIO(data))
        self._tar.close()
        with self._part.open("rb+") as file:
            os.fsync(file.fileno())
        try:
            os.link(self._part, self._path)  # unlike a rename it replaces nothing
        except FileExistsError as error:
            raise Conflict(f"{self._path} was made by somebody else meanwhile") from error


class Backup:
    """A backup whose every byte was checked."""

    def __init__(self, path: Path) -> None:
        """Open and check a backup.

        Raises:
            NotFound: there is no such file.
            Corrupt: it is no backup, or cut, or bytes are not those of its index: names the blob.
            InvalidInput: a newer version of Athanor wrote it.
        """
        self.path = path
        found: dict[str, Entry] = {}
        index: dict[str, Any] | None = None
        with _failures(path):
            for name, file in _members(path):
                if name == _INDEX:
                    data = file.read()
                    self.sha256 = hashlib.sha256(data).hexdigest()
                    """Of the index, and so of all that it holds."""
                    index = SCHEMA.read(data)
                else:
                    found[name.removeprefix(_BLOBS)] = _digest(file)
        if index is None:
            raise Corrupt(f"{path}: expected a backup, which ends with {_INDEX}: it was cut")
        try:
            self.index = {name: Entry(**fields) for name, fields in index["blobs"].items()}
        except (TypeError, KeyError, AttributeError) as error:
            raise Corrupt(f"{path}: expected {SCHEMA.name}, got {error!r}") from error
        _compare(path, self.index, found)

    def blobs(self) -> Iterator[tuple[str, io.BufferedIOBase]]:
        """Yield the blobs as they lie, each to be read before the next."""
        for name, file in _members(self.path):
            if name != _INDEX:
                yield name.removeprefix(_BLOBS), file


def _compare(path: Path, expected: dict[str, Entry], found: dict[str, Entry]) -> None:
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            shown = " got ".join(
                f"sha256 {each.sha256}," if each else "nothing,"
                for each in (expected.get(name), found.get(name))
            )
            raise Corrupt(f"{path}: {name}: expected {shown.rstrip(',')}")


def _members(path: Path) -> Iterator[tuple[str, Any]]:
    with _failures(path), tarfile.open(path, "r:") as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is None:
                raise Corrupt(f"{path}: {member.name} is no file")
            yield member.name, file


def _digest(file: Any) -> Entry:
    digest, size_bytes = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
        size_bytes += len(chunk)
    return Entry(size_bytes, digest.hexdigest())


def _member(name: str, size_bytes: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    return member


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    try:
        yield
    except KINDS:
        raise
    except tarfile.TarError as error:
        raise Corrupt(f"{path}: expected a backup, got: {error}") from error
    except FileNotFoundError as error:
        raise NotFound(f"{error.filename or path}: there is no such file or folder") from error
    except IsADirectoryError as error:
        raise InvalidInput(f"{path}: expected a file, got a folder") from error
    except OSError as error:
        raise scarce(error) or Unavailable(f"backup {path}: {error.strerror or error}") from error
