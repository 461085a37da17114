"""The whole loop over a real channel; its own steps are real, those of the others are fakes."""

import json
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from athanor.common.v1 import (
    artifacts_pb2,
    artifacts_pb2_grpc,
    dead_letters_pb2,
    dead_letters_pb2_grpc,
    operations_pb2,
)
from athanor.loop.v1 import events_pb2, loop_pb2, loop_pb2_grpc
from google.longrunning import operations_pb2 as longrunning
from google.longrunning import operations_pb2_grpc as longrunning_grpc

from libs import rpc
from libs.artifacts import Artifacts
from libs.backup.restore import restore
from libs.backup.take import take
from libs.blobs.folder import FolderBlobs
from libs.bus import events
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.errors import Conflict, Corrupt, InvalidInput, NotFound, Unavailable
from libs.manifest import Request
from services.loop.adapters import FakeServices, GrpcServices
from services.loop.app import build
from services.loop.config import Config
from tests.unit.services.loop.conftest import COMPARISON, SMALL, DictLibrary, put_json

SHOWN = {"estimate": 0.1, "low": 0.02, "high": 0.2, "num_items": 300, "num_discordant": 50}
UNCLEAR = SHOWN | {"low": -0.1}
DIGEST = "5e" * 32


class FakeLm:
    """An lm host that holds whatever it is asked for, unless it is told not to."""

    def __init__(self):
        self.loaded = []
        self.refuses = None

    def load(self, digest):
        if self.refuses:
            raise self.refuses
        self.loaded.append(digest)


class FakeFront:
    """What users ask as `live`: shows what it is told to, unless a server is down."""

    def __init__(self):
        self.shown = []
        self.refusals = []

    def converge(self, wanted):
        if self.refusals:
            raise self.refusals.pop()
        self.shown.append(wanted())


class SplitServices:
    """The loop's own calls over gRPC, all others to a fake."""

    def __init__(self, fake):
        self.fake = fake
        self.addresses = {}
        self.grpc = GrpcServices(self.addresses)

    def of(self, name):
        return self.grpc if name.startswith(("loop.", "operations/loop/")) else self.fake

    def start(self, rpc, fields, request_id):
        return self.of(rpc).start(rpc, fields, request_id)

    def look(self, operation):
        return self.of(operation).look(operation)

    def cancel(self, operation):
        self.of(operation).cancel(operation)

    def rehearse(self, rpc, fields):
        return self.of(rpc).rehearse(rpc, fields)


