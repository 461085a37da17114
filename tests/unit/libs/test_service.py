"""A toy service over a real channel: the way every service starts, is called, and is stopped."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from traceback import walk_stack

import grpc
import pytest
from athanor.common.v1 import operations_pb2, operations_pb2_grpc
from athanor.corpus.v1 import corpus_pb2, corpus_pb2_grpc
from google.longrunning import operations_pb2 as longrunning
from google.longrunning import operations_pb2_grpc as longrunning_grpc

from libs import rpc
from libs.blobs.folder import FolderBlobs
from libs.bus.port import Topic
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.config import ServiceConfig
from libs.errors import Conflict, InvalidInput, NotFound
from libs.formats import write_json
from libs.operations.servicer import LongCalls
from libs.operations.step import Made, Step, Work
from libs.service import Service, build_service

TOPICS = (Topic(name="corpus.commands.v1", key="operation"),)
PATIENCE_S = 20.0


class ToyServicer(corpus_pb2_grpc.CorpusServiceServicer):
    def __init__(self, calls: LongCalls) -> None:
        self._operations = calls

    def Crawl(
        self, request: corpus_pb2.CrawlRequest, context: grpc.ServicerContext
    ) -> longrunning.Operation:
        return self._operations.start("Crawl", request, context)


class Toy:
    """Steps that do what the request's seed says, and count how often."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.announced: list[str] = []
        self.go = threading.Event()
        self.began = threading.Event()

    def step(self) -> Step:
        return Step(
            method="Crawl",
            request=corpus_pb2.CrawlRequest,
            kind="documents",
            version=1,
            run=self.run,
            check=self.check,
            announce=lambda artifact, result: self.announced.append(artifact.id),
        )

    def check(self, request: corpus_pb2.CrawlRequest) -> list[str]:
        if request.seeds[0] == "bad":
            raise InvalidInput("expected a good seed, got bad")
        return ["one seed", "no pages"]

    def run(self, request: corpus_pb2.CrawlRequest, work: Work) -> Made:
        self.runs.append(request.seeds[0])
        self.began.set()
        while request.seeds[0] == "slow" and not self.go.is_set():
            work.progress(1, 2, "pages", "waiting")
            self.go.wait(0.02)
        if request.seeds[0] == "absent":
            raise NotFound("expected pages, got none")
        write_json(work.out / "pages.json", list(request.seeds))
        return Made(outcome="starved", reason="No page.", figures={"pages": 1.0})


