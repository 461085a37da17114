"""What of the MinIO adapter needs no server: names of buckets, arguments, a server that is down."""

import pytest

from libs.blobs.buckets import bucket_name
from libs.blobs.minio import MinioBlobs
from libs.errors import InvalidInput, Unavailable


def blobs_at(endpoint, cache, **options):
    return MinioBlobs(endpoint, access_key="user", secret_key="s3cr3t-key", cache=cache, **options)


@pytest.mark.parametrize(
    "namespace, bucket, expected",
    [
        ("", "artifacts", "artifacts"),
        ("t1-", "artifacts", "t1-artifacts"),
        ("", "ab", "x--6162"),
        ("", "Ab-c", "x--41622d63"),
        ("", "a.b", "x--612e62"),
        ("", "x--6162", "x--782d2d36313632"),
    ],
)
def test_a_bucket_keeps_its_name_where_s3_allows_it(namespace, bucket, expected):
    assert bucket_name(namespace, bucket) == expected


def test_a_bucket_too_long_for_s3_is_refused():
    with pytest.raises(InvalidInput, match="63 letters"):
        bucket_name("", "B" * 60)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "ftp://host", "http://host:9000/path"])
def test_an_endpoint_is_a_url_without_path(endpoint, tmp_path):
    with pytest.raises(InvalidInput, match=r"http\(s\)://host:port"):
        blobs_at(endpoint, tmp_path)


def test_a_namespace_fits_into_a_bucket_name(tmp_path):
    with pytest.raises(InvalidInput, match="namespace"):
        blobs_at("http://127.0.0.1:9", tmp_path, namespace="Test_")


def test_a_server_that_is_down_is_unavailable_by_name_and_no_secret_is_told(tmp_path):
    with pytest.raises(Unavailable, match=r"MinIO at 127.0.0.1:9 refuses connections") as told:
        blobs_at("http://127.0.0.1:9", tmp_path, deadline_s=0.2).stat("artifacts/x")
    assert "s3cr3t" not in repr(told.value.__cause__) + str(told.value)
