"""The worker's threads, with real clocks and short leases."""

import threading
import time
from pathlib import Path

import pytest
from athanor.corpus.v1.corpus_pb2 import CrawlRequest
from prometheus_client import REGISTRY

from libs.artifacts import Artifacts
from libs.blobs.folder import FolderBlobs
from libs.bus.port import Topic
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.operations.record import Record, State
from libs.operations.step import Made, Step
from libs.operations.store import Operations
from libs.operations.sweeper import Sweeper
from libs.operations.worker import Worker

PATIENCE_S = 20.0
LEASE_S = 0.8


class Site:
    """A service's stores with any number of workers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = FolderBlobs(root / "blobs")
        self.bus = SqliteBus(root / "bus.sqlite", session_s=0.5)
        self.bus.declare([Topic(name="corpus.commands.v1", key="operation")])
        self.operations = self.view(Clock())
        self.workers: list[Worker] = []
        self.runs: list[tuple[str, str]] = []
        self.go = threading.Event()
        self.running = threading.Semaphore(0)

    def view(self, clock: Clock) -> Operations:
        return Operations("corpus", blobs=self.blobs, bus=self.bus, clock=clock)

    def start(self, name: str, *, clock: Clock | None = None, slots: int = 2, **terms) -> Worker:
        def run(request: CrawlRequest, work) -> Made:
            self.runs.append((name, request.seeds[0]))
            self.running.release()
            while not self.go.is_set():
                work.check()
                self.go.wait(0.02)
            return Made()

        step = Step(method="Crawl", request=CrawlRequest, kind="k", version=1, run=run, **terms)
        worker = Worker(
            self.view(clock or Clock()),
            Artifacts(self.blobs),
            [step],
            home=self.root,
            max_operations=slots,
            lease_s=LEASE_S,
        )
        worker.start()
        self.workers.append(worker)
        return worker

    def submit(self, seed: str) -> str:
        return self.operations.submit("Crawl", CrawlRequest(seeds=[seed])).name

    def end(self, name: str) -> Record:
        return self.operations.wait(name, timeout_s=PATIENCE_S)

    def await_running(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.running.acquire(timeout=PATIENCE_S)


@pytest.fixture
def site(tmp_path: Path):
    site = Site(tmp_path)
    yield site
    site.go.set()
    for worker in site.workers:
        worker.stop(PATIENCE_S)
        assert not worker.crashed.is_set()
    site.bus.close()


def eventually(holds) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_full_worker_leaves_commands_in_the_queue_and_keeps_its_leases(site: Site) -> None:
    site.start("one", slots=2)
    names = [site.submit(str(number)) for number in range(5)]
    site.await_running(2)
    time.sleep(2 * LEASE_S)  # time must pass: were a lease not kept, it would be taken again
    states = [site.operations.get(name).state for name in names]
    assert states.count(State.RUNNING) == 2
    assert states.count(State.QUEUED) == 3
    site.go.set()
    ended = [site.end(name) for name in names]
    assert [(record.state, record.epoch) for record in ended] == [(State.SUCCEEDED, 1)] * 5
    assert len(site.runs) == 5


def test_commands_that_wait_for_a_slot_show_as_depth_and_age(site: Site) -> None:
    site.start("one", slots=1)
    site.submit("runs")
    site.await_running()
    eventually(lambda: measured("athanor_bus_depth") == 0)
    for seed in ("waits", "waits too"):
        site.submit(seed)
    # The sweeper may add copies of commands that wait.
    eventually(lambda: measured("athanor_bus_depth") >= 2)
    eventually(lambda: measured("athanor_bus_oldest_age_seconds") > 1)
    site.go.set()
    eventually(lambda: measured("athanor_bus_depth") == 0)
    eventually(lambda: measured("athanor_bus_oldest_age_seconds") == 0)


def test_the_room_on_the_disk_is_shown(site: Site) -> None:
    site.start("one")
    labels = {"service": "corpus"}
    eventually(lambda: (REGISTRY.get_sample_value("athanor_disk_free_bytes", labels) or 0) > 0)


def measured(name: str) -> float:
    labels = {"service": "corpus", "group": "corpus.workers"}
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_steps_that_wait_for_others_take_no_slot(site: Site) -> None:
    site.start("one", slots=1, waits=True)
    for number in range(3):
        site.submit(str(number))
    site.await_running(3)


def test_an_operation_cancelled_in_the_queue_never_runs(site: Site) -> None:
    site.start("one", slots=1)
    site.submit("first")
    site.await_running()
    queued = site.submit("second")
    assert site.operations.cancel(queued).state is State.CANCELLED
    site.go.set()
    last = site.submit("third")
    site.end(last)
    assert ("one", "second") not in site.runs


def test_commands_that_name_nothing_are_dead_lettered(site: Site) -> None:
    site.start("one")
    site.bus.publish("corpus.commands.v1", key="a", value=b"no command")
    value = b'{"operation": "operations/corpus/absent"}'
    site.bus.publish("corpus.commands.v1", key="b", value=value)
    letters = {}
    with site.bus.subscribe(["corpus.commands.v1.dead"], group="doctors") as consumer:
        while len(letters) < 2:
            message = consumer.poll(PATIENCE_S)
            letters[message.key] = message.headers
    assert letters["a"]["cause"].startswith("InvalidInput: ")
    assert letters["b"]["cause"].startswith("NotFound: ")
    assert letters["a"]["origin"].startswith("corpus.commands.v1/")


def test_a_skewed_wall_clock_steals_nothing(site: Site, tmp_path: Path) -> None:
    shift = tmp_path / "shift"
    site.start("one")
    name = site.submit("long")
    site.await_running()
    site.start("skewed", clock=Clock(shift))
    for seconds in ("86400", "-86400"):
        shift.write_text(seconds)
        site.operations.wake(site.operations.get(name))
        time.sleep(LEASE_S)  # time must pass for a lease that is wrongly judged lost
    site.go.set()
    assert site.end(name).epoch == 1
    assert site.runs == [("one", "long")]


def test_a_worker_that_was_cut_off_is_replaced_and_its_step_stops(site: Site) -> None:
    cut_off = site.start("one")
    name = site.submit("long")
    site.await_running()
    cut_off.stop(0.0, release=False)
    site.start("two")
    site.await_running()
    site.go.set()
    record = site.end(name)
    assert (record.state, record.epoch, record.deaths) == (State.SUCCEEDED, 2, 1)
    assert site.runs == [("one", "long"), ("two", "long")]


def test_a_lost_command_is_found_by_the_sweeper(site: Site) -> None:
    class Deaf:
        def publish(self, *args: object, **kwargs: object) -> None:
            pass

    deaf = Operations("corpus", blobs=site.blobs, bus=Deaf(), clock=Clock())
    name = deaf.submit("Crawl", CrawlRequest(seeds=["lost"])).name
    site.go.set()
    site.start("one")
    assert site.end(name).state is State.SUCCEEDED


def test_a_bug_in_a_thread_of_the_worker_is_told(site: Site, monkeypatch, caplog) -> None:
    def bug(sweeper: Sweeper) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Sweeper, "sweep", bug)
    worker = site.start("one")
    assert worker.crashed.wait(PATIENCE_S)
    assert "bug in the worker's thread sweeper" in caplog.text
    worker.crashed.clear()
