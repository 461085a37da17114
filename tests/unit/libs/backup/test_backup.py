"""A backup holds all that a store knows; restored, it is the same, or nothing is changed."""

import io
import itertools
import json
import tarfile
from pathlib import Path

import pytest

from libs.artifacts import Artifacts
from libs.backup.archive import SCHEMA, Backup
from libs.backup.restore import MARK, restore
from libs.backup.take import take
from libs.blobs.folder import FolderBlobs
from libs.errors import Conflict, Corrupt, InvalidInput, NotFound
from libs.lm import weights
from libs.manifest import Request
from tests import buckets
from tests.mortal import Killed, Mortal

DIGEST = "5e" * 32
RECORDS = {
    "registry/models.json": b'{"live":1}',
    "registry/exams/e.json": b"{}",
    "rounds/ab.json": b"{}",
    "operations/corpus/cd.json": b'{"method":"Crawl"}',
    "operations/loop/ab.json": b'{"method":"StartRound"}',
    "reports/ab.html": b"<html>",
}
WRITES = ("create", "replace_if")


def fill(blobs, folder):
    """Fill a store; return the ids of a plan and of the tokens that it was made from."""
    artifacts = Artifacts(blobs)

    def make(kind, content, **inputs):
        out = folder / f"out-{kind}"
        out.mkdir()
        (out / "data").write_bytes(content)
        asked = Request(kind=kind, inputs=inputs, parameters={}, recipe_version=1)
        return artifacts.create(asked, out, run={"seconds": 1.5})

    tokens = make("tokens", bytes(3 << 20))
    plan = make("plan", b"plan", tokens=tokens)
    weights.register(blobs, DIGEST, plan)
    for name, data in RECORDS.items():
        blobs.create(name, data)
    return plan, tokens


def content(blobs):
    buckets_ = ("artifacts", "requests", "weights", "registry", "rounds", "operations", "reports")
    names = [blob.name for bucket in buckets_ for blob in blobs.list(f"{bucket}/")]
    return {name: blobs.read(name).data for name in names if name != MARK}


@pytest.fixture
def blobs(tmp_path):
    return FolderBlobs(tmp_path / "blobs")


@pytest.fixture
def empty(tmp_path):
    return FolderBlobs(tmp_path / "empty")


@pytest.fixture
def made(blobs, tmp_path):
    return fill(blobs, tmp_path)


@pytest.fixture
def backup(blobs, made, tmp_path):
    path = tmp_path / "b.tar"
    take(blobs, path, with_files=True)
    return path


@pytest.mark.parametrize("adapter", buckets.ADAPTERS)
def test_what_is_restored_is_what_was_there(adapter, request, tmp_path):
    with (
        buckets.opener(adapter, request, tmp_path / "a") as one,
        buckets.opener(adapter, request, tmp_path / "b") as two,
    ):
        blobs, empty = one(), two()
        (tmp_path / "out").mkdir()
        plan, _ = fill(blobs, tmp_path / "out")
        taken = take(blobs, tmp_path / "b.tar", with_files=True)
        restored = restore(empty, tmp_path / "b.tar")
        assert (taken.num_artifacts, restored.num_artifacts) == (2, 2)
        assert content(empty) == content(blobs)
        assert {each.problem for each in Artifacts(empty).verify(plan)} == {""}
        assert weights.find(empty, DIGEST) == plan


def test_a_restored_store_answers_the_same_requests(backup, empty, made, tmp_path):
    restore(empty, backup)
    asked = Request(kind="plan", inputs={"tokens": made[1]}, parameters={}, recipe_version=1)
    assert Artifacts(empty).find(asked) == made[0]


def test_without_files_they_must_be_in_the_store(blobs, made, empty, tmp_path):
    take(blobs, tmp_path / "small.tar", with_files=False)
    with pytest.raises(Corrupt, match="has no files, and in the store artifacts/"):
        restore(empty, tmp_path / "small.tar")
    assert content(empty) == {}
    for name in [b.name for b in blobs.list("artifacts/") if b.name.endswith("/data")]:
        empty.create(name, blobs.read(name).data)
    restore(empty, tmp_path / "small.tar")
    assert content(empty) == content(blobs)


@pytest.mark.parametrize("name", ["registry/x.json", "rounds/x.json", "operations/loop/x.json"])
def test_a_store_that_holds_records_is_refused(backup, empty, name):
    empty.create(name, b"{}")
    with pytest.raises(Conflict, match=f"expected an empty store .* {name}"):
        restore(empty, backup)
    assert content(empty) == {name: b"{}"}


