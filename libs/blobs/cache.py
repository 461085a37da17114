"""Local copies of blobs, bounded in size, shared by the processes of a machine.

    <name>            a copy, read-only, named as its blob; not trusted: its digest is checked
    .temp/<random>    a copy that is still being fetched, locked by its writer

A file in use is never removed: a process keeps a shared lock on each of the files that it asked for
last, `_HELD` of them, until it ends; only a file that nobody holds is removed, oldest access first
(as far as the file system tells: with `relatime` within a day, with `noatime` by age). A file that
was removed while open stays readable to who has it open. So the bound may be exceeded by what is
in use, and by one fetch.
"""

import fcntl
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from libs.digests import remembered
from libs.errors import Unavailable, scarce

MAX_BYTES = 20 << 30
_TEMP = ".temp"
_HELD = 256
"""Files that one process holds; each costs a descriptor."""
_TEMP_GRACE_S = 60.0
_LOOK_SHARE = 16
"""The folder is measured whenever a sixteenth of the bound was fetched."""


class _Copy(NamedTuple):
    accessed: float
    size_bytes: int
    path: Path


class Cache:
    """Copies under one folder. Thread-safe, and safe beside other processes."""

    def __init__(self, root: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Use `root`; it is made by the first fetch."""
        self._root = root.absolute()
        self._max_bytes = max_bytes
        self._fetched_bytes = max_bytes  # so that the first fetch measures
        self._lock = threading.Lock()
        self._held: OrderedDict[Path, int] = OrderedDict()
        weakref.finalize(self, _close, self._held)

    def find(self, name: str, digest: str, digest_of: Callable[[Path], str]) -> Path | None:
        """Return the copy of `name` if its digest is the one expected, held from now on."""
        path = self._root / name
        if not self._hold(path):
            return None
        with suppress(FileNotFoundError, NotADirectoryError):
            if remembered(path, digest_of) == digest:
                return path
        return None

    def keep(self, name: str, size_bytes: int, fetch: Callable[[int], None]) -> Path:
        """Let `fetch` write to a descriptor, and put the file in the place of the copy.

        Raises:
            Busy: the disk is full.
            Unavailable: it fails otherwise.
        """
        path = self._root / name
        with self._failures(name), self._temp() as (temp, descriptor):
            fetch(descriptor)
            path.parent.mkdir(parents=True, exist_ok=True)
            temp.rename(path)
            self._hold(path)
        self._make_room(size_bytes)
        return path

    @contextmanager
    def _temp(self) -> Iterator[tuple[Path, int]]:
        path = self._root / _TEMP / uuid4().hex
        path.parent.mkdir(parents=True, exist_ok=True)
        # Read-only for everybody but this descriptor, so that no user of a copy writes to it.
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o444)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # shared: `_hold` joins before this one ends
            yield path, descriptor
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    # Holding.

    def _hold(self, path: Path) -> bool:
        """Lock the file that `path` names now; False if there is none, or it is being removed."""
        with self._lock:
            if not self._is_held(path) and not self._take(path):
                return False
            self._held.move_to_end(path)
            while len(self._held) > _HELD:
                os.close(self._held.popitem(last=False)[1])
            return True

    def _take(self, path: Path) -> bool:
        with suppress(FileNotFoundError, NotADirectoryError):
            descriptor = os.open(path, os.O_RDONLY)
            if _lock(descriptor, fcntl.LOCK_SH) and _is_at(path, descriptor):
                self._drop(path)
                self._held[path] = descriptor
                return True
            os.close(descriptor)
        return False

    def _is_held(self, path: Path) -> bool:
        return path in self._held and _is_at(path, self._held[path])

    def _drop(self, path: Path) -> None:
        if path in self._held:
            os.close(self._held.pop(path))

    # Removing.

    def _make_room(self, size_bytes: int) -> None:
        """Remove copies that nobody holds until the bound is kept."""
        with self._lock:
            self._fetched_bytes += size_bytes
            if self._fetched_bytes < self._max_bytes // _LOOK_SHARE:
                return
            self._fetched_bytes = 0
        copies = sorted(self._copies())
        excess = sum(copy.size_bytes for copy in copies) - self._max_bytes
        for copy in copies:
            if excess > 0 and _remove(copy.path):
                excess -= copy.size_bytes
        self._sweep()

    def _copies(self) -> Iterator[_Copy]:
        for folder, folders, files in os.walk(self._root):
            folders[:] = [each for each in folders if each != _TEMP]
            for path in (Path(folder) / each for each in files):
                with suppress(FileNotFoundError):
                    found = path.stat()
                    yield _Copy(found.st_atime, found.st_size, path)

    def _sweep(self) -> None:
        """Remove what a killed fetch left."""
        for path in (self._root / _TEMP).glob("*"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _TEMP_GRACE_S:
                    _remove(path)

    @contextmanager
    def _failures(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise scarce(error) or Unavailable(f"{name} in {self._root}: {error}") from error


def _close(held: OrderedDict[Path, int]) -> None:
    while held:
        os.close(held.popitem()[1])


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    """True if the open file is still the one that the path names."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _remove(path: Path) -> bool:
    """Remove a file unless somebody holds it."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        if _lock(file.fileno(), fcntl.LOCK_EX):
            path.unlink()
            return True
    return False
