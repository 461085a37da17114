import hashlib
import time

import pytest

from libs import digests


@pytest.fixture
def reads(monkeypatch):
    """Paths that were really read, in order."""
    paths = []
    real = digests.file_sha256
    monkeypatch.setattr(digests, "file_sha256", lambda path: paths.append(path) or real(path))
    return paths


@pytest.fixture
def later(monkeypatch):
    """Let a second pass, so that files count as settled."""
    real = time.time_ns
    monkeypatch.setattr(digests.time, "time_ns", lambda: real() + 1_000_000_000)


@pytest.mark.parametrize("content", [b"", b"abc", b"x" * 3_000_000])
def test_the_digest_is_the_sha256_of_the_bytes(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert digests.file_sha256(tmp_path / "file") == expected
    assert digests.remembered_sha256(tmp_path / "file") == expected


def test_a_settled_file_is_read_once_whatever_path_leads_to_it(tmp_path, reads, later):
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    first = digests.remembered_sha256(tmp_path / "file")
    assert digests.remembered_sha256(tmp_path / "link") == first
    assert len(reads) == 1


def test_a_file_that_just_changed_is_read_again(tmp_path, reads):
    (tmp_path / "file").write_bytes(b"abc")
    first = digests.remembered_sha256(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"abd")
    assert digests.remembered_sha256(tmp_path / "file") != first
    assert len(reads) == 2


def test_a_settled_file_is_read_again_once_it_changes(tmp_path, reads, later):
    (tmp_path / "file").write_bytes(b"abc")
    first = digests.remembered_sha256(tmp_path / "file")
    (tmp_path / "other").write_bytes(b"abd")
    (tmp_path / "other").rename(tmp_path / "file")
    assert digests.remembered_sha256(tmp_path / "file") != first
    assert len(reads) == 2