def test_a_store_is_restored_once(backup, empty):
    restore(empty, backup)
    with pytest.raises(Conflict, match="a backup was restored into"):
        restore(empty, backup)


def test_a_restored_store_is_backed_up_and_restored_like_any_other(backup, empty, blobs, tmp_path):
    restore(empty, backup)
    take(empty, tmp_path / "again.tar", with_files=True)
    third = FolderBlobs(tmp_path / "third")
    restore(third, tmp_path / "again.tar")
    assert content(third) == content(blobs)


def test_a_restore_killed_anywhere_goes_on_when_it_is_repeated(backup, blobs, tmp_path):
    for calls in itertools.count():
        store = FolderBlobs(tmp_path / f"s{calls}")
        try:
            restore(Mortal(store, calls, counted=WRITES), backup)
            break
        except Killed:
            restore(store, backup)
            assert content(store) == content(blobs)
    assert calls > len(RECORDS)


def test_what_names_others_is_restored_after_them_and_rounds_are_driven_last(backup, empty):
    seen = Mortal(empty, counted=WRITES)
    restore(seen, backup)
    order = [name for name in seen.names if name not in (MARK,)]
    assert order[-5:] == [
        "registry/exams/e.json",
        "registry/models.json",
        "rounds/ab.json",
        "operations/corpus/cd.json",
        "operations/loop/ab.json",
    ]


def test_a_backup_is_never_written_over_another(blobs, made, backup):
    before = backup.read_bytes()
    with pytest.raises(Conflict, match="exists"):
        take(blobs, backup, with_files=True)
    assert backup.read_bytes() == before


def test_a_backup_that_fails_leaves_nothing_behind(blobs, made, tmp_path):
    blobs.delete(f"artifacts/{made[1]}/data")
    with pytest.raises(Corrupt, match=f"{made[1]}/data is missing"):
        take(blobs, tmp_path / "b.tar", with_files=True)
    assert list(tmp_path.glob("b.tar*")) == []


def test_a_damaged_file_is_not_backed_up(blobs, made, tmp_path):
    path = blobs.local(f"artifacts/{made[0]}/data").resolve()
    path.chmod(0o644)
    path.write_bytes(b"plaM")
    with pytest.raises(Corrupt, match="data"):
        take(blobs, tmp_path / "b.tar", with_files=True)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_cut_backup_is_corrupt_and_nothing_is_restored(backup, empty, share):
    data = backup.read_bytes()
    backup.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(Corrupt, match=r"b\.tar"):
        restore(empty, backup)
    assert content(empty) == {}


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_one_flipped_byte_is_corrupt_naming_the_blob(backup, empty, place):
    data = bytearray(backup.read_bytes())
    data[int(len(data) * place)] ^= 1
    backup.write_bytes(data)
    with pytest.raises(Corrupt, match=r"artifacts/[0-9a-f]{64}/data: expected sha256"):
        restore(empty, backup)
    assert content(empty) == {}


def test_what_the_index_does_not_name_is_corrupt(backup, empty):
    with tarfile.open(backup, "a") as tar:
        member = tarfile.TarInfo("blobs/registry/planted.json")
        tar.addfile(member, io.BytesIO())
    with pytest.raises(Corrupt, match=r"registry/planted\.json: expected nothing"):
        restore(empty, backup)


def test_a_newer_backup_is_refused_naming_both_versions(tmp_path):
    data = json.dumps({"schema_version": SCHEMA.version + 1}).encode()
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        member = tarfile.TarInfo("index.json")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    with pytest.raises(InvalidInput, match="schema 2, newer than 1"):
        Backup(tmp_path / "b.tar")


def test_a_backup_that_is_not_there_is_not_found(empty, tmp_path):
    with pytest.raises(NotFound, match=r"no\.tar"):
        restore(empty, tmp_path / "no.tar")
    with pytest.raises(NotFound):
        take(empty, Path(tmp_path / "no" / "folder.tar"), with_files=True)


def test_a_folder_is_no_backup(empty, tmp_path):
    with pytest.raises(InvalidInput, match="got a folder"):
        restore(empty, tmp_path)


def test_what_was_deleted_while_it_was_taken_is_left_out(blobs, made, tmp_path):
    class Racing(Mortal):
        def list(self, prefix):
            found = list(blobs.list(prefix))
            if prefix == "artifacts/":
                blobs.delete(f"artifacts/{made[0]}/manifest.json")
            return iter(found)

    taken = take(Racing(blobs), tmp_path / "b.tar", with_files=True)
    assert taken.num_artifacts == 1
