"""Spans: what a process did, in which order and for whom, told to a collector where there is one.

Ids and their propagation are OpenTelemetry's (W3C Trace Context); they exist without a collector,
too, for the log lines. `start` sends spans to one over OTLP, from a thread and a bounded queue of
its own: a collector that is slow or away costs spans, never a call.
Not protected against: what callers put into the names of operations; texts, requests and messages
of errors are never put into a span.
"""

import logging
import threading
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from enum import StrEnum

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter

from libs.errors import InvalidInput
from libs.masking import masked

SPANS = Counter(
    "athanor_trace_spans_total",
    "Spans handed to the collector, by outcome: sent, lost.",
    ["service", "outcome"],
)
STOP_S = 2.0
"""For the last spans, when a process ends."""
_SEND_S = 2.0
_QUEUE_SPANS, _BATCH_SPANS, _PAUSE_MS = 4096, 512, 500.0
_SDK_LOGGERS = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")
_PROPAGATOR = TraceContextTextMapPropagator()
_log = logging.getLogger(__name__)


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
    exporter = _Watched(_otlp(endpoint, ca), service, endpoint)
    for name in _SDK_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # `_Watched` says it once
    _process.replace(_provider(service, exporter, TraceIdRatioBased(ratio)), exporter)


def stop() -> None:
    """Send what is left, for `STOP_S` at most, and tell nothing more; idempotent."""
    _process.replace(_silent(), None)


def check_endpoint(endpoint: str) -> None:
    """Raise `InvalidInput` unless it is `http://host:port` or `https://host:port`."""
    scheme, found, host = endpoint.partition("://")
    if scheme not in ("http", "https") or not found or not host or "@" in host:
        # Not repeated: it may hold a password.
        raise InvalidInput("a collector must be http://host:port or https://host:port, got another")


def _otlp(endpoint: str, ca: bytes | None) -> SpanExporter:
    # Here, since most processes have no collector, and it costs 0.1 s and 15 MiB.
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    check_endpoint(endpoint)
    if endpoint.startswith("http://"):
        return OTLPSpanExporter(endpoint=endpoint, insecure=True, timeout=_SEND_S)
    credentials = grpc.ssl_channel_credentials(ca)
    return OTLPSpanExporter(endpoint=endpoint, credentials=credentials, timeout=_SEND_S)


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


class _Watched(SpanExporter):
    """An exporter that counts, and says once that its collector is away."""

    def __init__(self, inner: SpanExporter, service: str, endpoint: str) -> None:
        self._inner, self._service, self._endpoint = inner, service, endpoint
        self._is_away, self._has_ended = False, False
        for outcome in ("sent", "lost"):
            SPANS.labels(service, outcome)  # from 0 on, so that the first one lost is seen

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        failure = SpanExportResult.FAILURE
        result = failure if self._has_ended else self._inner.export(spans)
        was_sent = result is SpanExportResult.SUCCESS
        SPANS.labels(self._service, "sent" if was_sent else "lost").inc(len(spans))
        self._tell(was_sent)
        return result

    def shutdown(self) -> None:
        self._has_ended = True
        self._inner.shutdown()

    def _tell(self, was_sent: bool) -> None:
        where = f"the collector of traces at {self._endpoint}"
        if was_sent and self._is_away:
            _log.info("%s answers again", where)
        if not was_sent and not self._is_away:
            _log.warning("%s takes none: they are lost until it does", where)
        self._is_away = not was_sent


class _Process:
    """The process's one tracer, as `logging` has one root."""

    def __init__(self) -> None:
        self._provider = _silent()
        self._exporter: _Watched | None = None
        self.tracer = self._provider.get_tracer("athanor")

    def replace(self, provider: TracerProvider, exporter: _Watched | None) -> None:
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
