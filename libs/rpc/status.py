"""The eight of `libs.errors` on the wire: gRPC status with `google.rpc` details, and back.

`ErrorInfo` names the kind, so that it survives a status that two kinds could share or that gRPC
itself uses; `RetryInfo` carries the delay. Details: https://google.aip.dev/193.
"""

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from libs.errors import (
    KINDS,
    Busy,
    Conflict,
    Corrupt,
    DeadlineExceeded,
    ErrorRecord,
    Forbidden,
    InvalidInput,
    NotFound,
    ServiceError,
    Unavailable,
    kind_of,
)
from libs.masking import masked

DOMAIN = "athanor"
STATUS: dict[type[ServiceError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    Conflict: grpc.StatusCode.ABORTED,
    Corrupt: grpc.StatusCode.DATA_LOSS,
    Busy: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# Statuses that only gRPC itself and servers of others send.
_FOREIGN: dict[grpc.StatusCode, type[ServiceError]] = {
    grpc.StatusCode.OUT_OF_RANGE: InvalidInput,
    grpc.StatusCode.UNIMPLEMENTED: InvalidInput,
    grpc.StatusCode.UNAUTHENTICATED: Forbidden,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    # By the server, which goes away: a caller's own cancellation is seen before this table is.
    grpc.StatusCode.CANCELLED: Unavailable,
}
_KIND_BY_CODE = {code.value[0]: kind for kind, code in STATUS.items()} | {
    code.value[0]: kind for code, kind in _FOREIGN.items()
}
# The message travels twice, once percent-encoded at three bytes a byte; clients take 8 KiB.
_MESSAGE_BYTES = 1500


class RemoteError(Exception):
    """The other side failed in a way that none of the eight names; its log has the traceback."""


def status_of(error: ServiceError) -> grpc.StatusCode:
    """Return the status of the error's kind, so that services may subclass."""
    return STATUS[kind_of(error)]


def to_status(error: ServiceError) -> status_pb2.Status:
    """Spell an error with its details: `ErrorInfo`, and `RetryInfo` when it may be retried."""
    status = status_pb2.Status(code=status_of(error).value[0], message=shortened(str(error)))
    info = error_details_pb2.ErrorInfo(reason=kind_of(error).__name__, domain=DOMAIN)
    status.details.add().Pack(info)
    if error.retry_after_s is not None:
        delay = Duration(nanos=0)
        delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def from_status(status: status_pb2.Status) -> ServiceError | RemoteError:
    """Return the error that a status spells; by its code alone where it carries no `ErrorInfo`."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    if info.domain == DOMAIN and info.reason in {kind.__name__ for kind in KINDS}:
        error = ErrorRecord(kind=info.reason, message=status.message).error()
    elif status.code in _KIND_BY_CODE:
        error = _KIND_BY_CODE[status.code](status.message)
    else:
        return RemoteError(status.message)
    if retry.HasField("retry_delay"):
        error.retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return error


def shortened(message: str) -> str:
    """Cut a message to what fits into the trailing metadata of any client; mask its secrets."""
    encoded = masked(message).encode(errors="replace")
    if len(encoded) <= _MESSAGE_BYTES:
        return encoded.decode()
    return encoded[:_MESSAGE_BYTES].decode(errors="ignore") + " ..."
