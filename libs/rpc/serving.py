"""A gRPC server whose every call is admitted, checked, traced, counted and ends in a typed error.

Servicers raise `libs.errors` and know nothing of status codes, metrics or traces; whatever else
they raise is a bug: INTERNAL for the caller, logged here once with its traceback.
"""

import contextvars
import errno
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from libs import telemetry
from libs.errors import Conflict, InvalidInput, ServiceError, kind_of
from libs.rpc.callers import check_caller
from libs.rpc.credentials import server_credentials
from libs.rpc.gate import Gate
from libs.rpc.promises import check_deadline, checked
from libs.rpc.status import shortened, to_status
from libs.tls import Tls

MAX_MESSAGE_BYTES = 16 * 2**20
_OPTIONS = (
    # Without it a second process would bind the same port and take half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)
# Answered whatever the load, and after drain begins: health, reflection.
_SPARE_THREADS = 4
_POLLED = frozenset({"google.longrunning.Operations/GetOperation"})
"""Asked several times a second for hours: no spans of their own."""
_END = object()
_log = logging.getLogger(__name__)


class Server:
    """A bound server; made by `server`."""

    def __init__(
        self, bare: grpc.Server, gate: Gate, healthy: health.HealthServicer, address: str
    ) -> None:
        self._bare, self._gate, self._health = bare, gate, healthy
        self.address = address
        """Where it listens, `host:port`."""
        self.port = int(address.rpartition(":")[2])
        """The port it is bound to, before `start` already."""

    def start(self) -> None:
        """Begin to answer."""
        self._bare.start()

    def drain(self, grace_s: float) -> None:
        """Stop in peace; idempotent.

        Health turns NOT_SERVING and new calls are refused with UNAVAILABLE at once; the calls under
        way get `grace_s` to end and are cancelled then.
        """
        self._gate.close()
        self._health.enter_graceful_shutdown()
        self._gate.wait(grace_s)
        self._bare.stop(grace=None).wait()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the server has stopped; return False when the time ran out before."""
        return not self._bare.wait_for_termination(timeout_s)


def server(
    *,
    service: str,
    registrations: Sequence[Callable[[grpc.Server], None]],
    service_names: Sequence[str],
    host: str = "127.0.0.1",
    port: int = 0,
    threads: int = 16,
    tls: Tls | None = None,
) -> Server:
    """Return a server that is bound and not started, with health and reflection.

    Args:
        service: its noun, for metrics, logs and messages.
        registrations: each adds one servicer, `partial(add_XServicer_to_server, servicer)`.
        service_names: full proto names, for health and reflection.
        host: address to listen on.
        port: 0 takes any free one.
        threads: calls at once, streams included; one more is refused with `Busy`.
        tls: its certificate; callers must show one of the same authority then, and one whose name
            is among the method's `allowed_callers`. None: plain, and anybody may call.

    Raises:
        Conflict: the port is in use.
        InvalidInput: the machine has no such address, or nobody would accept the certificate.
    """
    gate = Gate(service, threads)
    bare = grpc.server(
        ThreadPoolExecutor(threads + _SPARE_THREADS, thread_name_prefix=f"{service}-rpc"),
        interceptors=[_Interceptor(service, gate, named=tls is not None)],
        options=_OPTIONS,
    )
    for register in registrations:
        register(bare)
    healthy = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, bare)
    for name in service_names:
        healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection(
        (*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME), bare
    )
    return Server(bare, gate, healthy, f"{host}:{_bind(bare, service, host, port, tls)}")


def _bind(bare: grpc.Server, service: str, host: str, port: int, tls: Tls | None) -> int:
    # Tried with a plain socket first: gRPC says why only on stderr.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise _in_use(service, host, port) from error
            raise InvalidInput(f"{service} cannot listen on {host}:{port}: {error}") from error
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if tls is None:
            return bare.add_insecure_port(address)
        return bare.add_secure_port(address, server_credentials(tls))
    except RuntimeError as error:
        raise _in_use(service, host, port) from error


def _in_use(service: str, host: str, port: int) -> Conflict:
    return Conflict(f"{service} cannot listen: port {port} is in use on {host}")


_KINDS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


class _Interceptor(grpc.ServerInterceptor):
    """Puts a `_Call` around every method but those of gRPC's own services."""

    def __init__(self, service: str, gate: Gate, *, named: bool) -> None:
        """`named`: callers have names, and those matter."""
        self._service, self._gate, self._named = service, gate, named

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if handler is None or details.method.startswith("/grpc."):
            return handler
        metadata = dict(details.invocation_metadata or ())
        call = _Call(
            self._service, details.method.removeprefix("/"), metadata, self._gate, self._named
        )
        kind, made = _KINDS[handler.request_streaming, handler.response_streaming]
        answer = call.stream if handler.response_streaming else call.unary
        return made(
            partial(answer, getattr(handler, kind)),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


@dataclass(frozen=True)
class _Call:
    """One call from its arrival to its last answer."""

    service: str
    method: str
    metadata: Mapping[str, Any]
    gate: Gate
    named: bool

    def unary(self, behaviour: Any, request: Any, context: grpc.ServicerContext) -> Any:
        with self._watched(context):
            return behaviour(self._checked(request, context), context)

    def stream(self, behaviour: Any, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        # In a context of its own, since another thread may be the one that closes the stream.
        own = contextvars.copy_context()
        answers = self._answers(behaviour, request, context)
        try:
            while (answer := own.run(next, answers, _END)) is not _END:
                yield answer
        finally:
            own.run(answers.close)

    def _answers(self, behaviour: Any, request: Any, context: Any) -> Any:
        with self._watched(context):
            yield from behaviour(self._checked(request, context), context)

    def _checked(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.named:
            telemetry.note({"athanor.caller": check_caller(self.method, context)})
        check_deadline(self.method, context)
        if isinstance(request, Message):
            return checked(request)
        return (checked(message) for message in request)

    @contextmanager
    def _watched(self, context: Any) -> Iterator[None]:
        status, started = "CANCELLED", time.perf_counter()
        with self._span():
            try:
                with self.gate.admitted(context):
                    yield
                status = "OK" if context.is_active() else "CANCELLED"
            except Exception as error:  # the process edge
                if _is_own_abort(error, context):
                    status = context.code().name
                    raise
                answer = self._answer_for(error)
                rich = rpc_status.to_status(answer)
                status = rich.code.name
                context.abort_with_status(rich)
            finally:
                telemetry.note({"rpc.grpc.status": status})
                telemetry.RPC_REQUESTS.labels(self.service, self.method, status).inc()
                telemetry.RPC_LATENCY.labels(self.service, self.method).observe(
                    time.perf_counter() - started
                )

    def _span(self) -> AbstractContextManager[str]:
        parent = telemetry.extract(self.metadata)
        if self.method in _POLLED:
            return telemetry.within(parent, self.method)
        attributes = {
            "rpc.system": "grpc",
            "rpc.method": self.method,
            "athanor.service": self.service,
        }
        return telemetry.span(
            self.method, parent, role=telemetry.Role.ANSWERS, attributes=attributes
        )

    def _answer_for(self, error: Exception) -> status_pb2.Status:
        if isinstance(error, ServiceError) and type(error) is not ServiceError:
            telemetry.RPC_ERRORS.labels(self.service, kind_of(error).__name__).inc()
            return to_status(error)
        if isinstance(error, NotImplementedError):
            code, message = grpc.StatusCode.UNIMPLEMENTED, f"{self.method} is not implemented"
        else:
            # Name and trace id only: the text of an unforeseen error may hold anything.
            _log.error("bug in %s", self.method, exc_info=error)
            code = grpc.StatusCode.INTERNAL
            message = (
                f"{self.service} failed in {self.method} with {type(error).__name__};"
                f" its log has the rest under trace {telemetry.trace_id()}"
            )
        telemetry.RPC_ERRORS.labels(self.service, type(error).__name__).inc()
        return status_pb2.Status(code=code.value[0], message=shortened(message))


def _is_own_abort(error: Exception, context: Any) -> bool:
    # `context.abort` raises a bare Exception after it has set the code.
    return type(error) is Exception and not error.args and context.code() is not None
