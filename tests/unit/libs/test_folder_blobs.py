"""What only a folder can suffer: flipped bytes, kills between system calls, full and locked disks.

What every object store must do is in `tests/contract/test_blobs.py`.
"""

import fcntl
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from libs.blobs import folder
from libs.blobs.folder import FolderBlobs
from libs.errors import Busy, Conflict, Corrupt, NotFound, Unavailable

ROOT = Path(__file__).parents[3]
NAME = "artifacts/ab12/model.bin"

KILLED_AT_EVERY_STEP = """
import itertools, os, sys
from pathlib import Path
from libs.blobs.folder import FolderBlobs

base, call = Path(sys.argv[1]), sys.argv[2]

def die_at(last):
    seen = itertools.count()
    def step(event, args):
        if (event == "open" or event.startswith(("os.", "fcntl."))) and next(seen) == last:
            os._exit(9)
    sys.addaudithook(step)

for last in itertools.count():
    blobs = FolderBlobs(base / str(last))
    etag = None if call == "create" else blobs.create("artifacts/ab12/model.bin", b"old").etag
    child = os.fork()
    if not child:
        die_at(last)
        if call == "create":
            blobs.create("artifacts/ab12/model.bin", b"new")
        elif call == "replace":
            blobs.replace_if("artifacts/ab12/model.bin", b"new", etag=etag)
        else:
            blobs.delete("artifacts/ab12/model.bin")
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
"""

SIXTEEN_AT_ONCE = """
import os, sys
from pathlib import Path
from libs.blobs.folder import FolderBlobs
from libs.errors import Conflict

go, start = os.pipe()
children = []
for index in range(16):
    child = os.fork()
    if not child:
        os.close(start)
        os.read(go, 1)  # returns when the parent closes its end
        blobs = FolderBlobs(Path(sys.argv[1]))
        try:
            blobs.create("artifacts/ab12/model.bin", b"%d" % index)
            os._exit(0)
        except Conflict:
            os._exit(1)
    children.append(child)
os.close(start)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(*codes)
"""


@pytest.fixture
def root(tmp_path):
    return tmp_path / "blobs"


@pytest.fixture
def blobs(root):
    return FolderBlobs(root)


