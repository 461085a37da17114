"""The whole service over a real channel: an exam built, sat, diagnosed and compared."""

import json
import uuid
from contextlib import contextmanager

import numpy as np
import pytest
from athanor.common.v1 import operations_pb2
from athanor.evaluator.v1 import evaluator_pb2 as pb
from athanor.evaluator.v1 import evaluator_pb2_grpc, events_pb2
from google.longrunning import operations_pb2 as longrunning
from google.longrunning import operations_pb2_grpc as longrunning_grpc

from libs import rpc
from libs.artifacts import Artifacts
from libs.blobs.folder import FolderBlobs
from libs.blocks import read_blocks
from libs.bus import events
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.errors import InvalidInput, NotFound
from libs.formats import (
    EXAM_TEXTS,
    HOLDOUT,
    ITEMS,
    PASSAGES,
    QUERIES,
    RESPONSES,
    read_json,
    read_rows,
    write_json,
    write_table,
)
from libs.manifest import Request
from libs.operations.record import UNMADE
from services.evaluator.adapters import FakeLm
from services.evaluator.app import build
from services.evaluator.config import Config

OLD, NEW, CONTROL = "0" * 64, "1" * 64, "2" * 64
TOPICS = ("math", "net", "text", "time")
WEAK = "net"


class World:
    """A running evaluator, its store, and models that know the topics they are told to know."""

    def __init__(self, folder, channel, bus, lm_keys):
        self.artifacts = Artifacts(FolderBlobs(folder / "blobs"))
        self.folder, self.bus, self.keys = folder, bus, lm_keys
        self.stub = evaluator_pb2_grpc.EvaluatorServiceStub(channel)
        self.operations = longrunning_grpc.OperationsStub(channel)

    def run(self, method, **fields):
        """Run a long call to its end and return the operation."""
        request = getattr(pb, f"{method}Request")(request_id=uuid.uuid4().hex, **fields)
        operation = getattr(self.stub, method)(request, timeout=20)
        wait = longrunning.WaitOperationRequest(name=operation.name)
        wait.timeout.FromSeconds(20)
        return self.operations.WaitOperation(wait, timeout=25)

    def made(self, method, **fields):
        """Run a long call that succeeds and return its result."""
        operation = self.run(method, **fields)
        assert operation.done
        assert not operation.error.message
        result = operations_pb2.StepResult()
        operation.response.Unpack(result)
        return result

    def put(self, kind, name, write):
        folder = self.folder / "input" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        write(folder)
        request = Request(kind=kind, inputs={}, parameters={"name": name}, recipe_version=1)
        return self.artifacts.create(request, folder, run={})

    def documents(self, number=480):
        rng = np.random.default_rng(1)
        rows = [
            {
                "passage_id": f"{index:064x}",
                "document_id": f"d{index}",
                "url": "",
                "topic": TOPICS[index % len(TOPICS)],
                "position": 0,
                "num_words": 40,
                "text": " ".join(f"w{word}" for word in rng.integers(0, 9999, size=40)),
            }
            for index in range(number)
        ]
        return self.put(
            "documents",
            f"site {number}",
            lambda to: write_table(to / "passages.parquet", PASSAGES, rows),
        )

    def checkpoint(self, digest):
        said = {"weights_digest": digest}
        return self.put("checkpoint", digest, lambda to: write_json(to / "checkpoint.json", said))

    def exam(self, **fields):
        result = self.made("BuildExam", documents_id=self.documents(), name="demo", **fields)
        for row in self.rows(result.artifact_id, "items.parquet", ITEMS):
            self.keys[row["stem"]] = (row["topic"], row["key"])
        return result.artifact_id

    def examine(self, exam_id, digest, half):
        return self.made(
            "Examine", checkpoint_id=self.checkpoint(digest), exam_id=exam_id, half=half
        ).artifact_id

    def rows(self, artifact_id, file, schema):
        return read_rows(self.artifacts.open(artifact_id).path(file), schema)

    def json(self, artifact_id, file):
        return read_json(self.artifacts.open(artifact_id).path(file))


