"""A collector of traces in memory: an OTLP receiver over gRPC that keeps what it is sent."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as wire
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as wire_grpc


class Told(NamedTuple):
    """One span."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty for the first of a trace."""
    attributes: dict[str, str | int]
    failed: bool


Holds = Callable[[Sequence[Told]], Any]


class Collector(wire_grpc.TraceServiceServicer):
    """Keeps every span."""

    def __init__(self) -> None:
        self._spans: list[Told] = []
        self._changed = threading.Condition()
        self.endpoint = ""

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        found = [
            _told(_text(resource.resource.attributes)["service.name"], each)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for each in scope.spans
        ]
        with self._changed:
            self._spans += found
            self._changed.notify_all()
        return wire.ExportTraceServiceResponse()

    def spans(self) -> list[Told]:
        with self._changed:
            return [*self._spans]

    def until(self, holds: Holds) -> list[Told]:
        """Return the spans once `holds` of them; fails when it never does."""
        assert self.wait_for(holds), self.spans()
        return self.spans()

    def wait_for(self, holds: Holds, *, timeout_s: float = 20) -> bool:
        """Wait until `holds` of the spans; False when the time ran out before."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: holds(self._spans), timeout_s))


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """Receive on loopback during the block."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    wire_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()


def _told(service: str, span: Any) -> Told:
    return Told(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=_text(span.attributes),
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
    )


def _text(attributes: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in attributes}