@pytest.fixture
def disk(tmp_path):
    """A disk of 256 KiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount(disk, "-t", "tmpfs", "-o", "size=256k", "tmpfs")
    yield disk
    subprocess.run(["umount", disk], check=True)


def mount(disk, *arguments):
    done = subprocess.run(["mount", *arguments, disk], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs the right to mount a tmpfs (run as root): {done.stderr.strip()}")


def run(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bytes_of(blobs, name):
    return blobs.local(name).resolve()


def overwrite(path, content):
    path.chmod(0o644)
    path.write_bytes(content)


def versions(root):
    return [path.read_bytes() for path in (root / ".versions").rglob("@*")]


def temporary(root):
    return [*(root / ".temp").iterdir()]


def age(path):
    os.utime(path, (0, 0))


@pytest.mark.parametrize("damaged", [b"weightS", b"weight", b"", b"weights "])
@pytest.mark.parametrize("call", [FolderBlobs.read, FolderBlobs.local])
def test_damaged_bytes_are_corrupt_and_named(blobs, damaged, call):
    blobs.create(NAME, b"weights")
    overwrite(bytes_of(blobs, NAME), damaged)
    with pytest.raises(Corrupt, match=f"{NAME}: expected sha256 "):
        call(blobs, NAME)


@pytest.mark.parametrize("call", [FolderBlobs.read, FolderBlobs.local, FolderBlobs.stat])
def test_bytes_that_are_gone_are_corrupt_and_not_absent(blobs, call):
    blobs.create(NAME, b"weights")
    bytes_of(blobs, NAME).unlink()
    with pytest.raises(Corrupt, match=f"{NAME}: .* missing"):
        call(blobs, NAME)


def test_a_plain_file_in_place_of_a_link_is_corrupt(blobs, root):
    (root / NAME).parent.mkdir(parents=True)
    (root / NAME).write_bytes(b"weights")
    with pytest.raises(Corrupt, match=NAME):
        blobs.read(NAME)
    blobs.delete(NAME)
    with pytest.raises(NotFound):
        blobs.read(NAME)


def test_stored_bytes_are_read_only(blobs):
    blobs.create(NAME, b"weights")
    assert blobs.local(NAME).stat().st_mode & 0o777 == 0o444


def test_a_store_may_be_moved(blobs, root, tmp_path):
    blobs.create(NAME, b"weights")
    root.rename(tmp_path / "moved")
    assert FolderBlobs(tmp_path / "moved").read(NAME).data == b"weights"


def test_superseded_bytes_are_deleted(blobs, root):
    etag = blobs.create(NAME, b"0").etag
    for revision in (b"1", b"2", b"0", b"3"):
        etag = blobs.replace_if(NAME, revision, etag=etag).etag
    assert versions(root) == [b"3"]


def test_deleting_leaves_no_bytes_and_no_folder(blobs, root):
    blobs.create(NAME, b"weights")
    blobs.delete(NAME)
    assert sorted(path.name for path in root.iterdir()) == [".locks", ".temp"]


def test_a_name_under_another_is_a_conflict_and_leaves_no_bytes(blobs, root):
    blobs.create("bucket/a", b"1")
    with pytest.raises(Conflict, match="bucket/a/b"):
        blobs.create("bucket/a/b", b"2")
    blobs.create("bucket/c/d", b"3")
    with pytest.raises(Conflict, match="bucket/c"):
        blobs.create("bucket/c", b"4")
    assert sorted(versions(root)) == [b"1", b"3"]


def test_of_sixteen_racing_processes_one_creates(blobs, root):
    codes = run(SIXTEEN_AT_ONCE, root).split()
    assert sorted(codes) == ["0"] + ["1"] * 15
    assert blobs.read(NAME).data == b"%d" % codes.index("0")
    assert len(versions(root)) == 1
    assert temporary(root) == []


def killed_stores(tmp_path, call):
    """Return a store for each system call before which the process was killed."""
    run(KILLED_AT_EVERY_STEP, tmp_path, call)
    roots = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(roots) > 10
    return [(root, FolderBlobs(root)) for root in roots]


def state(blobs):
    try:
        return blobs.read(NAME).data
    except NotFound:
        return None


def test_a_killed_create_left_all_or_nothing_and_may_be_repeated(tmp_path):
    states = set()
    for root, blobs in killed_stores(tmp_path, "create"):
        states.add(state(blobs))
        with suppress(Conflict):
            blobs.create(NAME, b"new")
        assert versions(root) == [state(blobs)] == [b"new"]
    assert states == {None, b"new"}


def test_after_a_killed_create_another_content_may_win(tmp_path):
    for root, blobs in killed_stores(tmp_path, "create"):
        if state(blobs) is None:
            blobs.create(NAME, b"other")
            assert versions(root) == [state(blobs)] == [b"other"]


def test_a_killed_replacement_left_the_old_or_the_new_and_may_be_repeated(tmp_path):
    states = set()
    for root, blobs in killed_stores(tmp_path, "replace"):
        found = blobs.read(NAME)
        states.add(found.data)
        blobs.replace_if(NAME, b"newer", etag=found.etag)
        assert versions(root) == [state(blobs)] == [b"newer"]
    assert states == {b"old", b"new"}


def test_a_killed_deletion_left_all_or_nothing_and_may_be_repeated(tmp_path):
    states = set()
    for root, blobs in killed_stores(tmp_path, "delete"):
        states.add(state(blobs))
        blobs.delete(NAME)
        assert versions(root) == []
    assert states == {b"old", None}


@pytest.fixture
def writer(root, tmp_path):
    """A process half through a file, and the pipe that it reads the rest from."""
    source = tmp_path / "source"
    os.mkfifo(source)
    script = (
        "import sys; from pathlib import Path; from libs.blobs.folder import FolderBlobs;"
        f"FolderBlobs(Path(sys.argv[1])).create({NAME!r}, Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, root, source], cwd=ROOT)
    with source.open("wb", buffering=0) as pipe:
        # More than a pipe holds and the writer copies at once, so some of it was written.
        pipe.write(b"x" * (3 << 20))
        yield process, pipe
    process.kill()
    process.wait()


def test_half_a_file_of_a_killed_writer_is_invisible_and_swept_later(writer, blobs, root):
    process, _ = writer
    assert state(blobs) is None
    assert list(blobs.list("artifacts/")) == []
    process.send_signal(signal.SIGKILL)
    process.wait()
    (half,) = temporary(root)
    assert half.stat().st_size > 0
    age(half)
    blobs.create("bucket/first", b"")
    assert temporary(root) == []


def test_a_file_still_being_written_is_not_swept(writer, blobs, root):
    process, pipe = writer
    age(temporary(root)[0])
    blobs.create("bucket/first", b"")
    pipe.close()
    assert process.wait(timeout=30) == 0
    assert state(blobs) == b"x" * (3 << 20)


def test_a_young_temporary_file_is_not_swept(blobs, root):
    (root / ".temp").mkdir(parents=True)
    (root / ".temp" / "young").touch()
    blobs.create("bucket/first", b"")
    assert [path.name for path in temporary(root)] == ["young"]


def test_a_lock_that_is_never_released_ends_in_busy(blobs, root, monkeypatch):
    monkeypatch.setattr(folder, "_LOCK_TIMEOUT_S", 0.02)
    etag = blobs.create(NAME, b"old").etag
    (path,) = (root / ".locks").iterdir()
    with path.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Busy, match=f"{NAME}: its lock"):
            blobs.replace_if(NAME, b"new", etag=etag)
        assert blobs.read(NAME).data == b"old"
    blobs.replace_if(NAME, b"new", etag=etag)
    assert temporary(root) == []


def test_a_full_disk_is_busy_and_leaves_nothing_half_written(disk):
    blobs = FolderBlobs(disk / "blobs")
    with pytest.raises(Busy, match=NAME):
        blobs.create(NAME, b"x" * 1_000_000)
    assert state(blobs) is None
    assert temporary(disk / "blobs") == versions(disk / "blobs") == []
    blobs.create(NAME, b"x" * 100_000)


def test_on_a_full_disk_a_replacement_is_busy_and_keeps_the_old_bytes(disk):
    blobs = FolderBlobs(disk)
    etag = blobs.create(NAME, b"x" * 150_000).etag
    with pytest.raises(Busy, match=NAME):
        blobs.replace_if(NAME, b"y" * 150_000, etag=etag)
    assert blobs.read(NAME) == (b"x" * 150_000, etag)
    blobs.replace_if(NAME, b"y" * 50_000, etag=etag)
    assert versions(disk) == [b"y" * 50_000]


def test_a_read_only_store_is_read_and_unavailable_to_writers(disk):
    blobs = FolderBlobs(disk)
    etag = blobs.create(NAME, b"old").etag
    mount(disk, "-o", "remount,ro")
    with pytest.raises(Unavailable, match="Read-only"):
        blobs.create("bucket/new", b"")
    with pytest.raises(Unavailable, match=NAME):
        blobs.replace_if(NAME, b"new", etag=etag)
    with pytest.raises(Unavailable, match=NAME):
        blobs.delete(NAME)
    with pytest.raises(Conflict):
        blobs.create(NAME, b"new")
    assert blobs.read(NAME).data == blobs.local(NAME).read_bytes() == b"old"
    assert [blob.name for blob in blobs.list("artifacts/")] == [NAME]
