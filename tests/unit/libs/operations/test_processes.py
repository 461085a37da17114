"""Two worker processes on one home: nothing is lost, nothing is done twice, even over a kill."""

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from athanor.corpus.v1.corpus_pb2 import CrawlRequest

from libs.artifacts import Artifacts
from libs.blobs.port import Blobs
from libs.bus.port import Topic
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.operations.record import State
from libs.operations.step import Made, Step, Work
from libs.operations.store import Operations
from libs.operations.worker import Worker
from tests.buckets import Opener

PATIENCE_S = 60.0


def _operations(home: Path, blobs: Blobs) -> Operations:
    bus = SqliteBus(home / "bus.sqlite", session_s=1.0)
    bus.declare([Topic(name="corpus.commands.v1", key="operation")])
    return Operations("corpus", blobs=blobs, bus=bus, clock=Clock())


def _work(home: Path, open_blobs: Opener, lease_s: float) -> None:
    """Be a worker process until the file `stop` exists; each run leaves a line in `runs`."""

    def run(request: CrawlRequest, work: Work) -> Made:
        with (home / "runs").open("a") as runs:
            runs.write(f"{request.seeds[0]} {os.getpid()}\n")
        while request.seeds[0].startswith("long") and not (home / "go").exists():
            work.progress(1, 2, "pages")
            time.sleep(0.02)
        (work.out / "seed").write_text(request.seeds[0])
        return Made()

    step = Step(method="Crawl", request=CrawlRequest, kind="k", version=1, run=run)
    blobs = open_blobs()
    operations = _operations(home, blobs)
    worker = Worker(operations, Artifacts(blobs), [step], home=home, lease_s=lease_s)
    worker.start()
    while not (home / "stop").exists():
        time.sleep(0.05)
    worker.stop()


@pytest.fixture
def start(tmp_path: Path, open_blobs: Opener) -> Iterator[Callable[[float], BaseProcess]]:
    context = multiprocessing.get_context("spawn")
    processes = []

    def start_one(lease_s: float) -> BaseProcess:
        process = context.Process(target=_work, args=(tmp_path, open_blobs, lease_s), daemon=True)
        process.start()
        processes.append(process)
        return process

    yield start_one
    (tmp_path / "stop").touch()
    for process in processes:
        process.join(PATIENCE_S)


def _runs(home: Path) -> list[list[str]]:
    runs = home / "runs"
    return [line.split() for line in runs.read_text().splitlines()] if runs.exists() else []


def test_of_200_operations_none_is_lost_and_none_is_done_twice(
    tmp_path: Path, open_blobs: Opener, start: Callable[[float], BaseProcess]
) -> None:
    operations = _operations(tmp_path, open_blobs())
    for _ in range(2):
        start(10.0)
    names = [
        operations.submit("Crawl", CrawlRequest(seeds=[f"page-{number}"])).name
        for number in range(200)
    ]
    ended = [operations.wait(name, timeout_s=PATIENCE_S) for name in names]
    assert Counter(record.state for record in ended) == {State.SUCCEEDED: 200}
    assert Counter(record.epoch for record in ended) == {1: 200}
    runs = _runs(tmp_path)
    assert Counter(seed for seed, _ in runs) == {f"page-{number}": 1 for number in range(200)}
    assert len({pid for _, pid in runs}) == 2
    assert len({record.result.artifact_id for record in ended if record.result}) == 200


def test_what_a_killed_process_was_doing_is_done_once_more_by_the_other(
    tmp_path: Path, open_blobs: Opener, start: Callable[[float], BaseProcess]
) -> None:
    operations = _operations(tmp_path, open_blobs())
    killed = start(1.5)
    names = [
        operations.submit("Crawl", CrawlRequest(seeds=[f"long-{number}"])).name
        for number in range(3)
    ]
    give_up = time.monotonic() + PATIENCE_S
    while len(_runs(tmp_path)) < 3:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    os.kill(killed.pid or 0, signal.SIGKILL)
    (tmp_path / "go").touch()
    start(1.5)
    ended = [operations.wait(name, timeout_s=PATIENCE_S) for name in names]
    assert [(record.state, record.epoch) for record in ended] == [(State.SUCCEEDED, 2)] * 3
    assert Counter(seed for seed, _ in _runs(tmp_path)) == {f"long-{n}": 2 for n in range(3)}