Starter = Callable[..., tuple[Service, Toy]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    bus = SqliteBus(tmp_path / "bus.sqlite", session_s=0.6)
    services = []

    def start_one(lease_s: float = 1.0) -> tuple[Service, Toy]:
        toy = Toy()
        blobs, clock = FolderBlobs(tmp_path / "blobs"), Clock()
        calls = LongCalls("corpus", steps=[toy.step()], blobs=blobs, bus=bus, clock=clock)
        service = build_service(
            ServiceConfig(home=tmp_path, lease_s=lease_s),
            calls,
            topics=TOPICS,
            register=partial(
                corpus_pb2_grpc.add_CorpusServiceServicer_to_server, ToyServicer(calls)
            ),
            service_names=["athanor.corpus.v1.CorpusService"],
        )
        service.start()
        services.append(service)
        return service, toy

    yield start_one
    for service in services:
        service.stop(0.0)
    bus.close()


class Client:
    """The stubs of one service."""

    def __init__(self, service: Service) -> None:
        self._channel = rpc.connect(service.address)
        self.corpus = corpus_pb2_grpc.CorpusServiceStub(self._channel)
        self.operations = longrunning_grpc.OperationsStub(self._channel)
        self._watching = operations_pb2_grpc.OperationsWatchServiceStub(self._channel)

    def crawl(self, seed: str, request_id: str = "", **call: object) -> longrunning.Operation:
        request = corpus_pb2.CrawlRequest(request_id=request_id, seeds=[seed], as_of="today")
        return self.corpus.Crawl(request, **call)

    def watch(self, name: str) -> list[longrunning.Operation]:
        request = operations_pb2.WatchRequest(name=name)
        return list(self._watching.Watch(request, timeout=PATIENCE_S))


def metadata(operation: longrunning.Operation) -> operations_pb2.OperationMetadata:
    unpacked = operations_pb2.OperationMetadata()
    assert operation.metadata.Unpack(unpacked)
    return unpacked


def result(operation: longrunning.Operation) -> operations_pb2.StepResult:
    unpacked = operations_pb2.StepResult()
    assert operation.response.Unpack(unpacked)
    return unpacked


def test_a_long_call_ends_with_an_artifact(start: Starter) -> None:
    service, toy = start()
    client = Client(service)
    started = client.crawl("fast")
    assert not started.done
    ended = client.watch(started.name)[-1]
    assert ended.done
    made = result(ended)
    assert (made.kind, made.outcome, made.cached) == ("documents", "starved", False)
    assert dict(made.figures) == {"pages": 1.0}
    artifact = service.calls.artifacts.open(made.artifact_id, kind="documents")
    assert json.loads(artifact.path("pages.json").read_bytes()) == ["fast"]
    assert artifact.run()["operation"] == started.name
    assert toy.announced == [made.artifact_id]


def test_the_same_request_under_another_id_is_answered_from_the_index(start: Starter) -> None:
    service, toy = start()
    client = Client(service)
    first = result(client.watch(client.crawl("fast", "one").name)[-1])
    again = result(client.watch(client.crawl("fast", "two").name)[-1])
    assert again.artifact_id == first.artifact_id
    assert (first.cached, again.cached) == (False, True)
    assert again.reason == "No page."
    assert toy.runs == ["fast"]
    assert len(toy.announced) == 2


def test_one_request_id_is_one_operation_and_no_other_request(start: Starter) -> None:
    service, toy = start()
    client = Client(service)
    name = client.crawl("fast", "one").name
    client.watch(name)
    assert client.crawl("fast", "one").name == name
    assert client.crawl("fast", "one").done
    with pytest.raises(Conflict, match="'one' was used for another Crawl request"):
        client.crawl("other", "one")
    assert toy.runs == ["fast"]


def test_a_bad_request_is_refused_before_anything_is_recorded(start: Starter) -> None:
    service, _ = start()
    with pytest.raises(InvalidInput, match="expected a good seed"):
        Client(service).crawl("bad")
    assert list(service.calls.store.list()) == []


def test_a_dry_run_returns_the_notes_and_records_nothing(start: Starter) -> None:
    service, toy = start()
    client = Client(service)
    rehearsed = client.crawl("fast", metadata=[("athanor-dry-run", "1")])
    assert rehearsed.done
    assert metadata(rehearsed).progress.message == "one seed\nno pages"
    with pytest.raises(InvalidInput, match="expected a good seed"):
        client.crawl("bad", metadata=[("athanor-dry-run", "1")])
    assert list(service.calls.store.list()) == []
    assert toy.runs == []


def test_an_error_of_the_step_is_the_operations_error(start: Starter) -> None:
    service, _ = start()
    client = Client(service)
    ended = client.watch(client.crawl("absent").name)[-1]
    assert ended.error.code == grpc.StatusCode.NOT_FOUND.value[0]
    error = rpc.from_status(ended.error)
    assert isinstance(error, NotFound)
    assert str(error) == "expected pages, got none"


def test_a_running_operation_tells_progress_and_can_be_cancelled(start: Starter) -> None:
    service, toy = start()
    client = Client(service)
    name = client.crawl("slow").name
    assert toy.began.wait(PATIENCE_S)
    asked = time.monotonic()
    client.operations.CancelOperation(longrunning.CancelOperationRequest(name=name))
    ended = client.watch(name)[-1]
    assert time.monotonic() - asked < 2.0
    assert ended.error.code == grpc.StatusCode.CANCELLED.value[0]
    told = metadata(ended)
    assert told.state == operations_pb2.OPERATION_STATE_CANCELLED
    assert (told.progress.completed, told.progress.unit) == (1, "pages")


def test_another_worker_takes_over_from_one_that_was_killed(start: Starter) -> None:
    killed, toy = start()
    client = Client(killed)
    started = client.crawl("slow")
    assert toy.began.wait(PATIENCE_S)
    other, successor = start()
    successor.go.set()
    killed.stop(0.0, release=False)
    toy.go.set()  # the dead worker's step goes on, and must change nothing
    ended = Client(other).watch(started.name)[-1]
    assert result(ended).kind == "documents"
    assert successor.runs == ["slow"]
    assert metadata(ended).lease_epoch == 2
    assert metadata(ended).trace_id == metadata(started).trace_id
    assert toy.announced == []


def test_a_service_that_stops_in_peace_gives_its_operations_back_at_once(start: Starter) -> None:
    stopping, toy = start(lease_s=60.0)
    name = Client(stopping).crawl("slow").name
    assert toy.began.wait(PATIENCE_S)
    other, successor = start(lease_s=60.0)
    successor.go.set()
    stopping.stop(0.0)
    assert result(Client(other).watch(name)[-1]).kind == "documents"
    assert (toy.announced, successor.runs) == ([], ["slow"])


def test_operations_are_listed_and_waited_for(start: Starter) -> None:
    service, toy = start()
    client = Client(service)
    fast, slow = client.crawl("fast").name, client.crawl("slow").name
    wait = longrunning.WaitOperationRequest(name=fast)
    assert client.operations.WaitOperation(wait, timeout=PATIENCE_S).done
    wait = longrunning.WaitOperationRequest(name=slow)
    wait.timeout.FromMilliseconds(10)
    assert not client.operations.WaitOperation(wait, timeout=PATIENCE_S).done
    ended = longrunning.ListOperationsRequest(filter="succeeded")
    assert [each.name for each in client.operations.ListOperations(ended).operations] == [fast]
    page = client.operations.ListOperations(longrunning.ListOperationsRequest(page_size=1))
    assert [each.name for each in page.operations] == [slow]
    assert page.next_page_token == "1"
    toy.go.set()


def test_whoever_leaves_while_waiting_leaves_no_thread_waiting(start: Starter) -> None:
    service, toy = start()
    client = Client(service)
    slow = client.crawl("slow").name
    call = client.operations.WaitOperation.future(
        longrunning.WaitOperationRequest(name=slow), timeout=3600
    )
    waits = until(lambda: is_inside("WaitOperation"))
    call.cancel()
    assert waits
    assert until(lambda: not is_inside("WaitOperation"))
    toy.go.set()


def is_inside(name: str) -> bool:
    """Tell whether some thread is inside a function of that name."""
    frames = (frame for top in sys._current_frames().values() for frame, _ in walk_stack(top))
    return any(frame.f_code.co_name == name for frame in frames)


def until(holds: Callable[[], bool]) -> bool:
    ends_at = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.02)
    return True


