"""What an S3 server, and the way to it, say went wrong, as one of the eight errors."""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.exceptions import HTTPError, NewConnectionError, TimeoutError

from libs.errors import (
    Busy,
    Conflict,
    Corrupt,
    Forbidden,
    InvalidInput,
    NotFound,
    ServiceError,
    Unavailable,
)

MAX_SKEW_S = 900.0
"""S3 refuses a request whose date differs by more than this from the server's."""


class OutOfRange(InvalidInput):
    """A range begins behind the end of the object."""


_KINDS: Mapping[str, type[ServiceError]] = {
    "NoSuchKey": NotFound,
    "NoSuchBucket": NotFound,
    "NoSuchUpload": NotFound,
    "PreconditionFailed": Conflict,
    "InvalidPart": Conflict,  # another writer has put other bytes into the same upload
    "BucketAlreadyOwnedByYou": Conflict,
    "BucketAlreadyExists": Conflict,
    "XMinioParentIsObject": Conflict,
    "XMinioObjectExistsAsDirectory": Conflict,
    "AccessDenied": Forbidden,
    "InvalidAccessKeyId": Forbidden,
    "SignatureDoesNotMatch": Forbidden,
    "XAmzContentChecksumMismatch": Corrupt,
    "XAmzContentSHA256Mismatch": Corrupt,
    "BadDigest": Corrupt,
    "SlowDown": Busy,
    "SlowDownRead": Busy,
    "SlowDownWrite": Busy,
    "TooManyRequests": Busy,
    "XMinioStorageFull": Busy,
    "XMinioAdminBucketQuotaExceeded": Busy,
    "InvalidRange": OutOfRange,
    "EntityTooLarge": InvalidInput,
    "KeyTooLongError": InvalidInput,
    "XMinioInvalidObjectName": InvalidInput,
    "InvalidBucketName": InvalidInput,
}
"""Every other code is `Unavailable`: internal errors, a server that starts or is read-only."""
_REMEDIES = {
    "NoSuchBucket": "python -m deploy.minio apply creates it",
    "AccessDenied": "python -m deploy.minio plan shows which service may do what",
    "InvalidAccessKeyId": "the access key is unknown there: python -m deploy.minio apply",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "XMinioStorageFull": "free its disk",
}
_FULL = "no space left on device"
"""In the message of an InternalError that MinIO makes of a disk that is full to the last byte."""
FAILURES = (S3Error, ServerError, InvalidResponseError, HTTPError)
"""What minio-py and urllib3 raise; an `OSError` on the way arrives inside an `HTTPError`."""


def code_of(error: Exception) -> str:
    """Return S3's code for an error; empty when no server answered in S3's words."""
    if not isinstance(error, S3Error):
        return ""
    # The answer to HEAD has no body; MinIO repeats the code in a header.
    return str(error.response.headers.get("x-minio-error-code") or error.code)


def failure(error: Exception, *, what: str, server: str, now: float) -> ServiceError:
    """Return the error to raise for `what`, asked of `server` at wall time `now`."""
    skew_s = _skew_s(error, now)
    if skew_s is not None:
        return Unavailable(
            f"{what}: {server} refuses requests because of the time: the clock here is "
            f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} the server's"
        )
    code = code_of(error)
    if code:
        message = str(getattr(error, "message", ""))
        kind = Busy if _FULL in message else _KINDS.get(code, Unavailable)
        remedy = "free its disk" if _FULL in message else _REMEDIES.get(code)
        said = f"{what}: {server} says {code}: {message}"
        return kind(f"{said}; {remedy}" if remedy else said)
    return Unavailable(f"{what}: {server} {_silence(error)}")


def _silence(error: Exception) -> str:
    if isinstance(error, NewConnectionError):
        return "refuses connections: it is down or starting"
    if isinstance(error, TimeoutError):
        return f"did not answer in time: {error}"
    return f"failed: {error}"


def _skew_s(error: Exception, now: float) -> float | None:
    """Return how far the clock here is ahead, seconds, where that made the server refuse."""
    if not isinstance(error, S3Error) or error.response.status != 403:
        return None
    try:
        server_time = parsedate_to_datetime(error.response.headers["Date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return None
    skew_s = now - server_time
    late = code_of(error) == "RequestTimeTooSkewed" or abs(skew_s) > MAX_SKEW_S
    return skew_s if late else None