class World:
    """A running loop, its store, and what it talks to."""

    def __init__(self, service, channel, blobs, bus, fake, lm, front, folder):
        self.service, self.blobs, self.bus, self.fake, self.lm = service, blobs, bus, fake, lm
        self.folder, self.front = folder, front
        self.artifacts = Artifacts(blobs)
        self.loop = loop_pb2_grpc.LoopServiceStub(channel)
        self.store = artifacts_pb2_grpc.ArtifactsServiceStub(channel)
        self.letters = dead_letters_pb2_grpc.DeadLettersServiceStub(channel)
        self.operations = longrunning_grpc.OperationsStub(channel)
        self.put_inputs()

    def put(self, kind, name, inputs=None, **files):
        folder = put_json(self.folder / "inputs" / uuid.uuid4().hex, **files)
        parameters = {"name": name}
        request = Request(kind=kind, inputs=inputs or {}, parameters=parameters, recipe_version=1)
        return self.artifacts.create(request, folder, run={})

    def put_inputs(self, digest=DIGEST):
        """Make a candidate and what was answered by it."""
        checkpoint = {"weights_digest": digest, "num_parameters": 5, "num_tokens": 7}
        self.checkpoint = self.put("checkpoint", digest, checkpoint=checkpoint)
        self.exam = self.put(
            "exam", "exam", exam={"name": "e", "num_items": 300, "max_decisions": 2}
        )
        inputs = {"checkpoint": self.checkpoint, "exam": self.exam}
        self.responses = self.put("responses", digest, inputs)

    def compared(self, gain=SHOWN, name="c"):
        comparison = {"gain": gain, "guard": SHOWN | {"low": -0.01}, "items_needed": 900}
        return self.put("comparison", name, {"candidate": self.responses}, comparison=comparison)

    def recipe(self, comparison, **replaced):
        """A round file that decides on a comparison and serves."""
        exam, checkpoint = self.exam, self.checkpoint
        steps = {
            "base": {"rpc": "trainer.ImportCheckpoint", "with": {"path": "p", "as_of": "$as_of"}},
            "decide": {
                "rpc": "loop.Decide",
                "after": ["base"],
                "with": {"comparison_id": comparison, "exam_id": exam} | replaced,
            },
            "serve": {
                "rpc": "loop.Serve",
                "when": "promoted",
                "with": {"checkpoint_id": checkpoint, "decision_id": "decide", "who": "$who"},
            },
        }
        return yaml.safe_dump({"name": "tiny", "steps": steps})

    def start(self, text, request_id=None, as_of="t", who="ada"):
        request = loop_pb2.StartRoundRequest(
            request_id=request_id or uuid.uuid4().hex, recipe_yaml=text, as_of=as_of, who=who
        )
        return self.loop.StartRound(request, timeout=20)

    def wait(self, operation):
        wait = longrunning.WaitOperationRequest(name=operation.name)
        wait.timeout.FromSeconds(20)
        return self.operations.WaitOperation(wait, timeout=25)

    def run(self, text, **how):
        done = self.wait(self.start(text, **how))
        assert done.done
        return done

    def result(self, text, **how):
        done = self.run(text, **how)
        assert not done.error.message
        result = operations_pb2.StepResult()
        done.response.Unpack(result)
        return result

    def get(self, operation):
        name = f"rounds/{operation.name.rpartition('/')[2]}"
        return self.loop.GetRound(loop_pb2.GetRoundRequest(name=name))

    def events(self, topic, kind):
        with self.bus.subscribe([topic], group=uuid.uuid4().hex) as consumer:
            found = []
            while message := consumer.poll(0.2):
                found.append(events.parse(message, kind).payload)
        return found


@pytest.fixture
def start_world(tmp_path, blobs, catalogue):
    fake = FakeServices(catalogue, Artifacts(blobs), tmp_path / "made")
    fake.num_looks = 0
    lm, front = FakeLm(), FakeFront()

    @contextmanager
    def start_world(blobs=blobs):
        bus = SqliteBus(tmp_path / "bus.sqlite")
        services = SplitServices(fake)
        nowhere = dict.fromkeys(
            ("corpus_address", "sampler_address", "trainer_address", "evaluator_address"), "x:1"
        )
        service = build(
            Config(home=tmp_path, lm_address="x:1", patience_s=5.0, **nowhere),
            blobs=blobs,
            bus=bus,
            clock=Clock(),
            lm=lm,
            front=front,
            services=services,
            catalogue=catalogue,
            library=DictLibrary({"small": SMALL}),
        )
        services.addresses["loop"] = service.address
        service.start()
        channel = rpc.connect(service.address)
        try:
            yield World(service, channel, blobs, bus, fake, lm, front, tmp_path)
        finally:
            channel.close()
            services.grpc.close()
            service.stop(grace_s=1.0)
            bus.close()

    return start_world


@pytest.fixture
def world(start_world):
    with start_world() as world:
        yield world


def test_dead_letters_of_every_topic_are_told_by_the_loop(world):
    topic = "loop.rounds-ended.v1.dead"
    world.bus.publish(topic, key="a", value=b"{}", headers={"cause": "InvalidInput: no round"})
    found = world.letters.ListDeadLetters(dead_letters_pb2.ListDeadLettersRequest(), timeout=20)
    assert [letter.cause for letter in found.letters] == ["InvalidInput: no round"]


def test_a_round_that_promotes_moves_live_and_tells(world):
    operation = world.start(world.recipe(world.compared()))
    world.wait(operation)
    seen = world.get(operation)
    assert seen.outcome == loop_pb2.OUTCOME_PROMOTED
    assert [step.state for step in seen.steps] == ["succeeded"] * 3
    assert world.lm.loaded == world.front.shown == [DIGEST]
    live = world.loop.ResolveLive(loop_pb2.ResolveLiveRequest())
    assert (live.weights_digest, live.status, live.round) == (DIGEST, "promoted", seen.name)
    (ended,) = world.events("loop.rounds-ended.v1", events_pb2.RoundEnded)
    assert (ended.round, ended.outcome) == (seen.name, "promoted")
    assert ended.artifact_id == seen.artifact_id
    (moved,) = world.events("loop.models-promoted.v1", events_pb2.ModelPromoted)
    assert (moved.weights_digest, moved.who) == (DIGEST, "ada")


