"""Operations without threads: a clock that a test turns by hand, stores on either adapter."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from athanor.corpus.v1.corpus_pb2 import CrawlRequest

from libs.artifacts import Artifact, Artifacts
from libs.blobs.port import Blobs
from libs.bus.port import Topic
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.operations.attempt import Folders
from libs.operations.lease import Lease, take
from libs.operations.record import Result
from libs.operations.step import Made, Step, Work
from libs.operations.store import Operations
from tests import buckets


class ManualClock(Clock):
    """Stands still until it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.wall_s = 1_700_000_000.0
        self.monotonic_s = 0.0

    def now(self) -> float:
        return self.wall_s

    def monotonic(self) -> float:
        return self.monotonic_s


@dataclass
class Stage:
    """One service's stores, and the way to take operations by hand."""

    operations: Operations
    blobs: Blobs
    bus: SqliteBus
    clock: ManualClock
    home: Path
    lease_s: float = 10.0
    artifacts: Artifacts = field(init=False)
    folders: Folders = field(init=False)

    def __post_init__(self) -> None:
        self.artifacts = Artifacts(self.blobs, now=self.clock.now)
        self.folders = Folders(self.home, "corpus")

    def submit(self, seed: str = "a", request_id: str = "") -> str:
        request = CrawlRequest(request_id=request_id, seeds=[seed], as_of="today")
        return self.operations.submit("Crawl", request).name

    def take(self, name: str, holder: str = "one") -> Lease:
        stored = self.operations.read(name)
        return take(self.operations, stored, holder=holder, lease_s=self.lease_s)

    def step(self, run: Callable[[CrawlRequest, Work], Made], **terms: Any) -> Step:
        given = {"kind": "documents", "version": 1, **terms}
        return Step(method="Crawl", request=CrawlRequest, run=run, **given)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=buckets.ADAPTERS)
def open_blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[buckets.Opener]:
    with buckets.opener(request.param, request, tmp_path) as open_blobs:
        yield open_blobs


@pytest.fixture
def stage(tmp_path: Path, clock: ManualClock, open_blobs: buckets.Opener) -> Iterator[Stage]:
    blobs = open_blobs()
    bus = SqliteBus(tmp_path / "bus.sqlite", clock=clock)
    bus.declare([Topic(name="corpus.commands.v1", key="operation")])
    operations = Operations("corpus", blobs=blobs, bus=bus, clock=clock)
    yield Stage(operations, blobs, bus, clock, tmp_path)
    bus.close()


@dataclass
class Announced:
    """Collects what steps announce."""

    results: list[tuple[str, Result]] = field(default_factory=list)

    def __call__(self, artifact: Artifact, result: Result) -> None:
        self.results.append((artifact.id, result))


@pytest.fixture
def announced() -> Announced:
    return Announced()
