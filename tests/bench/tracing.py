"""What it costs to tell a collector of traces: a unary call, and operations from call to end.

Both sides are ours; the peer tells nothing. The collector has a process of its own, so that only
what our processes spend is measured.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
from athanor.corpus.v1 import corpus_pb2, corpus_pb2_grpc
from athanor.lm.v1 import lm_pb2_grpc
from google.longrunning import operations_pb2 as longrunning
from google.longrunning import operations_pb2_grpc as longrunning_grpc

from libs import rpc, traces
from libs.blobs.folder import FolderBlobs
from libs.bus.port import Topic
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.config import ServiceConfig
from libs.formats import write_json
from libs.operations.servicer import LongCalls
from libs.operations.step import Made, Step, Work
from libs.service import Service, build_service
from tests.bench.measure import interleaved, seconds
from tests.bench.rpc import microseconds, register
from tests.bench.serving import serve_ours, served, wait_closed
from tests.bench.table import Row
from tests.collector import collecting

_LM = "athanor.lm.v1.LmService"
_TOPICS = [Topic(name="corpus.commands.v1", key="operation")]


def run(quick: bool) -> list[Row]:
    with served(_collect) as endpoint:
        return [_calls(endpoint, quick), _operations(endpoint, quick)]


def _collect(connection: Connection) -> None:
    with collecting() as collector:
        connection.send(collector.endpoint)
        wait_closed(connection)


def _serve_traced(connection: Connection, endpoint: str) -> None:
    traces.start("bench", endpoint)
    serve_ours(connection, register, _LM)
    traces.stop()


@contextmanager
def _told_to(endpoint: str) -> Iterator[None]:
    traces.start("caller", endpoint)
    try:
        with traces.span("bench"):
            yield
    finally:
        traces.stop()


def _calls(endpoint: str, quick: bool) -> Row:
    calls, repeats = (100, 2) if quick else (2000, 9)
    with (
        served(_serve_traced, endpoint) as traced,
        served(serve_ours, register, _LM) as plain,
        rpc.connect(traced) as traced_channel,
        rpc.connect(plain) as plain_channel,
    ):

        def told() -> float:
            with _told_to(endpoint):
                return microseconds(lm_pb2_grpc.LmServiceStub(traced_channel), calls)

        untold = partial(microseconds, lm_pb2_grpc.LmServiceStub(plain_channel), calls)
        figures = interleaved({"ours": told, "peer": untold}, repeats=repeats)
    added = figures["ours"].median - figures["peer"].median
    return Row(
        benchmark="tracing: unary call",
        unit="us/call",
        lower_is_better=True,
        peer_name="the same without a collector",
        notes=f"told to a collector: {added:+.0f} us a call",
        **figures,
    )


def _operations(endpoint: str, quick: bool) -> Row:
    count, repeats = (4, 2) if quick else (40, 7)
    with tempfile.TemporaryDirectory() as folder, _service(Path(folder)) as service:
        numbers = iter(range(10**6))

        def told() -> float:
            with _told_to(endpoint):
                return _rate(service, numbers, count)

        untold = partial(_rate, service, numbers, count)
        figures = interleaved({"ours": told, "peer": untold}, repeats=repeats)
    return Row(
        benchmark="tracing: operations from call to end",
        unit="operations/s",
        peer_name="the same without a collector",
        notes="each a call, a command on the bus, a lease and an artifact",
        **figures,
    )


def _rate(service: Service, numbers: Iterator[int], count: int) -> float:
    """Return how many operations a second are called, run and seen to end."""

    def work() -> None:
        with rpc.connect(service.address) as channel:
            corpus = corpus_pb2_grpc.CorpusServiceStub(channel)
            waiting = longrunning_grpc.OperationsStub(channel)
            names = [
                corpus.Crawl(corpus_pb2.CrawlRequest(seeds=[str(next(numbers))], as_of="x")).name
                for _ in range(count)
            ]
            for name in names:
                request = longrunning.WaitOperationRequest(name=name)
                while not waiting.WaitOperation(request, timeout=30).done:
                    pass

    return count / seconds(work)


class _Servicer(corpus_pb2_grpc.CorpusServiceServicer):
    def __init__(self, calls: LongCalls) -> None:
        self._calls = calls

    def Crawl(
        self, request: corpus_pb2.CrawlRequest, context: grpc.ServicerContext
    ) -> longrunning.Operation:
        return self._calls.start("Crawl", request, context)


def _make(request: corpus_pb2.CrawlRequest, work: Work) -> Made:
    write_json(work.out / "seeds.json", list(request.seeds))
    return Made()


@contextmanager
def _service(home: Path) -> Iterator[Service]:
    bus = SqliteBus(home / "bus.sqlite", session_s=10.0)
    step = Step(
        method="Crawl", request=corpus_pb2.CrawlRequest, kind="documents", version=1, run=_make
    )
    calls = LongCalls(
        "corpus", steps=[step], blobs=FolderBlobs(home / "blobs"), bus=bus, clock=Clock()
    )
    service = build_service(
        ServiceConfig(home=home, max_operations=2),
        calls,
        topics=_TOPICS,
        register=partial(corpus_pb2_grpc.add_CorpusServiceServicer_to_server, _Servicer(calls)),
        service_names=["athanor.corpus.v1.CorpusService"],
    )
    service.start()
    try:
        yield service
    finally:
        service.stop(0.0)
        bus.close()