def test_an_operation_of_another_service_is_not_found(start: Starter) -> None:
    service, _ = start()
    with pytest.raises(NotFound, match="corpus has operations named"):
        Client(service).operations.GetOperation(
            longrunning.GetOperationRequest(name="operations/loop/abc")
        )


PROCESS = """
import sys
from pathlib import Path
from libs.blobs.folder import FolderBlobs
from libs.bus.port import Topic
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.config import ServiceConfig
from libs.operations.servicer import LongCalls
from libs.operations.sweeper import Sweeper
from libs.service import build_service

home = Path(sys.argv[1])
bus = SqliteBus(home / "bus.sqlite")
calls = LongCalls("toy", steps=[], blobs=FolderBlobs(home / "blobs"), bus=bus, clock=Clock())
if "bug" in sys.argv:
    Sweeper.sweep = lambda sweeper: 1 / 0
build_service(
    ServiceConfig(home=home), calls, topics=[Topic(name="toy.commands.v1", key="operation")],
    register=lambda server: None, service_names=[],
).run()
"""


@pytest.fixture
def run_process(
    tmp_path: Path, pytestconfig: pytest.Config
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    processes = []

    def run(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PROCESS, str(tmp_path), *arguments]
        process = subprocess.Popen(command, cwd=pytestconfig.rootpath, stderr=subprocess.PIPE)
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def test_a_process_says_where_it_listens_and_ends_in_peace_on_a_signal(
    tmp_path: Path, run_process: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = run_process()
    run_file = tmp_path / "run" / "toy.json"
    give_up = time.monotonic() + PATIENCE_S
    while not run_file.exists():
        assert time.monotonic() < give_up
        time.sleep(0.02)
    ports = json.loads(run_file.read_bytes())
    assert ports["pid"] == process.pid
    with rpc.connect(f"127.0.0.1:{ports['port']}") as channel:
        operations = longrunning_grpc.OperationsStub(channel)
        assert not operations.ListOperations(longrunning.ListOperationsRequest()).operations
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors) == (0, b"")
    assert not run_file.exists()
    log = (tmp_path / "logs" / "toy.jsonl").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert {line["service"] for line in lines} == {"toy"}


def test_a_process_whose_worker_has_a_bug_ends_with_1(
    run_process: Callable[..., subprocess.Popen[bytes]],
) -> None:
    process = run_process("bug")
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert b"bug in the worker's thread sweeper" in errors
