"""Over real channels, with the search of the corpus and a service of all four kinds behind them."""

import logging
import threading
from functools import partial

import grpc
import pytest
from athanor.corpus.v1 import corpus_pb2, corpus_pb2_grpc
from athanor.trainer.v1 import trainer_pb2, trainer_pb2_grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from prometheus_client import REGISTRY

from libs import errors, rpc, telemetry

NAME = "athanor.corpus.v1.CorpusService"
SEARCH = f"{NAME}/Search"
ASK = corpus_pb2.SearchRequest(passages_id="p", queries=["q"])
ANSWER = corpus_pb2.SearchResponse(results=[corpus_pb2.SearchResult()])


class ShelfFull(errors.Busy):
    """A failure a service defines for itself."""

    retry_after_s = 0.25


class ToyCorpus(corpus_pb2_grpc.CorpusServiceServicer):
    """Answers as it is told to, and counts."""

    def __init__(self):
        self.answer = lambda request, context: ANSWER
        self.num_calls = 0

    def Search(self, request, context):
        self.num_calls += 1
        return self.answer(request, context)


def raiser(error):
    def answer(request, context):
        raise error

    return answer


def kinds(toy):
    """A service without a proto: `UnaryStream` answers twice, and fails where `toy` does."""

    def streamed(requests, context):
        yield ANSWER
        yield toy.Search(requests, context)

    def register(bare):
        coders = {
            "request_deserializer": corpus_pb2.SearchRequest.FromString,
            "response_serializer": corpus_pb2.SearchResponse.SerializeToString,
        }
        methods = {
            "UnaryStream": grpc.unary_stream_rpc_method_handler(streamed, **coders),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(toy.Search, **coders),
            "StreamStream": grpc.stream_stream_rpc_method_handler(streamed, **coders),
        }
        handler = grpc.method_handlers_generic_handler("toy.Kinds", methods)
        bare.add_generic_rpc_handlers((handler,))

    return register


@pytest.fixture
def toy():
    return ToyCorpus()


@pytest.fixture
def server(toy):
    trainer = trainer_pb2_grpc.TrainerServiceServicer()
    made = rpc.server(
        service="corpus",
        registrations=[
            partial(corpus_pb2_grpc.add_CorpusServiceServicer_to_server, toy),
            partial(trainer_pb2_grpc.add_TrainerServiceServicer_to_server, trainer),
            kinds(toy),
        ],
        service_names=[NAME],
        threads=2,
    )
    made.start()
    yield made
    made.drain(0)


@pytest.fixture
def channel(server):
    with rpc.connect(server.address) as made:
        yield made


@pytest.fixture
def bare(server):
    with grpc.insecure_channel(server.address) as made:
        yield made


@pytest.fixture
def corpus(channel):
    return corpus_pb2_grpc.CorpusServiceStub(channel)


def method(channel, name):
    """One of `toy.Kinds`, called with one request."""
    kind = {
        "UnaryStream": "unary_stream",
        "StreamUnary": "stream_unary",
        "StreamStream": "stream_stream",
    }
    coders = {
        "request_serializer": corpus_pb2.SearchRequest.SerializeToString,
        "response_deserializer": corpus_pb2.SearchResponse.FromString,
    }
    call = getattr(channel, kind[name])(f"/toy.Kinds/{name}", **coders)
    return lambda **given: call(ASK if name == "UnaryStream" else iter([ASK]), **given)


@pytest.mark.parametrize("kind", errors.KINDS)
def test_each_of_the_eight_crosses_the_wire_and_comes_back_as_itself(corpus, toy, kind):
    sent = kind("expected this, got größer 文")
    sent.retry_after_s = kind.retry_after_s and 9.5
    toy.answer = raiser(sent)
    with pytest.raises(errors.ServiceError) as caught:
        corpus.Search(ASK, timeout=5)
    assert type(caught.value) is kind
    assert str(caught.value) == str(sent)
    assert caught.value.retry_after_s == sent.retry_after_s


