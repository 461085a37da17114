"""Garbage is found and deleted, and nothing else is: also beside rounds that begin meanwhile."""

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from athanor.corpus.v1.corpus_pb2 import CrawlRequest

from libs.artifacts import Artifacts
from libs.blobs.folder import FolderBlobs
from libs.bus.port import Topic
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.condemned import Condemned
from libs.errors import Conflict, Corrupt, NotFound
from libs.lm import weights
from libs.manifest import Request
from libs.operations.attempt import Folders
from libs.operations.lease import take
from libs.operations.runner import Runner
from libs.operations.step import Made, Step
from libs.operations.store import Operations
from services.loop.collection import Collector
from services.loop.garbage import GRACE_S, MARKS, Reason, Survey
from services.loop.outcome import Outcome
from services.loop.pins import Pin, Pins
from services.loop.rounds import RoundRecord, Rounds, StepRecord
from services.loop.schedule import StepState
from services.loop.store_age import Moment, StoreAge
from tests import buckets
from tests.mortal import Killed, Mortal

COLLECTION = "operations/loop/" + "c" * 32
DIGEST = "5e" * 32


class World:
    """A store with artifacts, and the collector of its garbage."""

    def __init__(self, tmp_path, blobs=None):
        self.blobs = blobs or FolderBlobs(tmp_path / "blobs")
        self.artifacts = Artifacts(self.blobs)
        self.folder = tmp_path
        self.numbers = itertools.count()
        self.seconds = 0.0
        self.grace_s = GRACE_S

    def make(self, kind="tokens", name="a", files=None, **inputs):
        folder = self.folder / f"out{next(self.numbers)}"
        folder.mkdir()
        for file, content in ({"data": kind.encode()} if files is None else files).items():
            (folder / file).write_bytes(content)
        asked = Request(kind=kind, inputs=inputs, parameters={"name": name}, recipe_version=1)
        return self.artifacts.create(asked, folder, run={})

    def survey(self, blobs=None):
        blobs = blobs or self.blobs
        age = StoreAge(blobs, moment=lambda: Moment("boot", self.seconds))
        return Survey(blobs, clock=Clock(), age=age, grace_s=self.grace_s)

    def collector(self, blobs=None):
        blobs = blobs or self.blobs
        return Collector(
            blobs, self.survey(blobs), clock=Clock(), is_over=lambda name: name != COLLECTION
        )

    def garbage(self, **terms):
        return {each.artifact_id: each for each in self.survey().garbage(**terms)}

    def collect(self, operation=COLLECTION, tell=lambda seen: None, **terms):
        return self.collector().collect(operation, tell=tell, **terms)

    def pass_grace(self):
        self.survey().garbage()
        self.seconds += GRACE_S

    def round(self, *artifact_ids, outcome=None, name="ab" * 16, **fields):
        steps = tuple(
            StepRecord(name=f"s{i}", rpc="x.Y", state=StepState.SUCCEEDED, artifact_id=each)
            for i, each in enumerate(artifact_ids)
        )
        record = RoundRecord(
            id=name,
            recipe="r",
            text="",
            as_of="",
            who="",
            operation=f"operations/loop/{name}",
            create_time=1_700_000_000.0,
            steps=steps,
            outcome=outcome,
            **fields,
        )
        return Rounds(self.blobs).create(record)

    def has(self, artifact_id):
        return [*self.blobs.list(f"artifacts/{artifact_id}/")] != []


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_what_nothing_leads_to_is_garbage_and_waits_for_a_day(world):
    made = world.make()
    found = world.garbage()[made]
    assert (found.kind, found.reason, found.wait_s) == ("tokens", Reason.UNREACHABLE, GRACE_S)
    assert found.size_bytes == sum(b.size_bytes for b in world.blobs.list(f"artifacts/{made}/"))


def test_within_its_grace_nothing_is_deleted_and_after_it_everything_of_it(world):
    made = world.make()
    world.pass_grace()
    world.seconds -= 1
    assert world.collect().num_deleted == 0
    world.seconds += 1
    assert world.collect().num_deleted == 1
    assert [*world.blobs.list("artifacts/"), *world.blobs.list("requests/")] == []
    with pytest.raises(NotFound):
        world.artifacts.open(made)


def test_grace_begins_anew_when_something_led_to_it_meanwhile(world):
    made = world.make()
    world.pass_grace()
    Pins(world.blobs, world.artifacts).pin(Pin(artifact_id=made, who="w", why="y", when=""))
    world.garbage()
    Pins(world.blobs, world.artifacts).unpin(made)
    assert world.garbage()[made].wait_s == GRACE_S


@pytest.mark.parametrize(
    "root",
    [
        lambda world, id_: world.round(id_),
        lambda world, id_: world.round(id_, outcome=Outcome.REJECTED),
        lambda world, id_: world.blobs.create(
            "registry/exams/e.json", json.dumps({"exam_id": id_}).encode()
        ),
        lambda world, id_: Pins(world.blobs, world.artifacts).pin(
            Pin(artifact_id=id_, who="me", why="a talk", when="")
        ),
        lambda world, id_: submit(world, id_),
    ],
    ids=["round", "ended round", "registry", "pin", "operation"],
)
def test_roots_keep_what_they_name_and_all_that_it_was_made_from(world, root):
    tokens = world.make("tokens")
    plan = world.make("plan", tokens=tokens)
    root(world, plan)
    assert world.garbage() == {}


