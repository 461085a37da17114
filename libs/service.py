"""One service as a process: rpc server, worker, logs and metrics, started and stopped together.

Every service is joined here in the same way, so that its `app.py` says only what is its own.
"""

import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

import grpc
from athanor.common.v1 import operations_pb2_grpc
from google.longrunning import operations_pb2_grpc as longrunning_grpc

from libs import config as settings
from libs import rpc, telemetry, traces
from libs.bus.port import Topic
from libs.config import ServiceConfig
from libs.operations.servicer import LongCalls, OperationsServicer, OperationsWatchServicer
from libs.operations.worker import Worker

_OPERATIONS = ("google.longrunning.Operations", "athanor.common.v1.OperationsWatchService")
_LOOK_S = 0.1
_log = logging.getLogger(__name__)


class Service:
    """A service that is bound to its port and not started; made by `build_service`."""

    def __init__(
        self,
        config: ServiceConfig,
        calls: LongCalls,
        *,
        topics: Sequence[Topic],
        server: rpc.Server,
        worker: Worker,
    ) -> None:
        self.name = calls.store.service
        self.calls = calls
        self.worker = worker
        self._config = config
        self._topics = topics
        self._server = server
        self._asked_to_stop = False

    @property
    def port(self) -> int:
        """TCP port of its gRPC server."""
        return self._server.port

    @property
    def address(self) -> str:
        """Where its gRPC server listens, `host:port`."""
        return self._server.address

    def start(self) -> None:
        """Declare the topics, begin to work and to answer."""
        self.calls.store.bus.declare(self._topics)
        self.worker.start()
        self._server.start()

    def wait(self) -> None:
        """Return on SIGTERM, on SIGINT, or when the worker crashed; main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        while not self._asked_to_stop and not self.worker.crashed.wait(_LOOK_S):
            pass

    def stop(self, grace_s: float = 5.0, *, release: bool = True) -> None:
        """Drain server and worker; an operation that does not end in time goes back to the queue.

        Without `release` leases are left as a kill would leave them. Idempotent.
        """
        # Side by side: callers that watch an operation wait for what the worker still ends.
        worker = threading.Thread(target=partial(self.worker.stop, grace_s, release=release))
        worker.start()
        self._server.drain(grace_s)
        worker.join()

    def run(self) -> None:
        """Be the process: logs, metrics, `<home>/run/<service>.json`, until a signal comes.

        Raises:
            SystemExit: with 1, a bug stopped the worker; whoever supervises starts it again.
        """
        telemetry.start_logs(self.name, self._config.log_path(self.name))
        self._start_traces()
        if own := self._config.tls:
            telemetry.CERTIFICATE_ENDS.labels(self.name).set_function(own.ends_at)
        metrics_port = telemetry.start_metrics(self._config.metrics_port, self._config.host)
        self.start()
        _log.info("%s at %s: %s", self.name, self.address, settings.shown(self._config))
        self._write_run_file(metrics_port)
        self.wait()
        self.stop()
        self._run_file.unlink(missing_ok=True)
        self.calls.store.bus.close()
        traces.stop()
        if self.worker.crashed.is_set():
            raise SystemExit(1)

    def _start_traces(self) -> None:
        config = self._config
        if config.otlp_endpoint:
            ca = config.tls.read().ca if config.tls else None
            traces.start(self.name, config.otlp_endpoint, ratio=config.trace_ratio, ca=ca)

    def _ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        # No lock in here: the main thread, which runs this, may hold it.
        self._asked_to_stop = True

    def _write_run_file(self, metrics_port: int) -> None:
        ports = {"pid": os.getpid(), "port": self.port, "metrics_port": metrics_port}
        self._run_file.parent.mkdir(parents=True, exist_ok=True)
        part = self._run_file.with_suffix(".part")
        part.write_text(json.dumps(ports))
        part.replace(self._run_file)

    @property
    def _run_file(self) -> Path:
        return self._config.home / "run" / f"{self.name}.json"


def build_service(
    config: ServiceConfig,
    calls: LongCalls,
    *,
    topics: Sequence[Topic],
    register: Callable[[grpc.Server], None],
    service_names: Sequence[str],
    tend: Callable[[], None] | None = None,
) -> Service:
    """Join a service around its long calls; nothing is started.

    Args:
        config: ports, home, limits.
        calls: its steps and its stores; its servicer starts operations through them.
        topics: all that it owns, `<service>.commands.v1` among them.
        register: adds its servicer: `partial(add_XServiceServicer_to_server, servicer)`.
        service_names: full proto names of what `register` adds.
        tend: called every minute while the service runs; may raise what is retryable.

    Raises:
        Conflict: the port is in use.
        InvalidInput: nobody would accept its certificate.
    """
    watching = OperationsWatchServicer(calls.store)
    server = rpc.server(
        service=calls.store.service,
        registrations=[
            register,
            partial(
                longrunning_grpc.add_OperationsServicer_to_server, OperationsServicer(calls.store)
            ),
            partial(operations_pb2_grpc.add_OperationsWatchServiceServicer_to_server, watching),
        ],
        service_names=[*service_names, *_OPERATIONS],
        host=config.host,
        port=config.port,
        tls=config.tls,
    )
    worker = Worker(
        calls.store,
        calls.artifacts,
        calls.steps,
        home=config.home,
        max_operations=config.max_operations,
        lease_s=config.lease_s,
        tend=tend,
    )
    return Service(config, calls, topics=topics, server=server, worker=worker)
