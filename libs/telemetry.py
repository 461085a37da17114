"""What a process tells about itself: JSON log lines and metrics here, spans in `libs.traces`.

Secrets are masked in log lines; what this does not protect against stands in `libs.masking`.
"""

import errno
import json
import logging
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from libs.errors import Conflict
from libs.masking import masked
from libs.traces import Role, extract, inject, note, span, trace_id, within

__all__ = ["Role", "extract", "inject", "note", "span", "trace_id", "within"]

RPC_REQUESTS = Counter(
    "athanor_rpc_requests_total", "Calls answered, by gRPC status.", ["service", "method", "status"]
)
RPC_ERRORS = Counter(
    "athanor_rpc_errors_total", "Calls that failed, by class of error.", ["service", "error"]
)
RPC_LATENCY = Histogram(
    "athanor_rpc_latency_seconds",
    "From a call's arrival to its last answer, seconds.",
    ["service", "method"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)
BUS_DEPTH = Gauge(
    "athanor_bus_depth", "Messages published and not yet committed.", ["service", "group"]
)
BUS_OLDEST_AGE = Gauge(
    "athanor_bus_oldest_age_seconds", "Age of the oldest of them, seconds.", ["service", "group"]
)
DEAD_LETTERS = Counter(
    "athanor_bus_dead_letters_total", "Messages that can never be handled.", ["topic", "error"]
)
DEPENDENCY_ERRORS = Counter(
    "athanor_dependency_errors_total",
    "Times that a worker found what it depends on away or at capacity: bus, store.",
    ["dependency"],
)
for _dependency in ("bus", "store"):
    # From 0 on, or Prometheus takes the first error for where the count begins.
    DEPENDENCY_ERRORS.labels(_dependency)
DISK_FREE = Gauge(
    "athanor_disk_free_bytes", "Room left where the service keeps its state.", ["service"]
)
CERTIFICATE_ENDS = Gauge(
    "athanor_certificate_ends_timestamp_seconds",
    "When the service's certificate expires, seconds since 1970.",
    ["service"],
)
WEIGHTS_MISMATCHES = Counter(
    "athanor_weights_mismatches_total",
    "Answers and loads refused: other weights than were asked for.",
)
OPERATION_STILLNESS = Gauge(
    "athanor_operation_stillness_seconds",
    "Longest time that the record of a running operation has not changed; its lease is lost then.",
    ["service"],
)
OPERATION_RETRIES = Counter(
    "athanor_operation_retries_total",
    "Attempts of a step that failed and are made again, by class of error; Internal: bugs.",
    ["service", "method", "error"],
)
OPERATIONS = Gauge("athanor_operations", "Operations by state.", ["service", "state"])
OPERATIONS_ENDED = Counter(
    "athanor_operations_ended_total",
    "Operations that a worker ended, by state and, for failed ones, kind of the error.",
    ["service", "method", "state", "error"],
)

_TALKATIVE = ("kafka", "elastic_transport", "urllib3")
"""Libraries that log as an error what they raise, or mend, a thousand lines for one lost server;
the adapters say it once, as an error of ours that names the server."""
_LOG_BYTES = 16 * 2**20


def start_logs(service: str, path: Path) -> None:
    """Send every log record to `path` as a JSON line, and warnings to the console, a line each.

    The file is rotated at 16 MiB, two old ones are kept. What an earlier call set up is replaced.

    Args:
        service: named in every line.
        path: its folder is made where missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=2, encoding="utf-8")
    file.setFormatter(_JsonLines(service))
    console = logging.StreamHandler()
    console.setLevel(logging.WARNING)
    console.setFormatter(_ConsoleLines(service))
    stop_logs()
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(file)
    root.addHandler(console)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def stop_logs() -> None:
    """Close what `start_logs` opened; idempotent."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each.formatter, _Lines)]:
        root.removeHandler(handler)
        handler.close()


class _Lines(logging.Formatter):
    """Knows the service."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service


class _JsonLines(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "trace_id": trace_id(),
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        if record.exc_info:
            line["error"] = masked(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class _ConsoleLines(_Lines):
    """The message alone: the traceback is in the file."""

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        cause = f": {type(error).__name__}: {error}" if error else ""
        return masked(f"{record.levelname} {self._service}: {record.getMessage()}{cause}")


def start_metrics(port: int, host: str = "127.0.0.1") -> int:
    """Serve this process's metrics at `http://host:port/metrics`; return the port, chosen if 0.

    Raises:
        Conflict: the port is in use.
    """
    try:
        server, _ = start_http_server(port, host)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise Conflict(f"metrics cannot be served: port {port} of {host} is in use") from error
    return int(server.server_port)
