"""The object store as a folder: a name is a symlink to the file that holds its bytes.

    <bucket>/<key>                       symlink: the name, made or swapped by one system call
    .versions/<bucket>/<key>/@<sha256>   the bytes, private to that name, never written to again
    .temp/<random>                       bytes still being written, locked by their writer
    .locks/<2 digits>                    lock shared by the names whose sha256 begins so

So `kill -9` at any moment leaves a name absent, or whole in its old or new version. What it may
leave besides (a temporary file, a version that no name points to) is removed by the next first
write of a process, or by the next write to that name. Readers take no lock. A writer that is
stopped (SIGSTOP) within the milliseconds of its lock keeps others from writing to that name, with
`Busy`, until it goes on or dies.

The etag is the sha256 of the bytes, and stands in the link, so comparing needs no reading. It does
*not* protect against someone who may write to the folder: digests show accidents, not attacks.
"""

import errno
import fcntl
import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar
from uuid import uuid4

from libs.blobs import names
from libs.blobs.port import Blob, Read, check_expiry
from libs.digests import remembered_sha256
from libs.errors import (
    SCARCE,
    Busy,
    Conflict,
    Corrupt,
    InvalidInput,
    NotFound,
    ServiceError,
    Unavailable,
)

T = TypeVar("T")

_CHUNK_BYTES = 1 << 20
_LOCK_TIMEOUT_S = 10.0
"""A lock is held for milliseconds; longer means that its holder is stopped or its disk hangs."""
_TEMP_GRACE_S = 60.0
"""A temporary file this young may not be locked by its writer yet."""
_TRIES = 100
"""How often a name may change under a reader, or a folder vanish under a writer, in one call."""


class _Temp(NamedTuple):
    path: Path
    sha256: str
    size_bytes: int