def operations(world, service="corpus"):
    bus = SqliteBus(world.folder / "bus.sqlite")
    bus.declare([Topic(name=f"{service}.commands.v1", key="operation name")])
    return Operations(service, blobs=world.blobs, bus=bus, clock=Clock())


def submit(world, *named, request_id="r"):
    return operations(world).submit("Crawl", CrawlRequest(request_id=request_id, seeds=named))


def test_a_weights_digest_in_a_record_keeps_the_checkpoint_that_holds_them(world):
    checkpoint = world.make("checkpoint")
    weights.register(world.blobs, DIGEST, checkpoint)
    world.blobs.create("registry/models.json", json.dumps([DIGEST]).encode())
    assert world.garbage() == {}


def test_a_round_artifact_keeps_the_artifacts_of_its_steps(world):
    step = world.make()
    steps = {"steps": {"a": {"artifact_id": step}}}
    made = world.make("round", files={"round.json": json.dumps(steps).encode()})
    world.round(made)
    assert world.garbage() == {}


def test_an_ended_operation_keeps_what_it_named_for_the_grace(world):
    made = world.make()
    world.pass_grace()
    record = submit(world, made)
    operations(world).cancel(record.name)
    assert world.garbage()[made].wait_s == GRACE_S
    world.seconds += GRACE_S
    assert world.collect().num_deleted == 1


def test_what_the_young_was_made_from_waits_with_it(world):
    tokens = world.make("tokens")
    world.pass_grace()
    plan = world.make("plan", tokens=tokens)
    waits = {id_: found.wait_s for id_, found in world.garbage().items()}
    assert waits == {tokens: GRACE_S, plan: GRACE_S}


def test_rounds_that_ended_long_ago_keep_nothing_if_asked(world):
    made = world.make()
    world.round(made, outcome=Outcome.REJECTED)
    assert world.garbage(rounds_older_than_days=30_000) == {}
    assert [*world.garbage(rounds_older_than_days=30)] == [made]


def test_a_round_that_goes_on_is_never_too_old(world):
    world.round(world.make())
    assert world.garbage(rounds_older_than_days=30) == {}


def test_leftovers_of_a_kill_are_found_and_named(world):
    made = world.make()
    world.blobs.delete(f"artifacts/{made}/manifest.json")
    assert world.garbage()[made].reason is Reason.UNFINISHED
    for blob in [*world.blobs.list("artifacts/")]:
        world.blobs.delete(blob.name)
    assert world.garbage()[made].reason is Reason.MISSING


@pytest.mark.parametrize("name", ["operations/corpus/x.json", "rounds/x.json"])
def test_a_record_that_cannot_be_read_stops_everything(world, name):
    world.make()
    world.blobs.create(name, b"{broken")
    with pytest.raises(Corrupt):
        world.collect()


def test_a_damaged_manifest_stops_everything_and_is_named(world):
    made = world.make()
    path = world.blobs.local(f"artifacts/{made}/manifest.json").resolve()
    path.chmod(0o644)
    path.write_bytes(b"{}")
    with pytest.raises(Corrupt, match="manifest"):
        world.garbage()


def test_weights_of_a_deleted_checkpoint_are_registered_no_more(world):
    gone = world.make("checkpoint")
    weights.register(world.blobs, DIGEST, gone)
    world.pass_grace()
    world.collect()
    with pytest.raises(NotFound, match=DIGEST):
        weights.find(world.blobs, DIGEST)
    again = world.make("checkpoint")
    weights.register(world.blobs, DIGEST, again)
    assert weights.find(world.blobs, DIGEST) == again


def test_what_was_made_from_others_goes_before_them(world):
    tokens = world.make("tokens")
    plan = world.make("plan", tokens=tokens)
    checkpoint = world.make("checkpoint", plan=plan, tokens=tokens)
    world.pass_grace()
    seen = []
    world.collect(tell=lambda _: seen.append([*map(world.has, (checkpoint, plan, tokens))]))
    assert seen == [[True, True, True], [False, True, True], [False, False, True]]


def test_a_collection_killed_anywhere_leaves_no_answer_that_is_not_whole_and_is_finished(world):
    for calls in itertools.count():
        tokens = world.make("tokens", name=calls)
        plan = world.make("plan", name=calls, tokens=tokens)
        kept = world.make("kept", name=calls)
        world.round(kept, name=f"{calls:032x}")
        world.pass_grace()
        try:
            world.collector(Mortal(world.blobs, calls)).collect(COLLECTION, tell=lambda _: None)
            break
        except Killed:
            for answered in world.artifacts.list():
                assert {each.problem for each in world.artifacts.verify(answered.id)} == {""}
            world.collect()
            assert not world.has(plan)
            assert not world.has(tokens)
            assert world.has(kept)
            assert Condemned(world.blobs).read().owner == ""
    assert calls > 8


