"""A gRPC channel on which every call has a deadline, carries the trace and raises typed errors.

Calls that met UNAVAILABLE or RESOURCE_EXHAUSTED are sent again within their deadline. That may
repeat an effect whose answer was lost, and is allowed only because every call of Athanor is
idempotent: it reads, or it carries a `request_id` and the same id twice is the same operation.
Calls that stream their requests are never repeated: the requests are used up.
"""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

from libs import telemetry
from libs.errors import (
    Busy,
    DeadlineExceeded,
    Forbidden,
    InvalidInput,
    ServiceError,
    Unavailable,
)
from libs.rpc.credentials import RenewedChannel, channel_credentials
from libs.rpc.serving import MAX_MESSAGE_BYTES
from libs.rpc.status import RemoteError, from_status
from libs.tls import Tls

DEFAULT_DEADLINE_S = 30.0
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 5.0
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Repeating is done here, where the retry delay of the error is known.
    ("grpc.enable_retries", 0),
    # A service that is back is found at once, not after gRPC's 20 seconds and more.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # `http_proxy` of the environment is meant for the crawler.
    ("grpc.enable_http_proxy", 0),
)


def connect(address: str, *, tls: Tls | None = None) -> grpc.Channel:
    """Return a channel to `host:port`, for any stub; nothing is sent before the first call.

    Every call raises one of the eight of `libs.errors`, or `RemoteError`; so does iterating over a
    stream. A call without `timeout` gets `DEFAULT_DEADLINE_S`, the time for repeating included. A
    call that the caller cancels, like one whose time ran out, raises `DeadlineExceeded`.

    With `tls` both sides show their certificates, and the server's must be for the host in
    `address`. A call whose own certificate nobody accepts raises `Forbidden`.

    Raises:
        InvalidInput: a file of `tls` cannot be read.
    """
    return grpc.intercept_channel(_open(address, tls), _Interceptor(address, tls))


def _open(address: str, tls: Tls | None) -> grpc.Channel:
    if tls is None:
        return grpc.insecure_channel(address, options=_OPTIONS)
    return RenewedChannel(
        tls, lambda: grpc.secure_channel(address, channel_credentials(tls), options=_OPTIONS)
    )


class _Details(NamedTuple):
    """What gRPC reads of `grpc.ClientCallDetails`."""

    method: str
    timeout: float
    metadata: tuple[tuple[str, str], ...]
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Attempts:
    """One call's deadline, and the time until it is worth sending again."""

    def __init__(self, address: str, tls: Tls | None, details: Any) -> None:
        self._given, self._tls = details, tls
        self._timeout_s = DEFAULT_DEADLINE_S if details.timeout is None else details.timeout
        self._ends = time.monotonic() + self._timeout_s
        self._delay_s = _FIRST_DELAY_S
        self._where = f"{details.method.removeprefix('/')} at {address}"

    def details(self) -> _Details:
        """Return what to send now: the time that is left, and the current trace."""
        headers: dict[str, str] = {}
        telemetry.inject(headers)
        given = self._given
        return _Details(
            given.method,
            max(self._ends - time.monotonic(), 0.001),
            (*(given.metadata or ()), *headers.items()),
            given.credentials,
            given.wait_for_ready,
            given.compression,
        )

    def error(self, failed: Any) -> ServiceError | RemoteError:
        """Return the failure of a call as a typed error that names method and address."""
        code, cancelled = failed.code(), getattr(failed, "cancelled", bool)()
        rich = rpc_status.from_call(failed)
        if rich is not None and not cancelled:
            return from_status(rich)
        if cancelled:
            return DeadlineExceeded(f"{self._where} was cancelled by the caller")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"{self._where} did not end within {self._timeout_s:g} s")
        details = f"{self._where}: {failed.details()}"
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
            return InvalidInput(details)
        if code is grpc.StatusCode.UNAVAILABLE:
            return self._unreached(details)
        return from_status(status_pb2.Status(code=code.value[0], message=details))

    def _unreached(self, details: str) -> ServiceError:
        """Return why nobody answered; a server that hangs up on a certificate does not say so."""
        if "protocol is restricted" in details:  # what Triton says to a caller without its key
            return Forbidden(details)
        if self._tls is None:
            hint = " (spoken without TLS)" if "Socket closed" in details else ""
            return Unavailable(details + hint)
        if fault := self._tls.fault():
            return Forbidden(f"{details}; {fault}")
        return Unavailable(details)

    def backed_off(self, error: Exception) -> bool:
        """Sleep until the call is worth sending again; return False at once when it is not."""
        if not isinstance(error, Unavailable | Busy):
            return False
        # Half of it by chance, so that the callers of a service that is back do not come at once.
        delay_s = max(self._delay_s * random.uniform(0.5, 1.0), error.retry_after_s or 0.0)
        if time.monotonic() + delay_s >= self._ends:
            return False
        time.sleep(delay_s)
        self._delay_s = min(self._delay_s * 2, _LONGEST_DELAY_S)
        return True


class _Interceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """All four kinds of call."""

    def __init__(self, address: str, tls: Tls | None) -> None:
        self._address, self._tls = address, tls

    def _attempts(self, details: Any) -> _Attempts:
        return _Attempts(self._address, self._tls, details)

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        attempts = self._attempts(details)
        while True:
            call = _Future(continuation(attempts.details(), request), attempts)
            # One made by `.future()` is under way, and not repeated: that would block its maker.
            if not call.done() or (failure := call.exception()) is None:
                return call
            if not attempts.backed_off(failure):
                return call

    def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        attempts = self._attempts(details)
        return _Future(continuation(attempts.details(), requests), attempts)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        attempts = self._attempts(details)
        return _Stream(lambda: continuation(attempts.details(), request), attempts, repeat=True)

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        attempts = self._attempts(details)
        return _Stream(lambda: continuation(attempts.details(), requests), attempts, repeat=False)


class _Future:
    """A `grpc.Future` and `grpc.Call` whose failures are typed."""

    def __init__(self, call: Any, attempts: _Attempts) -> None:
        self._call, self._attempts = call, attempts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def result(self, timeout: float | None = None) -> Any:
        failure = self.exception(timeout)
        if failure is not None:
            raise failure
        return self._call.result()

    def exception(self, timeout: float | None = None) -> Exception | None:
        try:
            failure: Exception | None = self._call.exception(timeout)
        except grpc.FutureTimeoutError:
            raise DeadlineExceeded(f"the answer was not there within {timeout} s") from None
        except grpc.FutureCancelledError:
            return self._attempts.error(self._call)
        return self._attempts.error(failure) if isinstance(failure, grpc.RpcError) else failure

    def add_done_callback(self, act: Callable[["_Future"], None]) -> None:
        self._call.add_done_callback(lambda _: act(self))


class _Stream:
    """An iterator and `grpc.Call` whose failures are typed; repeated until its first answer."""

    def __init__(self, open_call: Callable[[], Any], attempts: _Attempts, *, repeat: bool) -> None:
        self._open, self._attempts, self._may_repeat = open_call, attempts, repeat
        self._call = open_call()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        while True:
            try:
                answer = next(self._call)
            except grpc.RpcError as failure:
                error = self._attempts.error(failure)
                if not self._may_repeat or not self._attempts.backed_off(error):
                    raise error from failure
                self._call = self._open()
            else:
                self._may_repeat = False
                return answer