def test_a_round_waits_until_users_are_shown_what_it_promoted(world):
    world.front.refusals = [Unavailable("Triton is down")]
    assert world.result(world.recipe(world.compared())).outcome == "promoted"
    assert world.front.shown == [DIGEST]


def test_a_round_shows_its_outcome_once_its_artifact_and_page_are_there(world):
    operation = world.start(world.recipe(world.compared()))
    while not (seen := world.get(operation)).outcome:
        pass
    assert seen.artifact_id
    assert seen.report


def test_the_same_round_again_is_answered_from_the_index_whoever_asks(world):
    text = world.recipe(world.compared())
    first = world.result(text)
    world.fake.started.clear()
    operation = world.start(text, who="bob")
    world.wait(operation)
    assert not world.fake.started
    seen = world.get(operation)
    assert seen.artifact_id == first.artifact_id
    assert seen.outcome == loop_pb2.OUTCOME_PROMOTED
    assert all(step.cached for step in seen.steps)
    assert b"<h1>tiny</h1>" in b"".join(
        piece.chunk
        for piece in world.loop.ReadReport(loop_pb2.ReadReportRequest(name=seen.name), timeout=9)
    )


def test_another_as_of_is_another_round(world):
    text = world.recipe(world.compared())
    assert world.result(text, as_of="a").artifact_id != world.result(text, as_of="b").artifact_id


def test_the_same_request_id_is_the_same_round_even_without_as_of(world):
    text = world.recipe(world.compared())
    first = world.start(text, request_id="mine", as_of="")
    assert world.start(text, request_id="mine", as_of="").name == first.name
    with pytest.raises(Conflict, match="another round"):
        world.start(world.recipe(world.compared(), manual=True), request_id="mine")
    world.wait(first)
    assert len(world.loop.ListRounds(loop_pb2.ListRoundsRequest()).rounds) == 1


def test_a_recipe_with_faults_is_refused_with_all_of_them(world):
    with pytest.raises(InvalidInput, match=r"corpus.Crwal.*; step b"):
        world.start("steps: {a: {rpc: corpus.Crwal}, b: {rpc: loop.Decid}}")
    assert not world.loop.ListRounds(loop_pb2.ListRoundsRequest()).rounds


def checked(world, comparison):
    text = SMALL.replace(COMPARISON, comparison)
    return world.loop.CheckRecipe(loop_pb2.CheckRecipeRequest(recipe_yaml=text), timeout=9)


def test_checking_a_recipe_lists_steps_and_rehearses_also_those_that_need_others(world):
    world.fake.notes["evaluator.ImportExam"] = ["70 items."]
    world.fake.notes["evaluator.Examine"] = ["slow."]
    found = checked(world, world.compared())
    assert list(found.steps) == ["base", "exam", "old", "decide", "serve"]
    assert list(found.notes) == ["step exam: 70 items.", "step old: slow."]
    assert not found.faults


def test_an_artifact_that_no_step_makes_must_be_there_when_a_recipe_is_checked(world):
    assert list(checked(world, COMPARISON).faults) == [
        f"step decide: there is no artifact {COMPARISON}"
    ]


def test_a_rule_that_no_comparison_could_be_decided_by_is_a_fault(world):
    text = world.recipe(world.compared(), guard_margin=7)
    found = world.loop.CheckRecipe(loop_pb2.CheckRecipeRequest(recipe_yaml=text), timeout=9)
    assert any("guard_margin must lie in (0, 1]" in fault for fault in found.faults), found