def knows(keys, *topics):
    """A model that answers items of these topics rightly, and others wrongly."""

    def answer(question):
        topic, key = keys[question.stem]
        return key if topic in topics else (key + 1) % len(question.options)

    return answer


@contextmanager
def running(folder):
    keys = {}
    models = {OLD: ("math", "text", "time"), NEW: TOPICS, CONTROL: ("math", "text", "time")}
    lm = FakeLm({digest: knows(keys, *topics) for digest, topics in models.items()})
    bus = SqliteBus(folder / "bus.sqlite")
    service = build(
        Config(home=folder, lm_address=""),
        blobs=FolderBlobs(folder / "blobs"),
        bus=bus,
        clock=Clock(),
        lm=lm,
    )
    service.start()
    with rpc.connect(service.address) as channel:
        yield World(folder, channel, bus, keys)
    service.stop()
    bus.close()


@pytest.fixture
def world(tmp_path):
    with running(tmp_path) as world:
        yield world


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A world for tests that neither list nor await what others register."""
    with running(tmp_path_factory.mktemp("shared")) as world:
        yield world


def test_a_model_is_examined_diagnosed_and_compared(world):
    exam = world.exam()
    old = world.examine(exam, OLD, pb.HALF_DIAGNOSIS)
    found = world.made(
        "Diagnose", responses_id=old, exam_id=exam, hoped_gain=0.25, assumed_discordance=0.3
    )
    diagnosis = world.json(found.artifact_id, "diagnosis.json")
    assert (diagnosis["target_topics"], found.outcome) == ([WEAK], "")
    old, new, control = (
        world.examine(exam, each, pb.HALF_DECISION) for each in (OLD, NEW, CONTROL)
    )
    compared = world.made(
        "Compare", diagnosis_id=found.artifact_id, old_id=old, candidate_id=new, control_id=control
    )
    comparison = world.json(compared.artifact_id, "comparison.json")
    assert comparison["gain"]["estimate"] == comparison["targeting"]["estimate"] == 1
    assert comparison["guard"]["estimate"] == comparison["control_gain"]["estimate"] == 0
    assert comparison["gain"]["num_items"] == 60
    assert (comparison["exam_id"], comparison["max_decisions"]) == (exam, 5)
    assert comparison["decision_sha256"] == world.json(exam, "exam.json")["decision_sha256"]
    assert compared.figures["gain_low"] == 1
    for artifact_id in (exam, old, found.artifact_id, compared.artifact_id):
        assert read_blocks(world.artifacts.open(artifact_id).path("blocks.json"))


def test_seeds_are_the_stems_of_missed_diagnosis_items_and_hold_no_option(shared):
    exam = shared.exam()
    responses = shared.examine(exam, OLD, pb.HALF_DIAGNOSIS)
    found = shared.made("Diagnose", responses_id=responses, exam_id=exam, hoped_gain=0.25)
    seeds = shared.rows(found.artifact_id, "seeds.parquet", QUERIES)
    items = {row["item_id"]: row for row in shared.rows(exam, "items.parquet", ITEMS)}
    assert len(seeds) == 60
    for seed in seeds:
        item = items[seed["item_id"]]
        assert (item["half"], item["topic"], item["stem"]) == ("diagnosis", WEAK, seed["text"])
        assert not any(option in seed["text"] for option in item["options"])


def test_an_even_model_ends_the_round(shared):
    exam = shared.exam()
    responses = shared.examine(exam, NEW, pb.HALF_DIAGNOSIS)
    result = shared.made("Diagnose", responses_id=responses, exam_id=exam)
    assert result.outcome == "nothing_weak"
    assert "None of the 4 topics" in result.reason


def test_an_exam_too_small_for_the_hoped_gain_ends_the_round(shared):
    exam = shared.exam()
    responses = shared.examine(exam, OLD, pb.HALF_DIAGNOSIS)
    result = shared.made("Diagnose", responses_id=responses, exam_id=exam)
    assert result.outcome == "underpowered"
    assert "361 would be needed, an exam of about 2888 items" in result.reason


def test_responses_name_the_weights_that_answered_and_are_announced(world):
    exam = world.exam()
    responses = world.examine(exam, OLD, pb.HALF_DECISION)
    rows = world.rows(responses, "responses.parquet", RESPONSES)
    assert {row["weights_digest"] for row in rows} == {OLD}
    assert [row["item_id"] for row in rows] == sorted(row["item_id"] for row in rows)
    assert len(rows) == 240
    with world.bus.subscribe(["evaluator.exams-scored.v1"], group="test") as consumer:
        event = events.parse(consumer.poll(5), events_pb2.ExamScored)
    assert event.payload == events_pb2.ExamScored(
        artifact_id=responses, weights_digest=OLD, num_items=240, accuracy=0.75
    )


def test_an_exam_is_registered_and_announced(world):
    exam = world.exam(max_items=100)
    (listed,) = world.stub.ListExams(pb.ListExamsRequest()).exams
    assert (listed.name, listed.exam_id, listed.num_items) == ("demo", exam, 100)
    assert len(world.rows(exam, "holdout.parquet", HOLDOUT)) == 100
    assert world.json(exam, "exam.json")["max_decisions"] == 5
    with world.bus.subscribe(["evaluator.exams-registered.v1"], group="test") as consumer:
        event = events.parse(consumer.poll(5), events_pb2.ExamRegistered)
    assert (event.payload.artifact_id, event.payload.name) == (exam, "demo")


def write_lines(path, number=4, name="q"):
    lines = [{"stem": f"{name}{n}?", "options": [" a", " b"], "key": n % 2} for n in range(number)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def test_a_frozen_set_stands_whatever_is_registered_later(world, tmp_path):
    exam = world.exam(max_items=40)
    first = world.made("FreezeExams", as_of="morning", exam_id=exam)
    path = write_lines(tmp_path / "late.jsonl")
    late = world.made("ImportExam", path=path, as_of="noon", name="late")
    again = world.made("FreezeExams", as_of="morning", exam_id=exam)
    evening = world.made("FreezeExams", as_of="evening", exam_id=exam)
    assert (again.artifact_id, again.cached) == (first.artifact_id, True)
    assert [
        each["exam_id"] for each in world.json(first.artifact_id, "exam_set.json")["exams"]
    ] == [exam]
    texts = world.rows(evening.artifact_id, "exam_texts.parquet", EXAM_TEXTS)
    assert {row["exam_id"] for row in texts} == {exam, late.artifact_id}
    assert len(texts) == 40 * 5 + 4 * 3
    assert texts == sorted(texts, key=lambda row: tuple(row.values()))
    assert len(world.rows(evening.artifact_id, "holdout.parquet", HOLDOUT)) == 40


def test_a_dry_run_of_an_import_says_what_the_exam_can_show(world, tmp_path):
    request = pb.ImportExamRequest(
        path=write_lines(tmp_path / "exam.jsonl", 100), as_of="now", name="mine"
    )
    operation = world.stub.ImportExam(request, timeout=5, metadata=(("athanor-dry-run", "1"),))
    metadata = operations_pb2.OperationMetadata()
    operation.metadata.Unpack(metadata)
    assert "100 items: 50 diagnose, 50 decide." in metadata.progress.message
    assert not world.stub.ListExams(pb.ListExamsRequest()).exams


def test_a_dry_run_of_a_diagnosis_says_how_many_items_its_own_hopes_need(shared):
    request = pb.DiagnoseRequest(
        responses_id=UNMADE, exam_id=UNMADE, hoped_gain=0.12, assumed_discordance=0.15
    )
    operation = shared.stub.Diagnose(request, timeout=5, metadata=(("athanor-dry-run", "1"),))
    metadata = operations_pb2.OperationMetadata()
    operation.metadata.Unpack(metadata)
    needed = "A gain of 0.12 at a discordance of 0.15 with a power of 0.8 needs 74 decision items"
    assert needed in metadata.progress.message


def test_a_faulty_line_is_refused_before_anything_is_recorded(shared, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"stem": "s", "options": [" a", " b"], "key": [0, 1]}')
    request = pb.ImportExamRequest(path=str(tmp_path / "bad.jsonl"), as_of="now", name="mine")
    with pytest.raises(InvalidInput, match=r"bad.jsonl, line 1: expected exactly one key, got 2"):
        shared.stub.ImportExam(request, timeout=5)


def test_wrong_halves_and_undiagnosed_checkpoints_do_not_compare(shared):
    exam = shared.exam()
    old = shared.examine(exam, OLD, pb.HALF_DIAGNOSIS)
    found = shared.made("Diagnose", responses_id=old, exam_id=exam, hoped_gain=0.25).artifact_id
    new = shared.examine(exam, NEW, pb.HALF_DECISION)
    error = shared.run("Compare", diagnosis_id=found, old_id=old, candidate_id=new).error
    assert (error.code, "half decision, got diagnosis" in error.message) == (10, True)
    error = shared.run("Compare", diagnosis_id=found, old_id=new, candidate_id=new).error
    assert (error.code, "the one diagnosed" in error.message) == (10, True)


def test_too_few_passages_fail_the_operation_with_numbers(shared):
    error = shared.run("BuildExam", documents_id=shared.documents(5), name="small").error
    assert error.code == 3
    assert "got 5 of 5 passages" in error.message


@pytest.mark.parametrize(
    ("method", "fields", "message"),
    [
        ("BuildExam", {"name": "a/b"}, "an exam's name is"),
        ("BuildExam", {"name": "a", "max_items": 3}, "max_items must be 0 or at least 8"),
        ("Examine", {"half": 7}, "half must be"),
        ("Examine", {}, "half"),
        ("Diagnose", {"hoped_gain": 0.5}, "discordance must lie"),
        ("Compare", {"num_draws": 2_000_000}, "draws must lie"),
    ],
)
def test_what_can_never_succeed_is_refused_at_once(shared, method, fields, message):
    exam = shared.put("exam", "e", lambda to: write_json(to / "exam.json", {}))
    inputs = {
        "BuildExam": lambda: {"documents_id": shared.documents(1)},
        "Examine": lambda: {"checkpoint_id": shared.checkpoint(OLD), "exam_id": exam},
        "Diagnose": lambda: {"responses_id": empty("responses"), "exam_id": exam},
        "Compare": lambda: {
            "diagnosis_id": empty("diagnosis"),
            "old_id": empty("responses"),
            "candidate_id": empty("responses"),
        },
    }

    def empty(kind):
        return shared.put(kind, "", lambda to: write_json(to / "x.json", {}))

    with pytest.raises(InvalidInput, match=message):
        shared.run(method, **inputs[method](), **fields)


def test_power_is_computed_for_items_that_share_documents(shared):
    request = pb.ComputePowerRequest(num_items=361, gain=0.08, discordance=0.3)
    alone = shared.stub.ComputePower(request)
    assert alone.power == pytest.approx(0.8, abs=0.005)
    assert alone.num_items_needed == 361
    request.items_per_document, request.intraclass_correlation = 11, 0.1
    shared = shared.stub.ComputePower(request)
    assert shared.num_items_needed == 721
    assert shared.power < alone.power


def test_a_gain_above_the_discordance_has_no_power(shared):
    with pytest.raises(InvalidInput, match="discordance must lie"):
        shared.stub.ComputePower(pb.ComputePowerRequest(num_items=9, gain=0.4, discordance=0.3))


def test_unknown_weights_fail_the_examination(shared):
    exam = shared.exam(max_items=40)
    checkpoint = shared.checkpoint("f" * 64)
    error = shared.run(
        "Examine", checkpoint_id=checkpoint, exam_id=exam, half=pb.HALF_DECISION
    ).error
    assert error.code == 5


def test_an_absent_artifact_is_not_found(shared):
    with pytest.raises(NotFound, match="artifact"):
        shared.run("FreezeExams", as_of="now", exam_id="e" * 64)