class FolderBlobs:
    """`Blobs` in a folder of one file system, for any number of processes and threads."""

    def __init__(self, root: Path) -> None:
        """Use `root`; it is made by the first write."""
        self._root = root.absolute()
        self._swept = False

    def create(self, name: str, content: bytes | Path) -> Blob:
        """See `Blobs.create`. A source file is copied, and may change afterwards."""
        names.check(name)
        with _reader(content) as source, self._failures(name):
            self._refuse_taken(name)  # before the bytes are copied; the lock below decides
            with self._written(source) as temp, self._lock(name):
                self._refuse_taken(name)
                with self._version_of(name, temp) as target:
                    _with_folders(self._link(name), lambda: self._link(name).symlink_to(target))
                self._settle(name, temp.sha256)
        return Blob(name, temp.size_bytes, temp.sha256)

    def replace_if(self, name: str, content: bytes, *, etag: str) -> Blob:
        """See `Blobs.replace_if`. The superseded bytes are deleted."""
        names.check(name)
        with self._failures(name), self._written(io.BytesIO(content)) as temp, self._lock(name):
            current = self._current(name)
            if current is None:
                raise NotFound(f"there is no blob {name}")
            if current != etag:
                raise Conflict(f"{name}: expected etag {etag}, it is {current}")
            if current != temp.sha256:
                self._swap(name, temp)
        return Blob(name, temp.size_bytes, temp.sha256)

    def read(self, name: str) -> Read:
        """See `Blobs.read`. Raises `Corrupt` when the bytes do not match their digest."""
        data, etag = self._at(name, Path.read_bytes)
        _require(name, expected=etag, actual=hashlib.sha256(data).hexdigest())
        return Read(data, etag)

    def read_range(self, name: str, start: int, size_bytes: int) -> bytes:
        """See `Blobs.read_range`. The digest, being of the whole, is not checked."""
        if start < 0 or size_bytes < 0:
            raise InvalidInput(f"{name}: a range must not be negative, got {start}, {size_bytes}")

        def part(path: Path) -> bytes:
            with path.open("rb") as file:
                file.seek(start)
                return file.read(size_bytes)

        return self._at(name, part)[0]

    def stat(self, name: str) -> Blob:
        """See `Blobs.stat`."""
        size_bytes, etag = self._at(name, lambda path: path.stat().st_size)
        return Blob(name, size_bytes, etag)

    def list(self, prefix: str) -> Iterator[Blob]:
        """See `Blobs.list`. A blob deleted meanwhile may be missing."""
        names.check_prefix(prefix)
        folder, _, start = prefix.rpartition("/")
        return self._walk(folder, start)

    def delete(self, name: str) -> None:
        """See `Blobs.delete`. Folders left empty go with it."""
        names.check(name)
        with self._failures(name):
            if not os.path.lexists(self._link(name)) and not self._folder(name).exists():
                return
            with self._lock(name):
                with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                    self._link(name).unlink()
                self._drop_versions(name, keep=None)
                self._remove_empty(self._link(name).parent)
                self._remove_empty(self._folder(name))

    def local(self, name: str) -> Path:
        """See `Blobs.local`. Raises `Corrupt` when the bytes do not match their digest.

        The digest of a file that has not changed is remembered by this process.
        """
        actual, etag = self._at(name, remembered_sha256)
        _require(name, expected=etag, actual=actual)
        return self._link(name)

    def link(self, name: str, *, expires_s: float) -> str:
        """See `Blobs.link`: the path, which does not expire."""
        check_expiry(name, expires_s)
        return str(self.local(name))

    # Where things lie.

    def _link(self, name: str) -> Path:
        return self._root / name

    def _folder(self, name: str) -> Path:
        return self._root / ".versions" / name

    def _version(self, name: str, sha256: str) -> Path:
        # "@" occurs in no name, so a version is never taken for the folder of a longer name.
        return self._folder(name) / f"@{sha256}"

    def _current(self, name: str) -> str | None:
        """Return the etag that the name's link carries, None without a link."""
        try:
            target = self._link(name).readlink().name
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno != errno.EINVAL or self._link(name).is_dir():
                return None
            raise Corrupt(f"{name}: expected a link to a version, found a plain file") from error
        return target.removeprefix("@")

    # Reading.

    def _at(self, name: str, use: Callable[[Path], T]) -> tuple[T, str]:
        """Apply `use` to the file of the current version; again if it was superseded meanwhile."""
        names.check(name)
        with self._failures(name):
            for _ in range(_TRIES):
                etag = self._current(name)
                if etag is None:
                    raise NotFound(f"there is no blob {name}")
                with suppress(FileNotFoundError):
                    return use(self._version(name, etag)), etag
            raise Corrupt(f"{name}: the bytes of {etag} are missing")

    def _walk(self, folder: str, start: str) -> Iterator[Blob]:
        with self._failures(folder):
            try:
                entries = [*os.scandir(self._root / folder)]
            except (FileNotFoundError, NotADirectoryError):
                return
            # Names ascend as whole strings: "a-b" < "a.b" < "a/b", a folder counts with its "/".
            marked = sorted(
                f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
                for entry in entries
                if entry.name.startswith(start)
            )
        for entry in marked:
            if entry.endswith("/"):
                yield from self._walk(f"{folder}/{entry[:-1]}", "")
            else:
                with suppress(NotFound):
                    yield self.stat(f"{folder}/{entry}")

    # Writing.

    def _refuse_taken(self, name: str) -> None:
        if os.path.lexists(self._link(name)):
            raise Conflict(f"the blob {name} exists")

    @contextmanager
    def _written(self, source: BinaryIO) -> Iterator[_Temp]:
        """Copy the source to a temporary file that is on disk; it is removed unless moved."""
        self._sweep_once()
        path = self._root / ".temp" / uuid4().hex
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        # Read-only for everybody but this descriptor, so that no user of `local` writes to it.
        with os.fdopen(_with_folders(path, lambda: os.open(path, flags, 0o444)), "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                digest = hashlib.sha256()
                while chunk := source.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
                yield _Temp(path, digest.hexdigest(), file.tell())
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def _version_of(self, name: str, temp: _Temp) -> Iterator[str]:
        """Move the bytes to where a link will point; take them away if it cannot be made."""
        version = self._version(name, temp.sha256)
        _with_folders(version, lambda: temp.path.rename(version))
        _sync(version.parent)
        try:
            yield os.path.relpath(version, self._link(name).parent)
        except OSError:
            version.unlink(missing_ok=True)
            raise

    def _swap(self, name: str, temp: _Temp) -> None:
        with self._version_of(name, temp) as target:
            following = self._folder(name) / "@next"
            following.unlink(missing_ok=True)  # left by a process that was killed here
            following.symlink_to(target)
            following.replace(self._link(name))
        self._settle(name, temp.sha256)

    def _settle(self, name: str, sha256: str) -> None:
        _sync(self._link(name).parent)
        self._drop_versions(name, keep=sha256)

    def _drop_versions(self, name: str, keep: str | None) -> None:
        """Remove what was superseded, or left by a process killed between file and link."""
        with suppress(FileNotFoundError):
            for path in self._folder(name).glob("@*"):
                if path.name != f"@{keep}":
                    path.unlink(missing_ok=True)

    def _remove_empty(self, folder: Path) -> None:
        with suppress(OSError):
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent

    def _sweep_once(self) -> None:
        """Remove temporary files whose writer is gone: nobody holds their lock."""
        if self._swept:
            return
        self._swept = True
        for path in (self._root / ".temp").glob("*"):
            with suppress(OSError), path.open("rb") as file:
                if time.time() - os.fstat(file.fileno()).st_mtime > _TEMP_GRACE_S:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        stripe = hashlib.sha256(name.encode()).hexdigest()[:2]
        path = self._root / ".locks" / stripe
        lock = _with_folders(path, lambda: os.open(path, os.O_CREAT | os.O_RDWR, 0o644))
        try:
            _acquire(lock, name)
            yield
        finally:
            # Not left to close(): a child forked meanwhile would keep the lock.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)

    @contextmanager
    def _failures(self, name: str) -> Iterator[None]:
        """Turn what the operating system says into one of the eight errors."""
        try:
            yield
        except OSError as error:
            raise _failure(error, f"{name} in {self._root}: {error.strerror}") from error


def _failure(error: OSError, message: str) -> ServiceError:
    match error.errno:
        case number if number in SCARCE:
            return Busy(message)
        case errno.EEXIST | errno.ENOTDIR:
            return Conflict(f"{message} (one blob's name lies under another's)")
        case errno.ENAMETOOLONG:
            return InvalidInput(message)
        case _:
            return Unavailable(message)


def _reader(content: bytes | Path) -> BinaryIO:
    return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def _require(name: str, *, expected: str, actual: str) -> None:
    if actual != expected:
        raise Corrupt(f"{name}: expected sha256 {expected}, got {actual}")


def _with_folders(path: Path, act: Callable[[], T]) -> T:
    """Make the path's folders and act; again when a `delete` beside removed them as empty."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            # mkdir also says "exists" of a folder that vanished meanwhile; `act` tells them apart.
            with suppress(FileExistsError):
                path.parent.mkdir(parents=True, exist_ok=True)
            return act()
    return act()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _acquire(lock: int, name: str) -> None:
    give_up = time.monotonic() + _LOCK_TIMEOUT_S
    pause_s = 0.0005
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > give_up:
                raise Busy(f"{name}: its lock was held for {_LOCK_TIMEOUT_S} s") from error
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.02)