def test_what_a_rehearsal_refuses_is_a_fault_and_what_is_down_a_note(world):
    refused = NotFound("no folder p")
    world.fake.unreachable = lambda call: {
        "rehearse ImportCheckpoint": refused,
        "rehearse ImportExam": Unavailable("evaluator is down"),
        "rehearse Examine": Unavailable("asked again"),
    }.get(call)
    found = checked(world, world.compared())
    assert list(found.faults) == ["step base: no folder p"]
    assert list(found.notes) == ["step exam was not rehearsed: evaluator is down"]


def test_a_failed_round_says_why_and_can_be_resumed(world):
    world.fake.failures["base", 1] = Corrupt("model.safetensors is truncated")
    operation = world.start(world.recipe(world.compared()))
    done = world.wait(operation)
    assert "Step base: model.safetensors is truncated" in done.error.message
    seen = world.get(operation)
    assert seen.outcome == loop_pb2.OUTCOME_FAILED
    resumed = world.loop.ResumeRound(loop_pb2.ResumeRoundRequest(name=seen.name), timeout=9)
    world.wait(resumed)
    again = world.get(operation)
    assert (again.outcome, again.operation) == (loop_pb2.OUTCOME_PROMOTED, resumed.name)
    assert [each.rpartition(".")[2] for each in world.fake.started] == ["1", "2"]
    with pytest.raises(Conflict, match="has ended"):
        world.loop.ResumeRound(loop_pb2.ResumeRoundRequest(name=seen.name), timeout=9)


def test_a_cancelled_round_cancels_its_steps_and_can_be_resumed(world):
    world.fake.num_looks = 10**9
    operation = world.start(world.recipe(world.compared()))
    with pytest.raises(Conflict, match="goes on"):
        world.loop.ResumeRound(
            loop_pb2.ResumeRoundRequest(name=world.get(operation).name), timeout=9
        )
    while world.get(operation).steps[0].state != "running":
        pass
    world.operations.CancelOperation(longrunning.CancelOperationRequest(name=operation.name))
    world.wait(operation)
    seen = world.get(operation)
    assert seen.outcome == loop_pb2.OUTCOME_CANCELLED
    assert len(world.fake.cancelled) == 1
    world.fake.num_looks = 0
    world.wait(world.loop.ResumeRound(loop_pb2.ResumeRoundRequest(name=seen.name), timeout=9))
    assert world.get(operation).outcome == loop_pb2.OUTCOME_PROMOTED


def test_a_loop_that_dies_goes_on_when_it_is_started_again(start_world):
    with start_world() as world:
        world.fake.num_looks = 10**9
        operation = world.start(world.recipe(world.compared()))
        while world.get(operation).steps[0].state != "running":
            pass
    world.fake.num_looks = 0
    with start_world() as world:
        world.wait(operation)
        assert world.get(operation).outcome == loop_pb2.OUTCOME_PROMOTED
    assert len(set(world.fake.started)) == 1


def test_a_candidate_that_waits_for_approval_is_promoted_by_a_person(world):
    result = world.result(world.recipe(world.compared(), manual=True))
    assert result.outcome == "awaiting_approval"
    with pytest.raises(NotFound, match="no model is live"):
        world.loop.ResolveLive(loop_pb2.ResolveLiveRequest())
    request = loop_pb2.PromoteModelRequest(weights_digest=DIGEST[:8], who="ada", why="Looks good.")
    promoted = world.loop.PromoteModel(request, timeout=9)
    assert (promoted.live, promoted.weights_digest) == (True, DIGEST)
    listed = world.loop.ListModels(loop_pb2.ListModelsRequest())
    assert [entry.action for entry in listed.audit] == ["registered", "promoted"]
    assert listed.audit[1].why == "Looks good."


def test_a_rejected_candidate_needs_force(world):
    worse = SHOWN | {"estimate": -0.1, "low": -0.2, "high": -0.05}
    assert world.result(world.recipe(world.compared(worse))).outcome == "rejected"
    request = loop_pb2.PromoteModelRequest(weights_digest=DIGEST, who="ada", why="I insist.")
    with pytest.raises(Conflict, match="force"):
        world.loop.PromoteModel(request, timeout=9)
    with pytest.raises(InvalidInput, match="why must be given"):
        world.loop.PromoteModel(
            loop_pb2.PromoteModelRequest(weights_digest=DIGEST, who="ada", force=True), timeout=9
        )
    request.force = True
    assert world.loop.PromoteModel(request, timeout=9).live


