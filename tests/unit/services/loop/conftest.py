"""A small recipe, and a world of services in which nothing is computed."""

import json
from pathlib import Path

import pytest

from libs.artifacts import Artifacts
from libs.blobs.folder import FolderBlobs
from libs.clock import Clock
from libs.errors import NotFound
from services.loop.adapters import FakeServices, FolderLibrary, ProtoCatalogue
from services.loop.binding import check
from services.loop.drive import Driver, World
from services.loop.rounds import Order, Rounds, new_round

RECIPES = Path(__file__).parents[4] / "deploy" / "recipes"
COMPARISON = "c0" * 32
SMALL = f"""
name: small
steps:
  base: {{rpc: trainer.ImportCheckpoint, with: {{path: p, as_of: $as_of}}}}
  exam: {{rpc: evaluator.ImportExam, with: {{path: e, as_of: $as_of, name: n}}}}
  old:
    rpc: evaluator.Examine
    with: {{checkpoint_id: base, exam_id: exam, half: DECISION}}
  decide:
    rpc: loop.Decide
    after: [old]
    with: {{comparison_id: {COMPARISON}, exam_id: exam}}
  serve:
    rpc: loop.Serve
    when: promoted
    with: {{checkpoint_id: base, decision_id: decide, who: $who}}
"""
DECISION = {"outcome": "promoted", "reason": "It is better.", "attribution": "By the targeting."}


class DictLibrary:
    """A `Library` in a dict."""

    def __init__(self, recipes):
        self.recipes = recipes

    def read(self, name):
        if name not in self.recipes:
            raise NotFound(f"there is no recipe `{name}`")
        return self.recipes[name]


class FixedClock(Clock):
    """Wall time stands still; every look at the monotonic clock is a second later."""

    def __init__(self):
        super().__init__()
        self.seconds = 0.0

    def now(self):
        return 1_700_000_000.0

    def monotonic(self):
        self.seconds += 1.0
        return self.seconds


@pytest.fixture(scope="session")
def catalogue():
    return ProtoCatalogue()


@pytest.fixture(scope="session")
def library():
    return FolderLibrary(RECIPES)


@pytest.fixture
def blobs(tmp_path):
    return FolderBlobs(tmp_path / "blobs")


@pytest.fixture
def fake(catalogue, blobs, tmp_path):
    services = FakeServices(catalogue, Artifacts(blobs), tmp_path / "made")
    services.outcomes["decide"] = ("promoted", "It is better.")
    services.files["decision"] = {"decision.json": DECISION}
    return services


@pytest.fixture
def bound(catalogue):
    return bind(SMALL, catalogue)


def bind(text, catalogue, library=None):
    checked = check(text, library or DictLibrary({}), catalogue)
    assert checked.faults == ()
    return checked.bound


class Runner:
    """Drives one round over a fake world."""

    def __init__(self, blobs, fake, bound, **world):
        self.blobs, self.fake, self.bound, self.world = blobs, fake, bound, world
        order = Order(
            id="ab" * 16,
            as_of="then",
            who="me",
            operation="operations/loop/" + "ab" * 16,
            create_time=1_700_000_000.0,
        )
        self.record = Rounds(blobs).create(new_round(order, bound))

    def drive(self, *, blobs=None, cancelled=lambda: False, show=lambda record: None):
        blobs = blobs or self.blobs
        world = World(
            rounds=Rounds(blobs),
            services=self.fake,
            artifacts=Artifacts(blobs),
            clock=FixedClock(),
            pause=lambda seconds: None,
            **self.world,
        )
        driver = Driver(world, self.bound, Rounds(self.blobs).get(self.record.id))
        return driver.run(cancelled, show)


@pytest.fixture
def runner(blobs, fake, bound):
    return Runner(blobs, fake, bound)


def states(record):
    return {step.name: step.state.value for step in record.steps}


def put_json(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder
