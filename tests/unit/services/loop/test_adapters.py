"""Protos as a catalogue, recipes in a folder, operations on the wire."""

import pytest
from athanor.common.v1 import operations_pb2
from google.longrunning import operations_pb2 as longrunning
from google.rpc import status_pb2

from libs import rpc
from libs.errors import Busy, Conflict, InvalidInput, NotFound, Unavailable
from services.loop.adapters import FolderLibrary, GrpcServices, message_of, methods, sight_of
from services.loop.ports import FieldKind, Standing

METHODS = methods(["corpus", "sampler", "trainer"])


def test_the_catalogue_holds_the_long_calls_alone(catalogue):
    assert {"corpus.Crawl", "trainer.Train", "loop.Decide"} <= set(catalogue.names())
    assert catalogue.rpc("corpus.Search") is None
    assert catalogue.rpc("loop.ResumeRound") is None


def test_fields_carry_what_the_protos_promise(catalogue):
    train = catalogue.rpc("trainer.Train")
    assert train.produces == "checkpoint"
    assert "request_id" not in train.fields
    assert train.fields["plan_id"].artifact_kinds == ("plan",)
    assert train.fields["plan_id"].required
    schedule = train.fields["schedule"]
    assert schedule.kind is FieldKind.MESSAGE
    assert schedule.fields["learning_rate"].kind is FieldKind.NUMBER
    assert (schedule.fields["seed"].least, schedule.fields["seed"].most) == (0, 2**64 - 1)


def test_repeated_and_mapped_fields_are_told_apart(catalogue):
    fields = catalogue.rpc("corpus.Crawl").fields
    assert fields["seeds"].repeated
    assert fields["topics_by_path"].mapping
    assert not fields["topics_by_path"].repeated
    assert fields["topics_by_path"].kind is FieldKind.TEXT


def test_choices_have_a_short_name(catalogue):
    choices = catalogue.rpc("sampler.Plan").fields["weighting"].choices
    assert choices["CLUSTER_CLIP"] == choices["WEIGHTING_CLUSTER_CLIP"] == "WEIGHTING_CLUSTER_CLIP"
    assert "UNSPECIFIED" not in choices


def test_fields_become_a_request():
    fields = {
        "request_id": "r",
        "plan_id": "ab",
        "schedule": {"learning_rate": 0.5, "seed": 2**63},
    }
    message = message_of(METHODS["trainer.Train"], fields)
    assert (message.request_id, message.plan_id) == ("r", "ab")
    assert (message.schedule.learning_rate, message.schedule.seed) == (0.5, 2**63)
    with pytest.raises(InvalidInput, match="nothing"):
        message_of(METHODS["trainer.Train"], {"nothing": 1})


def test_a_recipe_is_found_by_name_and_by_path(tmp_path):
    (tmp_path / "one.yaml").write_text("name: one")
    library = FolderLibrary(tmp_path)
    assert library.read("one") == library.read(str(tmp_path / "one.yaml")) == "name: one"
    with pytest.raises(NotFound, match="nearest is `one`; known: one"):
        library.read("ones")
    with pytest.raises(NotFound):
        library.read(str(tmp_path / "two.yaml"))


def operation(**result):
    made = longrunning.Operation(name="operations/x/y")
    progress = operations_pb2.Progress(completed=2, total=5, unit="pages", message="crawling")
    metadata = operations_pb2.OperationMetadata(progress=progress)
    metadata.run_time.FromMilliseconds(1500)
    made.metadata.Pack(metadata)
    if "response" in result:
        made.done = True
        made.response.Pack(result["response"])
    if "error" in result:
        made.done = True
        made.error.CopyFrom(result["error"])
    return made


def test_a_running_operation_shows_its_progress():
    sight = sight_of(operation())
    assert sight.standing is Standing.RUNNING
    assert (sight.completed, sight.total, sight.unit) == (2, 5, "pages")
    assert (sight.message, sight.run_time_s) == ("crawling", 1.5)


def test_a_result_is_read_whole():
    response = operations_pb2.StepResult(
        artifact_id="a",
        kind="plan",
        outcome="starved",
        reason="Little.",
        cached=True,
        figures={"n": 1},
    )
    sight = sight_of(operation(response=response))
    assert sight.standing is Standing.SUCCEEDED
    assert (sight.artifact_id, sight.kind, sight.outcome) == ("a", "plan", "starved")
    assert (sight.reason, sight.cached, sight.figures) == ("Little.", True, {"n": 1})


def test_an_error_keeps_its_kind_and_a_cancellation_is_none():
    sight = sight_of(operation(error=rpc.to_status(Busy("full"))))
    assert sight.standing is Standing.FAILED
    assert (sight.error.kind, sight.error.message) == ("Busy", "full")
    cancelled = sight_of(operation(error=status_pb2.Status(code=1)))
    assert cancelled.standing is Standing.CANCELLED


def test_a_bug_over_there_is_an_error_here():
    sight = sight_of(operation(error=status_pb2.Status(code=13, message="internal: boom")))
    assert (sight.standing, sight.error.kind) == (Standing.FAILED, "internal")
    assert "boom" in sight.error.message


def test_a_service_that_is_down_is_unavailable(monkeypatch):
    monkeypatch.setattr("services.loop.adapters._CALL_S", 0.3)
    services = GrpcServices({"corpus": "127.0.0.1:1"})
    with pytest.raises(Unavailable):
        services.start("corpus.ReadFolder", {"path": "p", "as_of": "t"}, "r")
    with pytest.raises(Unavailable):
        services.look("operations/corpus/" + "ab" * 16)
    services.close()


def test_the_fake_answers_the_same_request_id_with_the_same_operation(fake):
    first = fake.start("corpus.ReadFolder", {"path": "p"}, "r.a.1")
    assert fake.start("corpus.ReadFolder", {"path": "p"}, "r.a.1") == first
    with pytest.raises(Conflict, match="another request"):
        fake.start("corpus.ReadFolder", {"path": "q"}, "r.a.1")
