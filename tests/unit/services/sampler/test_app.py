"""The sampler as it runs: stores in a folder, calls over a real channel."""

import shutil
import threading
import uuid
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from athanor.common.v1 import operations_pb2
from athanor.sampler.v1 import events_pb2, sampler_pb2, sampler_pb2_grpc
from google.longrunning import operations_pb2 as longrunning
from google.longrunning import operations_pb2_grpc as longrunning_grpc

from libs import rpc
from libs.artifacts import Artifacts
from libs.blobs.folder import FolderBlobs
from libs.blocks import read_blocks
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.errors import Conflict, InvalidInput, NotFound, Unavailable
from libs.formats import Certificate, read_json
from libs.manifest import Request
from services.sampler.app import build
from services.sampler.config import Config
from services.sampler.tokens import open_tokens

DEADLINE_S = 60.0
CLIP = sampler_pb2.WEIGHTING_CLUSTER_CLIP
PROPORTIONAL = sampler_pb2.WEIGHTING_PROPORTIONAL


@dataclass
class Running:
    """A sampler, what it stores, and a channel to it."""

    artifacts: Artifacts
    bus: SqliteBus
    stub: Any
    operations: Any
    made: dict[str, str] = field(default_factory=dict)

    def store(self, folder, kind):
        request = Request(kind=kind, inputs={}, parameters={"name": folder.name}, recipe_version=1)
        return self.artifacts.create(request, folder, run={})

    def ended(self, method, **fields):
        """Run a long call and return its operation, done."""
        request = getattr(sampler_pb2, f"{method}Request")(request_id=uuid.uuid4().hex, **fields)
        started = getattr(self.stub, method)(request, timeout=DEADLINE_S)
        wait = longrunning.WaitOperationRequest(name=started.name)
        done = self.operations.WaitOperation(wait, timeout=DEADLINE_S)
        assert done.done
        return done

    def result(self, method, **fields):
        result = operations_pb2.StepResult()
        done = self.ended(method, **fields)
        assert done.response.Unpack(result), done.error.message
        return result

    def plan(self, **fields):
        made = self.made
        given = {"tokens_id": made["tokens"], "clustering_id": made["clustering"]}
        defaults = {"weighting": CLIP, "budget_tokens": 200, "seed": 1}
        return self.result("Plan", **given | defaults | fields)

    def file(self, artifact_id, name):
        return self.artifacts.open(artifact_id).path(name)

    def stream(self, plan_id, *, sequence_length=16, batch_size=3, **fields):
        request = sampler_pb2.StreamRequest(
            plan_id=plan_id, sequence_length=sequence_length, batch_size=batch_size, **fields
        )
        return self.stub.Stream(request, timeout=DEADLINE_S)

    def rows(self, plan_id, **fields):
        """Return the streamed sequences, shape (num_sequences, 16)."""
        replies = list(self.stream(plan_id, **fields))
        tokens = b"".join(reply.tokens for reply in replies)
        return np.frombuffer(tokens, dtype="<u4").reshape(-1, 16)


def running(home, **settings):
    blobs, bus = FolderBlobs(home / "blobs"), SqliteBus(home / "bus.sqlite")
    clock = Clock()
    service = build(Config(home=home, **settings), blobs=blobs, bus=bus, clock=clock)
    service.start()
    with rpc.connect(service.address) as channel:
        yield Running(
            artifacts=Artifacts(blobs),
            bus=bus,
            stub=sampler_pb2_grpc.SamplerServiceStub(channel),
            operations=longrunning_grpc.OperationsStub(channel),
        )
    service.stop()
    bus.close()


def populate(sampler, world):
    """Tokenize and cluster the subjects, and tokenize a replay of other passages."""
    rows = world.subject_passages()
    passages_id = sampler.store(world.passages(rows).root, "passages")
    tokenizer_id = sampler.store(world.tokenizer.root, "tokenizer")
    other = [world.passage(f"anchor keel check n{number}") for number in range(20)]
    replay_id = sampler.store(world.passages(other, name="replay").root, "passages")
    made = sampler.made
    made |= {"passages": passages_id, "replay_passages": replay_id, "tokenizer": tokenizer_id}
    tokenized = {
        name: sampler.result("Tokenize", passages_id=made[source], tokenizer_id=tokenizer_id)
        for name, source in (("tokens", "passages"), ("replay", "replay_passages"))
    }
    made |= {name: each.artifact_id for name, each in tokenized.items()}
    clustered = sampler.result("Cluster", passages_id=passages_id, num_clusters=3, seed=1)
    made["clustering"] = clustered.artifact_id