def test_a_subclass_travels_as_its_parent(bare, toy):
    toy.answer = raiser(ShelfFull("full"))
    with pytest.raises(grpc.RpcError) as caught:
        corpus_pb2_grpc.CorpusServiceStub(bare).Search(ASK, timeout=5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    error = rpc.from_status(rpc.to_status(ShelfFull("full")))
    assert (type(error), error.retry_after_s) == (errors.Busy, 0.25)


def test_a_bug_is_internal_and_logged_once_with_its_traceback(corpus, toy, caplog):
    toy.answer = raiser(KeyError("a secret"))
    with pytest.raises(rpc.RemoteError, match=r"corpus failed in .*Search with KeyError") as caught:
        corpus.Search(ASK, timeout=5)
    assert "secret" not in str(caught.value) and "Traceback" not in str(caught.value)
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.exc_info[0] is KeyError


def test_a_method_that_is_not_there_yet_is_invalid_input(channel):
    stub = trainer_pb2_grpc.TrainerServiceStub(channel)
    request = trainer_pb2.ExtractTokenizerRequest(checkpoint_id="c")
    with pytest.raises(errors.InvalidInput, match="ExtractTokenizer is not implemented"):
        stub.ExtractTokenizer(request)


def test_a_long_message_is_cut_to_what_metadata_takes(corpus, toy):
    toy.answer = raiser(errors.InvalidInput("文" * 100_000))
    with pytest.raises(errors.InvalidInput, match=r"文 \.\.\.$"):
        corpus.Search(ASK, timeout=5)


def test_a_message_above_16_mib_is_invalid_input_and_not_repeated(corpus, toy):
    big = corpus_pb2.SearchRequest(queries=["q" * 17 * 2**20])
    with pytest.raises(errors.InvalidInput, match="larger than max"):
        corpus.Search(big, timeout=5)
    assert toy.num_calls == 0


def test_a_missing_deadline_is_refused_and_a_reflecting_client_learns_why(bare):
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(bare))
    search = pool.FindServiceByName(NAME).methods_by_name["Search"]
    request = GetMessageClass(search.input_type)(passages_id="p")
    call = bare.unary_unary(
        f"/{NAME}/Search",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(search.output_type).FromString,
    )
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "needs a deadline, got none" in caught.value.details()
    assert len(call(request, timeout=5).results) == 1


def test_reflection_lists_the_services(bare):
    assert NAME in ProtoReflectionDescriptorDatabase(bare).get_services()


def test_a_call_without_timeout_gets_the_default_deadline(corpus, toy):
    remaining = []
    toy.answer = lambda request, context: remaining.append(context.time_remaining()) or ANSWER
    corpus.Search(ASK)
    assert remaining[0] == pytest.approx(rpc.DEFAULT_DEADLINE_S, abs=5)


def test_a_required_field_must_be_given(channel):
    stub = trainer_pb2_grpc.TrainerServiceStub(channel)
    request = trainer_pb2.PretrainRequest(
        plan_id="p", tokenizer_id="t", exam_set_id="e", config_json="{}"
    )
    with pytest.raises(errors.InvalidInput, match="schedule must be given"):
        stub.Pretrain(request)
    with pytest.raises(errors.InvalidInput, match="seeds must be given"):
        corpus_pb2_grpc.CorpusServiceStub(channel).Crawl(corpus_pb2.CrawlRequest(as_of="now"))


def test_health_answers_for_the_whole_and_for_the_service(bare):
    stub = health_pb2_grpc.HealthStub(bare)
    for name in ("", NAME):
        reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("kind", [errors.Unavailable, errors.Busy])
def test_what_passes_by_itself_is_sent_again(corpus, toy, kind):
    passing = kind("in a moment")
    passing.retry_after_s = 0.01
    toy.answer = lambda *given: ANSWER if toy.num_calls == 3 else raiser(passing)(*given)
    assert corpus.Search(ASK, timeout=10) == ANSWER


def test_what_can_never_succeed_is_sent_once(corpus, toy):
    toy.answer = raiser(errors.InvalidInput("never"))
    with pytest.raises(errors.InvalidInput):
        corpus.Search(ASK, timeout=10)
    assert toy.num_calls == 1


def test_a_retry_delay_beyond_the_deadline_ends_the_call_at_once(corpus, toy):
    toy.answer = raiser(ShelfFull("full"))
    with pytest.raises(errors.Busy, match="full"):
        corpus.Search(ASK, timeout=0.2)
    assert toy.num_calls == 1


def test_an_expired_deadline_names_method_and_address(corpus, toy, server):
    released = threading.Event()
    toy.answer = lambda request, context: released.wait(10) and ANSWER
    try:
        with pytest.raises(errors.DeadlineExceeded, match=rf"{SEARCH} at {server.address}.* 0.1 s"):
            corpus.Search(ASK, timeout=0.1)
    finally:
        released.set()


def test_a_call_that_the_caller_cancels_names_method_and_address(corpus, toy, server):
    released = threading.Event()
    toy.answer = lambda request, context: released.wait(10) and ANSWER
    call = corpus.Search.future(ASK, timeout=10)
    call.cancel()
    released.set()
    with pytest.raises(errors.DeadlineExceeded, match=rf"{SEARCH} at {server.address} was cancel"):
        call.result()


def test_a_future_answers_and_raises_typed_errors(corpus, toy):
    assert corpus.Search.future(ASK).result(timeout=5) == ANSWER
    toy.answer = raiser(errors.NotFound("no p"))
    with pytest.raises(errors.NotFound, match="no p"):
        corpus.Search.future(ASK).result(timeout=5)


def test_nobody_at_the_address_is_unavailable_by_name():
    with rpc.connect("127.0.0.1:1") as channel:
        stub = corpus_pb2_grpc.CorpusServiceStub(channel)
        with pytest.raises(errors.Unavailable, match=rf"{SEARCH} at 127.0.0.1:1: "):
            stub.Search(ASK, timeout=0.3)


