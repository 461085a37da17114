"""What a real MinIO and the way to it do in bad hours, and that nothing is lost or done twice."""

import io
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from libs.blobs.minio import MinioBlobs
from libs.clock import Clock
from libs.errors import Busy, Conflict, Corrupt, Forbidden, Unavailable
from tests.buckets import client, open_blobs
from tests.own_minio import OwnMinio, Wire

ROOT = Path(__file__).parents[2]
NAME = "artifacts/ab12/model.bin"
PART_BYTES = 16 << 20
LARGE = random.Random(0).randbytes(7 * PART_BYTES + 1000)
"""Twice as many parts as there are streams: at the end of an upload half of them are there."""

SENDS = """
import sys
from pathlib import Path
from libs.blobs.minio import MinioBlobs

endpoint, key, secret, namespace, cache, source, name = sys.argv[1:]
blobs = MinioBlobs(
    endpoint, access_key=key, secret_key=secret, namespace=namespace, cache=Path(cache)
)
blobs.create(name, Path(source))
"""


@pytest.fixture(scope="module")
def minio(tmp_path_factory):
    with OwnMinio(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture
def wire(minio):
    wire = Wire(minio.port)
    yield wire
    wire.close()


@pytest.fixture
def namespace():
    return f"t{uuid4().hex[:8]}-"


@pytest.fixture
def direct(minio, tmp_path, namespace):
    """Open the store with other options."""
    return partial(open_blobs, minio.settings, tmp_path / "cache", namespace)


@pytest.fixture
def blobs(direct):
    return direct()


@pytest.fixture
def wired(minio, wire, tmp_path, namespace):
    """The same store by way of the wire."""
    settings = dict(minio.settings) | {"ATHANOR_MINIO": f"http://127.0.0.1:{wire.port}"}
    return open_blobs(settings, tmp_path / "wired", namespace, deadline_s=30.0)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(LARGE)
    return path


@pytest.mark.parametrize(
    "content, request_",
    [(b"x", b"PUT /"), (bytes(1 << 20), b"PUT /"), (LARGE, b"<CompleteMultipart")],
    ids=["small", "middle", "parts"],
)
def test_a_create_whose_answer_was_lost_knows_its_own_success(
    blobs, wired, wire, content, request_
):
    blobs.create("artifacts/other", b"")
    wire.lose_answer_to(request_)
    created = wired.create(NAME, content)
    assert wire.num_lost == 1
    assert blobs.read(NAME) == (content, created.etag)
    with pytest.raises(Conflict):
        blobs.create(NAME, content)


def test_a_replacement_whose_answer_was_lost_knows_its_own_success(blobs, wired, wire):
    old = blobs.create(NAME, b"old")
    wire.lose_answer_to(b"PUT /")
    new = wired.replace_if(NAME, b"new", etag=old.etag)
    assert blobs.read(NAME) == (b"new", new.etag)


def test_a_lost_answer_gives_nobody_what_another_created(blobs, wired, wire):
    blobs.create(NAME, b"theirs")
    wire.lose_answer_to(b"PUT /")
    with pytest.raises(Conflict):
        wired.create(NAME, b"theirs")


def test_a_killed_upload_goes_on_with_the_parts_that_are_there(
    minio, blobs, wired, wire, tmp_path, source, namespace
):
    blobs.create("artifacts/other", b"")
    keys = [minio.settings[f"ATHANOR_MINIO_{each}_KEY"] for each in ("ACCESS", "SECRET")]
    arguments = [*keys, namespace, str(tmp_path / "dead"), str(source), NAME]
    endpoint = f"http://127.0.0.1:{wire.port}"
    client = subprocess.Popen([sys.executable, "-c", SENDS, endpoint, *arguments], cwd=ROOT)
    wire.once_moved(len(LARGE) - 500, client.kill)
    assert client.wait(timeout=60) == -signal.SIGKILL
    wire.sent_bytes = 0
    created = wired.create(NAME, source)
    assert wire.sent_bytes < 4 * PART_BYTES + PART_BYTES // 2
    assert blobs.read(NAME) == (LARGE, created.etag)


def test_a_server_killed_in_an_upload_costs_no_more_than_time(minio, blobs, wired, wire, source):
    blobs.create("artifacts/other", b"")
    wire.once_moved(len(LARGE) // 2, minio.restart)
    created = wired.create(NAME, source)
    assert blobs.read(NAME) == (LARGE, created.etag)


def test_a_server_killed_in_a_download_costs_no_more_than_time(minio, blobs, wired, wire, source):
    blobs.create(NAME, source)
    wire.once_moved(len(LARGE) // 2, minio.restart)
    assert wired.local(NAME).read_bytes() == LARGE


@pytest.mark.parametrize("call", ["read", "local"])
def test_a_byte_changed_on_the_way_down_is_corrupt_and_not_kept(blobs, wired, wire, source, call):
    blobs.create(NAME, source)
    wire.flip_a_byte()
    with pytest.raises(Corrupt, match=f"{NAME}: expected sha256 checksum"):
        getattr(wired, call)(NAME)
    assert wired.local(NAME).read_bytes() == LARGE


@pytest.mark.parametrize("size_bytes", [PART_BYTES // 4, len(LARGE)], ids=["middle", "parts"])
def test_a_byte_changed_on_the_way_up_is_corrupt_and_nothing_is_stored(
    blobs, wired, wire, size_bytes
):
    blobs.create("artifacts/other", b"")
    wire.flip_a_byte()
    with pytest.raises(Corrupt, match="ChecksumMismatch"):
        wired.create(NAME, LARGE[:size_bytes])
    assert [blob.name for blob in blobs.list("artifacts/")] == ["artifacts/other"]


def test_a_source_that_is_cut_off_while_it_is_sent_is_corrupt(blobs, wired, wire, source):
    blobs.create("artifacts/other", b"")
    wire.once_moved(2 * PART_BYTES, lambda: os.truncate(source, PART_BYTES))
    with pytest.raises(Corrupt, match="cut off"):
        wired.create(NAME, source)
    assert [blob.name for blob in blobs.list("artifacts/")] == ["artifacts/other"]


def test_what_another_program_stored_carries_no_digest_and_is_corrupt(minio, blobs, namespace):
    blobs.create("artifacts/other", b"")
    client(minio.settings).put_object(f"{namespace}artifacts", "x", io.BytesIO(b"theirs"), 6)
    with pytest.raises(Corrupt, match="not written by Athanor"):
        blobs.read("artifacts/x")


def test_a_stopped_server_is_unavailable_by_name_within_the_deadline(minio, direct):
    blobs = direct(deadline_s=1.5)
    etag = blobs.create(NAME, b"here").etag
    calls = {
        "create": lambda: blobs.create("artifacts/new", b"x"),
        "replace_if": lambda: blobs.replace_if(NAME, b"x", etag=etag),
        "read": lambda: blobs.read(NAME),
        "local": lambda: blobs.local(NAME),
        "list": lambda: [*blobs.list("artifacts/")],
    }
    with minio.stopped():
        for call in calls.values():
            begin = time.monotonic()
            with pytest.raises(
                Unavailable, match=f"MinIO at 127.0.0.1:{minio.port} did not answer"
            ):
                call()
            assert time.monotonic() - begin < 3
    assert blobs.read(NAME) in ((b"here", etag), (b"x", blobs.stat(NAME).etag))


@pytest.mark.parametrize("content", [b"new", LARGE], ids=["small", "parts"])
def test_a_read_only_disk_is_unavailable_and_not_forbidden(minio, blobs, direct, content):
    impatient = direct(deadline_s=1.5)
    old = blobs.create(NAME, b"old")
    minio.read_only(True)
    try:
        with pytest.raises(Unavailable, match="its disk is read-only"):
            impatient.create("artifacts/new", content)
        with pytest.raises(Unavailable, match="its disk is read-only"):
            impatient.replace_if(NAME, content, etag=old.etag)
        assert blobs.read(NAME).data == blobs.local(NAME).read_bytes() == b"old"
    finally:
        minio.read_only(False)
    assert blobs.replace_if(NAME, content, etag=old.etag).size_bytes == len(content)


def test_a_full_disk_is_busy_and_what_was_there_stays(small_minio, tmp_path):
    blobs = open_blobs(small_minio.settings, tmp_path, "full-", deadline_s=6)
    blobs.create(NAME, b"here")
    with pytest.raises(Busy, match=f"MinIO at 127.0.0.1:{small_minio.port} .*; free its disk"):
        for number in range(20):
            blobs.create(f"artifacts/{number}", LARGE[:PART_BYTES])
    assert blobs.read(NAME).data == b"here"


@pytest.fixture
def small_minio(tmp_path):
    """A server on a disk of 128 MiB of its own."""
    server = OwnMinio(tmp_path / "small")
    server.disk.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(server.disk)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs: run as root")
    try:
        server.start()
        yield server
    finally:
        server.kill()
        subprocess.run(["umount", str(server.disk)], check=True)


def test_wrong_credentials_are_forbidden_and_told_without_the_secret(minio, tmp_path):
    blobs = MinioBlobs(
        minio.settings["ATHANOR_MINIO"],
        access_key=minio.settings["ATHANOR_MINIO_ACCESS_KEY"],
        secret_key="not-the-secret",
        cache=tmp_path,
    )
    with pytest.raises(Forbidden, match="the secret key is wrong") as told:
        blobs.create(NAME, b"x")
    assert "not-the-secret" not in str(told.value)


def test_a_skewed_clock_is_unavailable_naming_the_skew_until_it_is_right(blobs, direct, tmp_path):
    blobs.create(NAME, b"here")
    shift = tmp_path / "shift"
    shift.write_text("3600")
    skewed = direct(clock=Clock(shift), deadline_s=0.5)
    for call in (
        lambda: skewed.stat(NAME),
        lambda: skewed.create("artifacts/new", b"x"),
        lambda: [*skewed.list("artifacts/")],
    ):
        with pytest.raises(Unavailable, match=r"clock here is 3(600|599|601) s ahead of"):
            call()
    shift.write_text("0")
    assert skewed.read(NAME).data == b"here"
