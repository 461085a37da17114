"""sha256 of local files: computed, or remembered while the file is provably the same.

A checkpoint is opened many times by one process; hashing gigabytes at each open would cost more
than loading them. Remembering does not see bytes that rot under an unchanged inode: whoever
verifies a store calls `file_sha256`.
"""

import hashlib
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

_SETTLED_NS = 100_000_000
"""File times advance by a kernel tick (1 to 10 ms), so a file that changed less than this ago
could change again under the same times; it is not remembered yet."""


def file_sha256(path: Path) -> str:
    """Read the file and return its sha256, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered_sha256(path: Path) -> str:
    """Return the file's sha256; not read again while inode, size and both its times stay."""
    return remembered(path, file_sha256)


def remembered(path: Path, digest_of: Callable[[Path], str]) -> str:
    """Return `digest_of` the file, remembered as by `remembered_sha256`."""
    path = path.resolve()
    seen = path.stat()
    if time.time_ns() - max(seen.st_ctime_ns, seen.st_mtime_ns) < _SETTLED_NS:
        return digest_of(path)
    identity = (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
    return _digest(path, identity, digest_of)


@lru_cache(maxsize=4096)
def _digest(path: Path, identity: tuple[int, ...], digest_of: Callable[[Path], str]) -> str:
    del identity  # only tells one state of the file from another
    return digest_of(path)
