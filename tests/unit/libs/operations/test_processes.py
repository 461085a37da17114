"""Two worker processes on one home: nothing is lost, nothing is done twice, even over a kill."""

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from athanor.corpus.v1.corpus_pb2 import CrawlRequest

from libs.artifacts import Artifacts
from libs.blobs.port import Blobs
from libs.bus.port import Bus, Topic
from libs.clock import Clock
from libs.operations.record import State
from libs.operations.step import Made, Step, Work
from libs.operations.store import Operations
from libs.operations.worker import Worker
from tests import buckets, buses

PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where the processes meet."""

    home: Path
    open_blobs: buckets.Opener
    open_bus: buses.Opener

    def operations(self, blobs: Blobs, bus: Bus) -> Operations:
        bus.declare([Topic(name="corpus.commands.v1", key="operation")])
        return Operations("corpus", blobs=blobs, bus=bus, clock=Clock())


@pytest.fixture(params=[("folder", "sqlite"), ("minio", "kafka")], ids=["embedded", "cluster"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    store, bus = request.param
    with (
        buckets.opener(store, request, tmp_path) as open_blobs,
        buses.opener(bus, request, tmp_path, session_s=1.0) as open_bus,
    ):
        yield Site(home=tmp_path, open_blobs=open_blobs, open_bus=open_bus)


@pytest.fixture
def operations(site: Site) -> Iterator[Operations]:
    bus = site.open_bus()
    yield site.operations(site.open_blobs(), bus)
    bus.close()


def _work(site: Site, lease_s: float) -> None:
    """Be a worker process until the file `stop` exists; each run leaves a line in `runs`."""

    home = site.home

    def run(request: CrawlRequest, work: Work) -> Made:
        with (home / "runs").open("a") as runs:
            runs.write(f"{request.seeds[0]} {os.getpid()}\n")
        while request.seeds[0].startswith("long") and not (home / "go").exists():
            work.progress(1, 2, "pages")
            time.sleep(0.02)
        (work.out / "seed").write_text(f"{request.seeds[0]} {os.getpid()}")
        return Made()

    step = Step(method="Crawl", request=CrawlRequest, kind="k", version=1, run=run)
    blobs, bus = site.open_blobs(), site.open_bus()
    operations = site.operations(blobs, bus)
    worker = Worker(operations, Artifacts(blobs), [step], home=home, lease_s=lease_s)
    worker.start()
    while not (home / "stop").exists():
        time.sleep(0.05)
    worker.stop()
    bus.close()


@pytest.fixture
def start(site: Site) -> Iterator[Callable[[float], BaseProcess]]:
    context = multiprocessing.get_context("spawn")
    processes = []

    def start_one(lease_s: float) -> BaseProcess:
        process = context.Process(target=_work, args=(site, lease_s), daemon=True)
        process.start()
        processes.append(process)
        return process

    yield start_one
    (site.home / "stop").touch()
    for process in processes:
        process.join(PATIENCE_S)


def _await_runs(home: Path, count: int) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while len(_runs(home)) < count:
        assert time.monotonic() < give_up
        time.sleep(0.05)


def _runs(home: Path) -> list[list[str]]:
    runs = home / "runs"
    return [line.split() for line in runs.read_text().splitlines()] if runs.exists() else []


def test_of_200_operations_none_is_lost_and_none_is_done_twice(
    site: Site, operations: Operations, start: Callable[[float], BaseProcess]
) -> None:
    for _ in range(2):
        start(10.0)
    names = [
        operations.submit("Crawl", CrawlRequest(seeds=[f"page-{number}"])).name
        for number in range(200)
    ]
    ended = [operations.wait(name, timeout_s=PATIENCE_S) for name in names]
    assert Counter(record.state for record in ended) == {State.SUCCEEDED: 200}
    assert Counter(record.epoch for record in ended) == {1: 200}
    runs = _runs(site.home)
    assert Counter(seed for seed, _ in runs) == {f"page-{number}": 1 for number in range(200)}
    assert len({pid for _, pid in runs}) == 2
    assert len({record.result.artifact_id for record in ended if record.result}) == 200


def test_what_a_killed_process_was_doing_is_done_once_more_by_the_other(
    site: Site, operations: Operations, start: Callable[[float], BaseProcess]
) -> None:
    killed = start(1.5)
    names = [
        operations.submit("Crawl", CrawlRequest(seeds=[f"long-{number}"])).name
        for number in range(3)
    ]
    _await_runs(site.home, 3)
    os.kill(killed.pid or 0, signal.SIGKILL)
    (site.home / "go").touch()
    start(1.5)
    ended = [operations.wait(name, timeout_s=PATIENCE_S) for name in names]
    assert [(record.state, record.epoch) for record in ended] == [(State.SUCCEEDED, 2)] * 3
    assert Counter(seed for seed, _ in _runs(site.home)) == {f"long-{n}": 2 for n in range(3)}


def test_of_two_workers_that_believe_they_hold_one_lease_one_has_an_effect(
    site: Site, operations: Operations, start: Callable[[float], BaseProcess]
) -> None:
    asleep = start(1.5)
    name = operations.submit("Crawl", CrawlRequest(seeds=["long"])).name
    _await_runs(site.home, 1)
    os.kill(asleep.pid or 0, signal.SIGSTOP)
    awake = start(1.5)
    _await_runs(site.home, 2)  # the lease passed on, and the first does not know
    os.kill(awake.pid or 0, signal.SIGSTOP)
    (site.home / "go").touch()
    os.kill(asleep.pid or 0, signal.SIGCONT)
    os.kill(awake.pid or 0, signal.SIGCONT)
    ended = operations.wait(name, timeout_s=PATIENCE_S)
    assert (ended.state, ended.epoch) == (State.SUCCEEDED, 2)
    assert [pid for _, pid in _runs(site.home)] == [str(asleep.pid), str(awake.pid)]
    assert ended.result
    made = Artifacts(site.open_blobs()).open(ended.result.artifact_id)
    assert made.path("seed").read_text() == f"long {awake.pid}"
