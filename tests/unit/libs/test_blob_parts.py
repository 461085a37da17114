"""How content is cut and digested; the composite checksum is compared with one MinIO gave."""

import hashlib
import random
from base64 import b64encode
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.blobs import parts
from libs.blobs.parts import PART_BYTES, Body, Span, checksum, opened, spans
from libs.errors import Corrupt


@given(st.integers(0, 5 << 40))
def test_parts_cover_a_blob_without_gap_and_keep_to_the_limits_of_s3(size_bytes):
    cut = spans(size_bytes)
    assert (cut[0].start, sum(span.size_bytes for span in cut)) == (0, size_bytes)
    assert all(one.start + one.size_bytes == next_.start for one, next_ in pairwise(cut))
    assert len(cut) <= 10_000
    assert all(span.size_bytes >= 5 << 20 for span in cut[:-1])


def test_an_empty_blob_is_one_empty_part():
    assert spans(0) == [Span(0, 0)]


def test_the_checksum_of_one_part_is_its_sha256():
    assert parts.checksum_of(b"hello") == "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="


def test_the_checksum_of_several_parts_is_that_of_their_digests_and_their_number():
    digests = [hashlib.sha256(each).digest() for each in (b"one", b"two")]
    together = b64encode(hashlib.sha256(digests[0] + digests[1]).digest()).decode()
    assert checksum(digests) == f"{together}-2"


@pytest.mark.parametrize("size_bytes", [0, 1, PART_BYTES, PART_BYTES + 1])
def test_a_file_and_its_bytes_have_one_checksum(tmp_path, size_bytes):
    content = bytes(size_bytes)
    (tmp_path / "file").write_bytes(content)
    assert parts.checksum_of_file(tmp_path / "file") == parts.checksum_of(content)


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_a_span_is_read_and_digested_alike_from_memory_and_from_a_file(tmp_path, kind):
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    with opened(content if kind == "bytes" else tmp_path / "file") as source:
        assert source.read(Span(1000, 2_500_000)) == content[1000:2_501_000]
        expected = hashlib.sha256(content[1000:2_501_000]).digest()
        assert source.digest(Span(1000, 2_500_000)) == expected


@pytest.mark.parametrize("size_bytes", [0, 1, 1 << 20, 2_500_000])
def test_a_body_is_read_in_pieces_that_make_it_up(size_bytes):
    content = random.Random(0).randbytes(size_bytes)
    body = Body(memoryview(content))
    assert (len(body), b"".join(iter(body.read, b""))) == (size_bytes, content)


def test_a_file_cut_off_while_it_is_sent_is_corrupt(tmp_path):
    (tmp_path / "file").write_bytes(bytes(1000))
    with opened(tmp_path / "file") as source:
        (tmp_path / "file").write_bytes(bytes(10))
        with pytest.raises(Corrupt, match="cut off at 10 bytes"):
            source.read(Span(0, 1000))