def test_two_collections_at_once_are_refused(world):
    world.make()
    world.pass_grace()

    def tell(seen):
        with pytest.raises(Conflict, match="expected no other collection"):
            world.collect("operations/loop/other")

    assert world.collect(tell=tell).num_deleted == 1


def test_what_an_ended_collection_left_condemned_is_absolved(world):
    Condemned(world.blobs).put("operations/loop/dead#1", ["a" * 64])
    world.collector().tend()
    assert Condemned(world.blobs).read().ids == ()


def test_what_a_record_names_between_the_two_surveys_is_spared(world):
    made, other = world.make(name="a"), world.make(name="b")
    world.pass_grace()
    collector = world.collector()
    surveyed = collector._survey.garbage
    looks = itertools.count()

    def garbage(**terms):
        if next(looks) == 1:
            submit(world, made)
        return surveyed(**terms)

    collector._survey.garbage = garbage
    assert collector.collect(COLLECTION, tell=lambda _: None).num_deleted == 1
    assert world.has(made)
    assert not world.has(other)


def test_marks_of_a_wall_clock_ahead_shorten_nothing(world, tmp_path):
    shift = tmp_path / "shift"
    shift.write_text("1e9")
    made = world.make()
    world.garbage()
    age = StoreAge(world.blobs, moment=lambda: Moment("boot", 1.0))
    found = Survey(world.blobs, clock=Clock(shift), age=age).garbage()
    assert [(each.artifact_id, each.wait_s) for each in found] == [(made, GRACE_S - 1.0)]


def test_marks_of_what_is_gone_are_dropped(world):
    world.make()
    world.pass_grace()
    world.collect()
    world.garbage()
    assert json.loads(world.blobs.read(MARKS).data)["marks"] == {}


class Actor:
    """Runs rounds of three steps that all rounds share, each step an operation with a lease."""

    def __init__(self, world, number):
        self.world, self.number = world, number
        self.operations = operations(world)
        step = Step(
            method="Crawl", request=CrawlRequest, kind="documents", version=1, run=self.make
        )
        folders = Folders(world.folder / f"home{number}", "corpus")
        self.runner = Runner({"Crawl": step}, world.artifacts, folders)

    def make(self, request, work):
        (work.out / "data").write_bytes(request.seeds[0].encode())
        return Made()

    def play(self, name):
        """Play a round to its end; return whether all it made was whole then."""
        record = self.world.round(name=name)
        for number in range(3):
            operation = self.run(f"{name}.{number}.1", f"seed {number}")
            assert operation.result, operation.error
            made = StepRecord(name=str(number), rpc="x.Y", artifact_id=operation.result.artifact_id)
            record = Rounds(self.world.blobs).save(replace(record, steps=(*record.steps, made)))
        problems = [
            finding.problem
            for step in record.steps
            for finding in self.world.artifacts.verify(step.artifact_id)
        ]
        Rounds(self.world.blobs).save(replace(record, outcome=Outcome.REJECTED))
        return {*problems} == {""}

    def run(self, request_id, seed):
        name = self.operations.submit(
            "Crawl", CrawlRequest(request_id=request_id, seeds=[seed])
        ).name
        lease = take(self.operations, self.operations.read(name), holder="me", lease_s=60.0)
        self.runner.run(lease)
        return lease.record


@pytest.fixture(params=buckets.ADAPTERS)
def real_world(request, tmp_path):
    with buckets.opener(request.param, request, tmp_path) as open_blobs:
        yield World(tmp_path, open_blobs())


def test_rounds_that_run_beside_collections_without_any_grace_lose_nothing(real_world):
    world = real_world
    world.grace_s = 0.0
    ended, num_deleted = threading.Event(), [0]

    def collect():
        while not ended.is_set():
            num_deleted[0] += world.collect(rounds_older_than_days=1.0).num_deleted

    def play(number):
        actor = Actor(world, number)
        played = itertools.takewhile(lambda again: again < 5 or num_deleted[0] < 5, range(200))
        return [actor.play(f"{number:016x}{again:016x}") for again in played]

    with ThreadPoolExecutor(4) as pool:
        collecting = pool.submit(collect)
        try:
            played = [*pool.map(play, range(3))]
        finally:
            ended.set()
        collecting.result()
    assert {each for rounds in played for each in rounds} == {True}
    assert num_deleted[0] >= 5, "the collections deleted too little to have been in anybody's way"


def test_large_messages_that_nobody_reads_any_more_are_deleted_and_others_are_not(world):
    old, young = f"claims/2001-01-01/{DIGEST}", f"claims/2999-01-01/{DIGEST}"
    for name in (old, young):
        world.blobs.create(name, b"large")
    world.collect()
    assert [blob.name for blob in world.blobs.list("claims/")] == [young]


def test_a_tombstone_keeps_what_it_names_for_ever(world):
    replacement = world.make()
    stone = json.dumps({"replaced": [{"replacement_id": replacement}]}).encode()
    world.make("tombstone", files={"tombstone.json": stone})
    assert world.garbage() == {}
