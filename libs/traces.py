"""Spans: what a process did, in which order and for whom, told to a collector where there is one.

Ids and their propagation are OpenTelemetry's (W3C Trace Context); they exist without a collector,
too, for the log lines. `start` sends spans to one over OTLP, from a thread and a bounded queue of
its own: a collector that is slow or away costs spans, never a call.
Not protected against: what callers put into the names of operations; texts, requests and messages
of errors are never put into a span.
"""

import logging
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from enum import StrEnum

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from libs.masking import masked
from libs.otlp import Exporter

STOP_S = 2.0
"""For the last spans, when a process ends."""
_QUEUE_SPANS, _BATCH_SPANS, _PAUSE_MS = 4096, 512, 500.0
_SDK_LOGGERS = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")
"""`Exporter` says once what they would say at every batch."""
_PROPAGATOR = TraceContextTextMapPropagator()


class Role(StrEnum):
    """What a span is, beside what it is part of."""

    INSIDE = "internal"
    ANSWERS = "server"
    READS = "consumer"


_KINDS = {
    Role.INSIDE: SpanKind.INTERNAL,
    Role.ANSWERS: SpanKind.SERVER,
    Role.READS: SpanKind.CONSUMER,
}


def inject(headers: MutableMapping[str, str]) -> None:
    """Write the current trace into headers of a message or metadata of a call."""
    _PROPAGATOR.inject(headers)


def extract(headers: Mapping[str, str]) -> Context:
    """Read the trace that `inject` wrote; an empty or broken one gives an empty context."""
    return _PROPAGATOR.extract(headers, context=Context())


@contextmanager
def span(
    name: str,
    parent: Context | None = None,
    *,
    role: Role = Role.INSIDE,
    attributes: Mapping[str, str | int] = {},
) -> Iterator[str]:
    """Do the block as part of `parent`, of the current trace, or of a new one; yield the trace id.

    What the block raises is told by its class alone. Threads start without a trace: hand them
    headers, or run them in `contextvars.copy_context()`.
    """
    with _process.tracer.start_as_current_span(
        name,
        context=parent,
        kind=_KINDS[role],
        attributes=_masked(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ):
        try:
            yield trace_id()
        except Exception as error:
            failed(type(error).__name__)
            raise


@contextmanager
def within(parent: Context, name: str) -> Iterator[str]:
    """Do the block as part of `parent` without a span of its own, or as `span` if that is none.

    For what is asked so often that its spans would bury the others.
    """
    if not trace.get_current_span(parent).get_span_context().is_valid:
        with span(name, parent) as begun:
            yield begun
        return
    token = contexts.attach(parent)
    try:
        yield trace_id()
    finally:
        contexts.detach(token)


def note(attributes: Mapping[str, str | int]) -> None:
    """Add to the current span."""
    current = trace.get_current_span()
    if current.is_recording():
        current.set_attributes(_masked(attributes))


def failed(kind: str) -> None:
    """Mark the current span as failed by an error of this class."""
    current = trace.get_current_span()
    if current.is_recording():
        current.set_status(Status(StatusCode.ERROR))
        current.set_attribute("error.type", kind)


def trace_id() -> str:
    """Return the id of the current trace, 32 hexadecimal digits; empty outside of a span."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def start(
    service: str,
    endpoint: str,
    *,
    ratio: float = 1.0,
    ca: bytes | None = None,
) -> None:
    """Send this process's spans to the collector at `endpoint` from now on; until `stop`.

    Args:
        service: named as their resource.
        endpoint: `http://host:port` of an OTLP receiver over gRPC, or `https://`.
        ratio: share of the traces that is told, in [0, 1]. It follows from the trace's id, so that
            services with one ratio tell the same ones.
        ca: PEM of the authority that signed the collector's certificate; None: the system's.

    Raises:
        InvalidInput: `endpoint` is none.
    """
    exporter = Exporter(service, endpoint, ca)
    for name in _SDK_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    _process.replace(_provider(service, exporter, TraceIdRatioBased(ratio)), exporter)


def stop() -> None:
    """Send what is left, for `STOP_S` at most, and tell nothing more; idempotent."""
    _process.replace(_silent(), None)


def _provider(service: str, exporter: SpanExporter, sampler: Sampler) -> TracerProvider:
    made = TracerProvider(
        sampler=sampler, resource=Resource({SERVICE_NAME: service}), shutdown_on_exit=False
    )
    processor = BatchSpanProcessor(
        exporter,
        max_queue_size=_QUEUE_SPANS,
        max_export_batch_size=_BATCH_SPANS,
        schedule_delay_millis=_PAUSE_MS,
    )
    made.add_span_processor(processor)
    return made


def _silent() -> TracerProvider:
    return TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)


class _Process:
    """The process's one tracer, as `logging` has one root."""

    def __init__(self) -> None:
        self._provider = _silent()
        self._exporter: Exporter | None = None
        self.tracer = self._provider.get_tracer("athanor")

    def replace(self, provider: TracerProvider, exporter: Exporter | None) -> None:
        """Tell through another provider; the one before gets `STOP_S` for what it still has."""
        ended, left = self._provider, self._exporter
        self._provider, self._exporter = provider, exporter
        self.tracer = provider.get_tracer("athanor")
        # Its own limit is half a minute, which a supervisor would not wait.
        ending = threading.Thread(target=ended.shutdown, daemon=True)
        ending.start()
        ending.join(STOP_S)
        if left is not None and ending.is_alive():
            left.shutdown()


def _masked(attributes: Mapping[str, str | int]) -> Mapping[str, str | int]:
    return {
        name: masked(value) if isinstance(value, str) else value
        for name, value in attributes.items()
    }


_process = _Process()
