import pytest
from athanor.common.v1 import options_pb2
from athanor.corpus.v1.corpus_pb2 import CollectRequest, CrawlRequest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from libs.operations.step import Input, Made, Step, Work, inputs_of, request_of


def step(request: type[Message], **terms: object) -> Step:
    def run(message: Message, work: Work) -> Made:
        return Made()

    return Step(method="M", request=request, kind="k", version=3, run=run, **terms)


@pytest.fixture(scope="module")
def merging() -> type[Message]:
    """A request with a repeated artifact field that takes two kinds; no proto has one yet."""
    file = descriptor_pb2.FileDescriptorProto(name="toy.proto", package="toy", syntax="proto3")
    field = file.message_type.add(name="MergeRequest").field.add(
        name="plan_ids", number=1, type="TYPE_STRING", label="LABEL_REPEATED"
    )
    field.options.Extensions[options_pb2.artifact_kind] = "plan, tokens"
    file.dependency.append(options_pb2.DESCRIPTOR.name)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("toy.MergeRequest"))


def test_fields_with_an_artifact_kind_are_inputs_and_the_rest_parameters() -> None:
    message = CollectRequest(request_id="one", passages_id="p", diagnosis_id="d", min_words=7)
    request = request_of(step(CollectRequest), message)
    assert request.kind == "k"
    assert request.recipe_version == 3
    assert request.inputs == {"passages": "p", "diagnosis": "d"}
    assert request.parameters == {
        "rounds": 0,
        "top_k": 0,
        "max_passages": 0,
        "min_words": "7",  # 64 bits: a string in proto JSON
        "max_contaminated_share": 0.0,
    }


def test_lists_and_maps_become_json() -> None:
    message = CrawlRequest(seeds=["a", "b"], topics_by_path={"y": "2", "x": "1"})
    parameters = request_of(step(CrawlRequest), message).parameters
    assert parameters["seeds"] == ["a", "b"]
    assert parameters["topics_by_path"] == {"x": "1", "y": "2"}


def test_the_digest_ignores_the_request_id_and_the_order_of_maps() -> None:
    one = CrawlRequest(request_id="one", topics_by_path={"x": "1", "y": "2"})
    two = CrawlRequest(request_id="two", topics_by_path={"y": "2", "x": "1"})
    other = CrawlRequest(request_id="one", topics_by_path={"x": "1"})
    digests = [request_of(step(CrawlRequest), each).digest for each in (one, two, other)]
    assert digests[0] == digests[1] != digests[2]


def test_what_the_result_depends_on_besides_the_message_is_a_parameter() -> None:
    exams = step(CrawlRequest, parameters=lambda message: {"exams": ["e1", message.as_of]})
    assert request_of(exams, CrawlRequest(as_of="today")).parameters["exams"] == ["e1", "today"]


def test_repeated_artifacts_are_numbered_inputs(merging: type[Message]) -> None:
    message = merging(plan_ids=["a", "b"])  # type: ignore[call-arg]
    kinds = ["plan", "tokens"]
    assert list(inputs_of(message)) == [Input("plan_0", "a", kinds), Input("plan_1", "b", kinds)]
    assert request_of(step(merging), message).parameters == {}