@pytest.fixture(scope="module")
def sampler(tmp_path_factory, make_world):
    for each in running(tmp_path_factory.mktemp("home")):
        populate(each, make_world(tmp_path_factory.mktemp("world")))
        yield each


def test_a_clustering_finds_the_subjects_and_says_what_they_are_about(sampler):
    described = read_json(sampler.file(sampler.made["clustering"], "clustering.json"))
    assert described["sizes"] == [8, 8, 8]
    assert {terms[0] for terms in described["top_terms"]} <= {"onion", "mast", "bishop"} | {
        "butter",
        "harbour",
        "gambit",
    }
    blocks = read_blocks(sampler.file(sampler.made["clustering"], "blocks.json"))
    assert [block.kind for block in blocks] == ["table", "lines"]


def test_a_plan_balances_clusters_and_replay_and_carries_both_certificates(sampler):
    result = sampler.plan(replay_tokens_id=sampler.made["replay"], replay_share=0.25)
    described = read_json(sampler.file(result.artifact_id, "plan.json"))
    planned = [share["planned_tokens"] for share in described["clusters"]]
    longest = max(open_tokens(sampler.artifacts.open(sampler.made["tokens"])).draw_lengths)
    assert max(planned) - min(planned) <= longest
    assert abs(sum(planned) - 150) <= longest
    certificates = [
        Certificate.read(sampler.file(result.artifact_id, name)).passages_sha256
        for name in ("certificate.json", "certificate_replay.json")
    ]
    assert certificates == [
        Certificate.read(sampler.file(sampler.made[source], "certificate.json")).passages_sha256
        for source in ("tokens", "replay")
    ]
    assert result.figures["budget_tokens"] == 200


def test_the_stream_is_the_plan_read_naively(sampler):
    plan_id = sampler.plan(
        replay_tokens_id=sampler.made["replay"], replay_share=0.25, seed=2
    ).artifact_id
    target, replay = (
        open_tokens(sampler.artifacts.open(sampler.made[name])) for name in ("tokens", "replay")
    )
    naive: list[int] = []
    for draw in np.load(sampler.file(plan_id, "draws.npy")).tolist():
        num_passages = len(target.offsets) - 1
        source, at = (target, draw) if draw < num_passages else (replay, draw - num_passages)
        naive += [*source.tokens[source.offsets[at] : source.offsets[at + 1]].tolist(), 0]
    assert sampler.rows(plan_id).tolist() == np.reshape(naive[:192], (12, 16)).tolist()


def test_resuming_over_the_wire_equals_never_having_stopped(sampler):
    plan_id = sampler.plan(seed=3).artifact_id
    whole = sampler.rows(plan_id)
    assert len(whole) == 12
    for position in range(13):
        resumed = sampler.rows(plan_id, from_position=position)
        assert resumed.tobytes() == whole[position:].tobytes()


def test_every_reply_says_where_it_is_and_how_many_there_are(sampler):
    replies = list(sampler.stream(sampler.plan(seed=3).artifact_id, batch_size=5))
    assert [reply.position for reply in replies] == [0, 5, 10]
    assert [reply.num_sequences for reply in replies] == [5, 5, 2]
    assert {reply.num_positions for reply in replies} == {12}


def test_a_plan_is_announced(sampler):
    plan_id = sampler.plan(seed=4, clip=2, budget_tokens=300).artifact_id
    found = {}
    with sampler.bus.subscribe(["sampler.plans-made.v1"], group="test") as consumer:
        while plan_id not in found:
            message = consumer.poll(10)
            assert message is not None
            found[message.key] = events_pb2.PlanMade.FromString(message.value)
    assert found[plan_id].artifact_id == plan_id
    assert found[plan_id].budget_tokens == 300


def test_a_budget_above_the_clip_is_starved_and_cannot_be_streamed(sampler):
    result = sampler.plan(budget_tokens=10**6)
    assert result.outcome == "starved"
    assert "a clip of" in result.reason
    with pytest.raises(Conflict, match="starved"):
        sampler.rows(result.artifact_id)


def test_no_passages_cannot_be_clustered_and_are_starved(sampler, world):
    empty = sampler.store(world.passages([], name="empty").root, "passages")
    result = sampler.result("Cluster", passages_id=empty)
    assert (result.outcome, result.reason) == ("starved", "There is no passage to cluster.")