@pytest.mark.parametrize("name", ["UnaryStream", "StreamStream"])
def test_an_error_within_a_stream_comes_back_typed_after_what_was_sent(channel, toy, name):
    toy.answer = raiser(errors.Corrupt("digest"))
    stream = method(channel, name)(timeout=5)
    assert next(stream) == ANSWER
    with pytest.raises(errors.Corrupt, match="digest"):
        next(stream)


def test_an_error_after_streamed_requests_comes_back_typed(channel, toy):
    assert method(channel, "StreamUnary")(timeout=5) == ANSWER
    toy.answer = raiser(errors.Conflict("taken"))
    with pytest.raises(errors.Conflict, match="taken"):
        method(channel, "StreamUnary")(timeout=5)


def test_a_stream_that_failed_halfway_is_not_sent_again(channel, toy):
    toy.answer = raiser(errors.Unavailable("halfway"))
    with pytest.raises(errors.Unavailable, match="halfway"):
        list(method(channel, "UnaryStream")(timeout=5))
    assert toy.num_calls == 1


def test_a_stream_ends_and_can_be_cancelled(channel):
    assert list(method(channel, "UnaryStream")(timeout=5)) == [ANSWER, ANSWER]
    stream = method(channel, "StreamStream")(timeout=5)
    stream.cancel()
    with pytest.raises(errors.DeadlineExceeded, match=r"toy.Kinds/StreamStream at .* cancelled"):
        list(stream)


def test_the_trace_is_the_same_on_both_sides(corpus, channel, toy):
    seen = []
    toy.answer = lambda request, context: seen.append(telemetry.trace_id()) or ANSWER
    with telemetry.span("caller") as trace_id:
        corpus.Search(ASK)
        list(method(channel, "UnaryStream")(timeout=5))
    assert seen == [trace_id, trace_id]


def test_calls_are_counted_by_status_and_failures_by_class(corpus, toy):
    requests = {"service": "corpus", "method": SEARCH, "status": "NOT_FOUND"}
    failures = {"service": "corpus", "error": "NotFound"}

    def counted():
        return [
            REGISTRY.get_sample_value("athanor_rpc_requests_total", requests) or 0,
            REGISTRY.get_sample_value("athanor_rpc_errors_total", failures) or 0,
        ]

    before = counted()
    toy.answer = raiser(errors.NotFound("no p"))
    with pytest.raises(errors.NotFound):
        corpus.Search(ASK)
    assert counted() == [count + 1 for count in before]


def test_a_port_in_use_is_a_conflict_that_names_it(server):
    with pytest.raises(errors.Conflict, match=f"port {server.port} is in use"):
        rpc.server(service="sampler", registrations=[], service_names=[], port=server.port)


def test_an_address_of_another_machine_is_invalid_input():
    with pytest.raises(errors.InvalidInput, match=r"cannot listen on 192\.0\.2\.1"):
        rpc.server(service="sampler", registrations=[], service_names=[], host="192.0.2.1")


class Held:
    """A toy's answer that waits to be let go."""

    def __init__(self, toy):
        self.begun, self.released = threading.Semaphore(0), threading.Event()
        toy.answer = self.answer

    def answer(self, request, context):
        self.begun.release()
        assert self.released.wait(10)
        return ANSWER


def test_one_call_more_than_threads_is_refused_and_health_still_answers(corpus, bare, toy):
    held = Held(toy)
    calls = [corpus.Search.future(ASK) for _ in range(2)]
    for _ in calls:
        assert held.begun.acquire(timeout=10)
    with pytest.raises(errors.Busy, match="corpus answers 2 calls at once"):
        corpus.Search(ASK, timeout=0.5)
    health_pb2_grpc.HealthStub(bare).Check(health_pb2.HealthCheckRequest(), timeout=5)
    held.released.set()
    assert [call.result(timeout=5) for call in calls] == [ANSWER, ANSWER]


def test_draining_refuses_new_calls_and_lets_running_ones_end(corpus, bare, server, toy):
    held = Held(toy)
    stub = health_pb2_grpc.HealthStub(bare)
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    call = corpus.Search.future(ASK)
    assert held.begun.acquire(timeout=10)
    draining = threading.Thread(target=server.drain, args=(10,))
    draining.start()
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(errors.Unavailable, match="corpus is shutting down"):
        corpus.Search(ASK, timeout=0.3)
    held.released.set()
    assert call.result(timeout=5) == ANSWER
    draining.join(timeout=10)
    assert server.wait(timeout_s=5)


def test_a_call_that_outlives_the_grace_is_cut_off(corpus, server, toy):
    held = Held(toy)
    call = corpus.Search.future(ASK)
    assert held.begun.acquire(timeout=10)
    server.drain(0.05)
    with pytest.raises(errors.Unavailable):
        call.result(timeout=5)
    held.released.set()
