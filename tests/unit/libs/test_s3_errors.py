"""What a server's answers become, each as the one of the eight that its caller must see."""

import pytest
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3 import HTTPResponse
from urllib3.exceptions import NewConnectionError, ProtocolError, ReadTimeoutError

from libs.blobs.s3_errors import failure
from libs.errors import (
    Busy,
    Conflict,
    Corrupt,
    Forbidden,
    InvalidInput,
    NotFound,
    Unavailable,
    kind_of,
)

NOW = 1_700_000_000.0
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"  # NOW


def said(code, status=400, date=DATE, **headers):
    response = HTTPResponse(status=status, headers={"Date": date, **headers})
    return S3Error(response, code, "told why", "/bucket/key", "id", "host")


def raised(error, now=NOW):
    return failure(error, what="artifacts/x", server="MinIO at there:9000", now=now)


@pytest.mark.parametrize(
    "code, kind",
    [
        ("NoSuchKey", NotFound),
        ("NoSuchBucket", NotFound),
        ("PreconditionFailed", Conflict),
        ("AccessDenied", Forbidden),
        ("SignatureDoesNotMatch", Forbidden),
        ("XAmzContentChecksumMismatch", Corrupt),
        ("SlowDown", Busy),
        ("XMinioStorageFull", Busy),
        ("InvalidRange", InvalidInput),
        ("InternalError", Unavailable),
        ("XMinioServerNotInitialized", Unavailable),
        ("NeverHeardOf", Unavailable),
    ],
)
def test_a_code_of_s3_is_one_of_the_eight_and_names_the_server(code, kind):
    error = raised(said(code))
    assert kind_of(error) is kind
    assert str(error).startswith(f"artifacts/x: MinIO at there:9000 says {code}: told why")


@pytest.mark.parametrize("ahead_s, words", [(3600, "3600 s ahead of"), (-3600, "3600 s behind")])
def test_a_skewed_clock_is_unavailable_and_names_the_skew(ahead_s, words):
    error = raised(said("RequestTimeTooSkewed", status=403), now=NOW + ahead_s)
    assert kind_of(error) is Unavailable
    assert words in str(error)


def test_a_skew_is_seen_where_the_answer_to_head_says_only_forbidden():
    assert kind_of(raised(said("AccessDenied", status=403), now=NOW + 3600)) is Unavailable


def test_a_full_disk_is_busy_where_minio_says_only_internal_error():
    response = HTTPResponse(status=500, headers={"Date": DATE})
    message = "internal error: cause(no space left on device)"
    error = S3Error(response, "InternalError", message, "/bucket/key", "id", "host")
    assert kind_of(raised(error)) is Busy


def test_the_code_of_an_answer_without_body_is_in_minios_header():
    error = said("AccessDenied", status=403, **{"x-minio-error-code": "SlowDown"})
    assert kind_of(raised(error)) is Busy


@pytest.mark.parametrize(
    "error, words",
    [
        (NewConnectionError(None, "refused"), "refuses connections"),
        (ReadTimeoutError(None, "/", "Read timed out."), "did not answer in time"),
        (ProtocolError("Connection aborted."), "Connection aborted"),
        (ServerError("status code 502", 502), "502"),
        (InvalidResponseError(504, "text/html", "gateway"), "504"),
    ],
)
def test_silence_and_noise_are_unavailable(error, words):
    found = raised(error)
    assert kind_of(found) is Unavailable
    assert words in str(found)
    assert "MinIO at there:9000" in str(found)