def test_nothing_moves_when_the_weights_cannot_be_loaded(world):
    world.lm.refuses = Corrupt("the weights have another digest")
    done = world.run(world.recipe(world.compared()))
    assert "another digest" in done.error.message
    with pytest.raises(NotFound):
        world.loop.ResolveLive(loop_pb2.ResolveLiveRequest())


def test_rolling_back_goes_to_the_model_before(world):
    world.result(world.recipe(world.compared()))
    with pytest.raises(Conflict, match="cannot roll back"):
        world.loop.RollBackModel(loop_pb2.RollBackModelRequest(who="a", why="b"), timeout=9)
    world.put_inputs("6f" * 32)
    world.result(world.recipe(world.compared(name="second")))
    assert world.loop.ResolveLive(loop_pb2.ResolveLiveRequest()).weights_digest == "6f" * 32
    request = loop_pb2.RollBackModelRequest(who="ada", why="It rambles.")
    world.front.refusals = [Unavailable("Triton is down")]  # the registry says it all the same
    assert world.loop.RollBackModel(request, timeout=9).weights_digest == DIGEST
    assert world.front.shown == [DIGEST, "6f" * 32]


def test_a_decision_half_wears_out(world):
    for name in ("one", "two"):
        world.result(world.recipe(world.compared(UNCLEAR, name=name)), as_of=name)
    again = world.recipe(world.compared(UNCLEAR, name="two"))
    assert world.result(again, as_of="later").outcome == "undecided"
    done = world.run(world.recipe(world.compared(UNCLEAR, name="three")))
    assert "has served 2 decisions" in done.error.message


def test_a_decision_wears_out_no_other_exam_than_that_of_its_comparison(world):
    exam = {"name": "other", "num_items": 300, "max_decisions": 2}
    other = world.put("exam", "other", exam=exam)
    done = world.run(world.recipe(world.compared(), exam_id=other))
    assert f"expected its exam {world.exam}, got {other}" in done.error.message
    assert list(world.blobs.list("registry/decisions/")) == []


def test_a_decision_says_what_it_was_made_from(world):
    world.result(world.recipe(world.compared(UNCLEAR), require=["targeting"]))
    (decision,) = world.artifacts.list("decision")
    document = json.loads(decision.path("decision.json").read_bytes())
    assert document["outcome"] == "undecided"
    assert document["rule"]["require"] == ["gain", "guard", "targeting"]
    assert document["weights_digest"] == DIGEST
    assert "about 900 target items" in document["reason"]


def test_artifacts_are_listed_shown_walked_and_verified(world):
    result = world.result(world.recipe(world.compared()))
    kinds = {
        each.kind
        for each in world.store.ListArtifacts(
            artifacts_pb2.ListArtifactsRequest(), timeout=9
        ).artifacts
    }
    assert kinds >= {"round", "decision", "serving", "comparison"}
    shown = world.store.GetArtifact(
        artifacts_pb2.GetArtifactRequest(artifact_id=result.artifact_id[:10])
    )
    assert shown.artifact_id == result.artifact_id
    assert json.loads(shown.run_json)["who"] == "ada"
    walk = world.store.GetLineage(
        artifacts_pb2.GetLineageRequest(artifact_id=result.artifact_id), timeout=9
    )
    assert {node.kind for node in walk.nodes} >= {"round", "decision", "comparison", "exam"}
    findings = list(
        world.store.VerifyArtifact(
            artifacts_pb2.VerifyArtifactRequest(artifact_id=result.artifact_id), timeout=9
        )
    )
    assert findings
    assert not any(finding.problem for finding in findings)


def test_the_page_of_a_round_is_a_file_and_a_stream(world):
    world.result(world.recipe(world.compared()))
    seen = world.loop.GetRound(loop_pb2.GetRoundRequest())
    pieces = world.loop.ReadReport(loop_pb2.ReadReportRequest(), timeout=9)
    page = b"".join(piece.chunk for piece in pieces)
    assert Path(seen.report).read_bytes() == page
    assert b"<h2>Time</h2>" in page