def test_a_clustering_of_other_passages_is_a_conflict(sampler):
    other = sampler.result("Cluster", passages_id=sampler.made["replay_passages"], num_clusters=2)
    done = sampler.ended(
        "Plan",
        tokens_id=sampler.made["tokens"],
        clustering_id=other.artifact_id,
        weighting=CLIP,
        budget_tokens=100,
    )
    assert done.error.code == grpc.StatusCode.ABORTED.value[0]
    assert "expected a clustering of the 24 passages of the tokens" in done.error.message


def test_replay_of_another_tokenizer_is_a_conflict(sampler, world):
    config = world.tokenizer.path("tokenizer.json")
    config.write_text(config.read_text().replace('"onion"', '"leek"'))
    other = sampler.store(
        shutil.copytree(world.tokenizer.root, world.root / "other-tokenizer"), "tokenizer"
    )
    replay = sampler.result(
        "Tokenize", passages_id=sampler.made["replay_passages"], tokenizer_id=other
    )
    done = sampler.ended(
        "Plan",
        tokens_id=sampler.made["tokens"],
        replay_tokens_id=replay.artifact_id,
        replay_share=0.5,
        weighting=PROPORTIONAL,
        budget_tokens=100,
    )
    assert "expected replay tokens of tokenizer" in done.error.message


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"weighting": 9}, "weighting must be one of"),
        ({"clustering_id": ""}, "needs clustering_id"),
        ({"replay_share": 0.1}, "needs replay_tokens_id"),
        ({"replay_share": 1.5}, "replay_share must lie in"),
        ({"budget_tokens": 2**60}, "budget_tokens must lie in"),
        ({"clip": 2**31}, "clip must lie in"),
    ],
)
def test_absurd_plans_are_refused_at_once(sampler, fields, expected):
    with pytest.raises(InvalidInput, match=expected):
        sampler.plan(**fields)


def test_absurd_clusterings_are_refused_at_once(sampler):
    with pytest.raises(InvalidInput, match=r"num_clusters must lie in \[0, 65535\], got 70000"):
        sampler.ended("Cluster", passages_id=sampler.made["passages"], num_clusters=70_000)


@pytest.mark.parametrize(
    ("fields", "error", "expected"),
    [
        ({"plan_id": "a" * 64}, NotFound, "no artifact"),
        ({"plan_id": ""}, InvalidInput, "plan_id"),
        ({"sequence_length": 0}, InvalidInput, "at least 1"),
        ({"batch_size": 0}, InvalidInput, "at least 1"),
        ({"from_position": 1000}, InvalidInput, "from_position must lie in"),
    ],
)
def test_impossible_streams_are_refused(sampler, fields, error, expected):
    given = {"plan_id": sampler.plan().artifact_id} | fields
    with pytest.raises(error, match=expected):
        list(sampler.stream(**given))


def test_the_same_request_is_answered_from_the_store(sampler):
    first, second = sampler.plan(seed=5), sampler.plan(seed=5)
    assert second.cached
    assert second.artifact_id == first.artifact_id
    assert second.figures == first.figures


def test_two_samplers_make_the_same_bytes(sampler, tmp_path, world):
    for other in running(tmp_path / "home"):
        populate(other, world)
        same = {name: other.made[name] for name in ("tokens", "clustering")}
        same["plan"] = other.plan(seed=6).artifact_id
        expected = {name: sampler.made[name] for name in ("tokens", "clustering")}
        assert same == expected | {"plan": sampler.plan(seed=6).artifact_id}


def test_a_client_that_stops_reading_is_cancelled_and_leaves_no_thread(tmp_path, world):
    def streaming():
        return [each for each in threading.enumerate() if each.name == "sampler-readers"]

    for sampler in running(tmp_path / "home", stall_s=0.3):
        populate(sampler, world)
        plan_id = sampler.plan(weighting=sampler_pb2.WEIGHTING_UNIFORM, budget_tokens=40_000_000)
        batch = {"sequence_length": 65_536, "batch_size": 16}  # 4 MB: nobody buffers them all
        call = sampler.stream(plan_id.artifact_id, **batch)
        next(call)
        for watcher in streaming():
            watcher.join(20)
            assert not watcher.is_alive()
        # gRPC tells a client the end only behind the batches that it had buffered already.
        with pytest.raises(Unavailable, match="CANCELLED"):
            list(call)
        assert call.code() is grpc.StatusCode.CANCELLED
