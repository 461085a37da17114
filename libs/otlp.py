"""Spans on their way to a collector: sent over OTLP, counted, and its absence told once."""

import logging
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import Counter

from libs.errors import InvalidInput

SPANS = Counter(
    "athanor_trace_spans_total",
    "Spans handed to the collector, by outcome: sent, lost.",
    ["service", "outcome"],
)
_SEND_S = 2.0
_log = logging.getLogger(__name__)


class Exporter(SpanExporter):
    """An exporter that counts, and says once that its collector is away."""

    def __init__(self, service: str, endpoint: str, ca: bytes | None) -> None:
        """Send for `service`; see `libs.traces.start`. Raises `InvalidInput`: no endpoint."""
        self._inner, self._service, self._endpoint = _opened(endpoint, ca), service, endpoint
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


def _opened(endpoint: str, ca: bytes | None) -> SpanExporter:
    # Here, since most processes have no collector, and it costs 45 ms and 6 MiB.
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    _check(endpoint)
    if endpoint.startswith("http://"):
        return OTLPSpanExporter(endpoint=endpoint, insecure=True, timeout=_SEND_S)
    credentials = grpc.ssl_channel_credentials(ca)
    return OTLPSpanExporter(endpoint=endpoint, credentials=credentials, timeout=_SEND_S)


def _check(endpoint: str) -> None:
    """Raise `InvalidInput` unless it is `http://host:port` or `https://host:port`."""
    scheme, found, host = endpoint.partition("://")
    if scheme not in ("http", "https") or not found or not host or "@" in host:
        # Not repeated: it may hold a password.
        raise InvalidInput("a collector must be http://host:port or https://host:port, got another")
