"""Local copies: found while they are sound, bounded, and never taken from under a user."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from libs.blobs import cache
from libs.blobs.cache import Cache
from libs.digests import file_sha256
from libs.errors import Busy, Unavailable

ROOT = Path(__file__).parents[3]
HOLDS_AND_WAITS = """
import sys
from pathlib import Path
from libs.blobs.cache import Cache
from libs.digests import file_sha256

cache = Cache(Path(sys.argv[1]))
print(cache.find(sys.argv[2], sys.argv[3], file_sha256), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


def keep(at, name, content):
    return at.keep(name, len(content), lambda descriptor: os.pwrite(descriptor, content, 0))


def find(at, name, content):
    return at.find(name, hashlib.sha256(content).hexdigest(), file_sha256)


def age(path, seconds):
    """Let a copy have been accessed so long ago."""
    seen = path.stat()
    os.utime(path, (seen.st_atime - seconds, seen.st_mtime))


def test_a_copy_is_found_under_its_name_and_cannot_be_written_to(root):
    path = keep(Cache(root), "artifacts/ab/x", b"bytes")
    assert find(Cache(root), "artifacts/ab/x", b"bytes") == path == root / "artifacts/ab/x"
    assert path.stat().st_mode & 0o222 == 0


def test_an_absent_a_damaged_and_a_superseded_copy_are_not_found(root):
    path = keep(Cache(root), "artifacts/ab/x", b"bytes")
    assert find(Cache(root), "artifacts/ab/y", b"bytes") is None
    assert find(Cache(root), "artifacts/ab/x/y", b"bytes") is None
    assert find(Cache(root), "artifacts/ab/x", b"newer") is None
    path.chmod(0o644)
    path.write_bytes(b"bytEs")
    assert find(Cache(root), "artifacts/ab/x", b"bytes") is None


def test_the_longest_unused_copies_go_when_the_bound_is_passed(root):
    for number in range(4):
        age(keep(Cache(root), f"artifacts/{number}", bytes(100)), 1000 - number)
    small = Cache(root, max_bytes=250)
    keep(small, "artifacts/new", bytes(50))
    left = sorted(path.name for path in root.rglob("*") if path.is_file())
    assert left == ["2", "3", "new"]


def test_a_copy_that_another_process_uses_is_never_removed(root):
    age(keep(Cache(root), "artifacts/used", b"used"), 1000)
    arguments = [str(root), "artifacts/used", hashlib.sha256(b"used").hexdigest()]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_AND_WAITS, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as user:
        assert b"artifacts/used" in user.stdout.readline()
        keep(Cache(root, max_bytes=1), "artifacts/other", b"other")
        assert (root / "artifacts/used").exists()
        user.kill()
        user.wait(timeout=30)
    keep(Cache(root, max_bytes=1), "artifacts/more", b"more")
    assert not (root / "artifacts/used").exists()


def test_a_process_holds_its_own_copies_too_but_only_so_many(root, monkeypatch):
    monkeypatch.setattr(cache, "_HELD", 2)
    small = Cache(root, max_bytes=1)
    for number in range(4):
        age(keep(small, f"artifacts/{number}", bytes(100)), 1000 - number)
    keep(small, "artifacts/new", b"")
    left = sorted(path.name for path in root.rglob("*") if path.is_file())
    assert left == ["3", "new"]


def test_a_fetch_that_fails_leaves_nothing(root):
    def fail(descriptor):
        os.write(descriptor, b"half")
        raise Unavailable("gone")

    with pytest.raises(Unavailable, match="gone"):
        Cache(root).keep("artifacts/x", 9, fail)
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_what_a_killed_fetch_left_is_swept(root):
    leftover = root / ".temp" / "left"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    os.utime(leftover, (0, 0))
    keep(Cache(root), "artifacts/x", b"bytes")
    assert not leftover.exists()


def test_a_full_disk_is_busy_and_an_unwritable_one_unavailable(root):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with pytest.raises(Busy, match="No space left"):
        Cache(root).keep("artifacts/x", 9, full)
    (root / "artifacts").touch()
    with pytest.raises(Unavailable, match="artifacts/x"):
        keep(Cache(root), "artifacts/x", b"bytes")