def test_without_a_round_there_is_no_report(world):
    with pytest.raises(NotFound, match="no report"):
        list(world.loop.ReadReport(loop_pb2.ReadReportRequest(), timeout=9))


def garbage(world):
    request = artifacts_pb2.ListGarbageRequest()
    return {each.artifact_id: each for each in world.store.ListGarbage(request, timeout=9)}


def test_what_no_round_leads_to_is_listed_and_kept_for_its_grace(world):
    world.result(world.recipe(world.compared()))
    stray = world.put("tokens", "stray")
    found = garbage(world)
    assert (found[stray].kind, found[stray].reason) == ("tokens", "unreachable")
    assert 86300 < found[stray].wait_s <= 86400
    assert world.artifacts.list("round")
    assert found.keys().isdisjoint(each.id for each in world.artifacts.list("round"))
    done = world.wait(world.store.CollectGarbage(artifacts_pb2.CollectGarbageRequest()))
    result = operations_pb2.StepResult()
    done.response.Unpack(result)
    assert dict(result.figures) == {"num_artifacts": 0, "size_bytes": 0}
    assert world.artifacts.is_whole(stray)


def test_a_pinned_artifact_is_no_garbage_until_it_is_unpinned(world):
    stray = world.put("tokens", "stray")
    pin = artifacts_pb2.PinArtifactRequest(artifact_id=stray[:12], who="ada", why="a talk")
    assert world.store.PinArtifact(pin).artifact_id == stray
    assert stray not in garbage(world)
    (listed,) = world.store.ListPins(artifacts_pb2.ListPinsRequest()).pins
    assert (listed.artifact_id, listed.who, listed.why) == (stray, "ada", "a talk")
    unpin = artifacts_pb2.UnpinArtifactRequest(artifact_id=stray[:12])
    world.store.UnpinArtifact(unpin)
    assert stray in garbage(world)
    with pytest.raises(NotFound, match="not pinned"):
        world.store.UnpinArtifact(unpin)


def test_a_pin_says_who_and_why(world):
    with pytest.raises(InvalidInput, match="why"):
        world.store.PinArtifact(
            artifacts_pb2.PinArtifactRequest(artifact_id=world.exam, who="ada", why=" ")
        )


@pytest.mark.parametrize("days", [-1.0, float("nan"), float("inf")])
def test_rounds_cannot_be_older_than_no_days_at_all(world, days):
    with pytest.raises(InvalidInput, match="rounds_older_than_days"):
        world.store.CollectGarbage(artifacts_pb2.CollectGarbageRequest(rounds_older_than_days=days))


def test_a_resumed_round_makes_again_what_was_collected_since_it_failed(world):
    world.fake.failures["old", 1] = Corrupt("cut")
    world.fake.outcomes["decide"] = ("undecided", "")
    operation = world.start(yaml.safe_dump({"recipe": "small"}))
    world.wait(operation)
    seen = world.get(operation)
    (base,) = [step.artifact_id for step in seen.steps if step.name == "base"]
    for blob in [*world.blobs.list(f"artifacts/{base}/")]:
        world.blobs.delete(blob.name)
    world.wait(world.loop.ResumeRound(loop_pb2.ResumeRoundRequest(name=seen.name), timeout=9))
    assert "base.2" in {each.partition(".")[2] for each in world.fake.started}
    assert world.artifacts.is_whole(base)


def test_a_restored_store_serves_the_same_and_answers_the_same_round(start_world, tmp_path):
    with start_world() as world:
        first = world.result(world.recipe(world.compared()))
        take(world.blobs, tmp_path / "b.tar", with_files=True)
        world.fake.started.clear()
    store = FolderBlobs(tmp_path / "restored")
    restore(store, tmp_path / "b.tar")
    with start_world(store) as again:
        assert again.loop.ResolveLive(loop_pb2.ResolveLiveRequest()).weights_digest == DIGEST
        request = artifacts_pb2.VerifyArtifactRequest(artifact_id=first.artifact_id)
        assert {each.problem for each in again.store.VerifyArtifact(request, timeout=9)} == {""}
        assert again.result(again.recipe(again.compared())).artifact_id == first.artifact_id
        assert not again.fake.started
