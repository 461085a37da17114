"""Connect to a running Athanor: stubs whose failures are one typed error.

Speaks gRPC only, so that any program can use it without Athanor's own machinery.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from google.longrunning import operations_pb2_grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from athanor.client.errors import AthanorError
from athanor.client.tls import Tls, channel
from athanor.common.v1 import artifacts_pb2_grpc, dead_letters_pb2_grpc
from athanor.common.v1 import operations_pb2_grpc as watch_pb2_grpc
from athanor.loop.v1 import loop_pb2_grpc

DEFAULT_TIMEOUT_S = 60.0
_MAX_MESSAGE_BYTES = 16 * 2**20
_KINDS = {
    grpc.StatusCode.INVALID_ARGUMENT: "InvalidInput",
    grpc.StatusCode.NOT_FOUND: "NotFound",
    grpc.StatusCode.PERMISSION_DENIED: "Forbidden",
    grpc.StatusCode.ABORTED: "Conflict",
    grpc.StatusCode.DATA_LOSS: "Corrupt",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "Busy",
    grpc.StatusCode.UNAVAILABLE: "Unavailable",
    grpc.StatusCode.DEADLINE_EXCEEDED: "DeadlineExceeded",
}


def typed(error: grpc.RpcError) -> AthanorError:
    """Return the error that the status and its details stand for."""
    kind, retry_after_s = _KINDS.get(error.code(), "Internal"), None
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            kind = info.reason or kind
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    return AthanorError(kind, error.details() or error.code().name, retry_after_s)


class _Deadline(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
):
    """Give every call a deadline: nothing waits for ever."""

    def intercept_unary_unary(self, go_on: Callable[..., Any], details: Any, request: Any) -> Any:
        return go_on(_with_deadline(details), request)

    def intercept_unary_stream(self, go_on: Callable[..., Any], details: Any, request: Any) -> Any:
        return go_on(_with_deadline(details), request)


def _with_deadline(details: Any) -> Any:
    if details.timeout is not None:
        return details
    return details._replace(timeout=DEFAULT_TIMEOUT_S)


@dataclass(frozen=True, kw_only=True)
class Client:
    """Stubs of one `loop` address; use as a context manager."""

    channel: grpc.Channel
    loop: loop_pb2_grpc.LoopServiceStub
    artifacts: artifacts_pb2_grpc.ArtifactsServiceStub
    dead_letters: dead_letters_pb2_grpc.DeadLettersServiceStub
    operations: operations_pb2_grpc.OperationsStub
    watching: watch_pb2_grpc.OperationsWatchServiceStub
    services: Mapping[str, grpc.Channel]
    """The other services by their noun, for calls that `loop` does not pass on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each in (self.channel, *self.services.values()):
            each.close()
        if isinstance(error, grpc.RpcError):
            raise typed(error) from None


def open_channel(address: str, *, tls: Tls | None = None) -> grpc.Channel:
    """Return a channel whose calls all have a deadline.

    Without `tls` it shows the certificate that the environment names, `athanor.client.tls.NAMES`,
    and is plain where that names none.

    Raises:
        AthanorError: `InvalidInput`, a file of the certificate cannot be read.
    """
    options = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ]
    return grpc.intercept_channel(channel(address, tls, options), _Deadline())


def connect(
    address: str, *, tls: Tls | None = None, services: Mapping[str, str] | None = None
) -> Client:
    """Return a client of the `loop` service at `host:port`; `tls` as for `open_channel`.

    `services` are the addresses of others by their noun.

    Used as a context manager it raises `AthanorError` for any call that fails inside.
    """
    opened = open_channel(address, tls=tls)
    return Client(
        channel=opened,
        loop=loop_pb2_grpc.LoopServiceStub(opened),
        artifacts=artifacts_pb2_grpc.ArtifactsServiceStub(opened),
        dead_letters=dead_letters_pb2_grpc.DeadLettersServiceStub(opened),
        operations=operations_pb2_grpc.OperationsStub(opened),
        watching=watch_pb2_grpc.OperationsWatchServiceStub(opened),
        services={name: open_channel(at, tls=tls) for name, at in (services or {}).items()},
    )


def retried(call: Callable[[], Any], *, attempts: int, pause: Callable[[float], None]) -> Any:
    """Call until it answers; what cannot be retried, or the last failure, is raised typed."""
    for left in reversed(range(attempts)):
        try:
            return call()
        except grpc.RpcError as error:
            failure = typed(error)
            if not failure.retryable or not left:
                raise failure from None
            pause(failure.retry_after_s or 1.0)
    raise AssertionError("attempts must be positive")


def chunks(stream: Iterator[Any]) -> bytes:
    """Join the pieces of a streamed file."""
    return b"".join(piece.chunk for piece in stream)
