"""What reaches a collector of traces, and that one which is away costs nothing but spans."""

import logging
import socket
import threading
import time
from functools import partial

import pytest
from athanor.lm.v1 import lm_pb2, lm_pb2_grpc
from prometheus_client import REGISTRY

from libs import errors, masking, rpc, traces
from tests.collector import collecting

METHOD = "athanor.lm.v1.LmService/ListWeights"


class ToyLm(lm_pb2_grpc.LmServiceServicer):
    def __init__(self):
        self.error = None

    def ListWeights(self, request, context):
        if self.error:
            raise self.error
        return lm_pb2.ListWeightsResponse()


@pytest.fixture
def toy():
    return ToyLm()


@pytest.fixture
def ask(toy):
    """Return a function that calls a server in this process."""
    register = partial(lm_pb2_grpc.add_LmServiceServicer_to_server, toy)
    server = rpc.server(service="oven", registrations=[register], service_names=[])
    server.start()
    with rpc.connect(server.address) as channel:
        stub = lm_pb2_grpc.LmServiceStub(channel)
        yield lambda: stub.ListWeights(lm_pb2.ListWeightsRequest(), timeout=5)
    server.drain(0)


@pytest.fixture
def collector():
    with collecting() as made:
        traces.start("oven", made.endpoint)
        yield made
        traces.stop()


@pytest.fixture
def nobody():
    """An endpoint where nothing answers: what is sent there waits."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"
        traces.stop()


def by_name(spans):
    return {each.name: each for each in spans}


def test_a_call_is_told_as_part_of_what_its_caller_does(collector, ask):
    with traces.span("bake") as trace_id:
        ask()
    told = by_name(collector.until(lambda spans: len(spans) == 2))
    assert {each.trace_id for each in told.values()} == {trace_id}
    assert told[METHOD].parent_id == told["bake"].span_id
    assert told["bake"].parent_id == ""
    assert told[METHOD].attributes == {
        "rpc.system": "grpc",
        "rpc.method": METHOD,
        "athanor.service": "oven",
        "rpc.grpc.status": "OK",
    }


def test_a_failure_is_told_by_its_class_and_never_by_its_text(collector, ask, toy):
    toy.error = errors.NotFound("no weights of Alice")
    with pytest.raises(errors.NotFound), traces.span("bake"):
        ask()
    told = by_name(collector.until(lambda spans: len(spans) == 2))
    assert told["bake"].failed and told["bake"].attributes == {"error.type": "NotFound"}
    assert told[METHOD].attributes["rpc.grpc.status"] == "NOT_FOUND"
    assert "Alice" not in str(told)


def test_a_secret_in_an_attribute_is_masked(collector):
    masking.hide("hush")
    with traces.span("bake", attributes={"door": "hush, it is open"}):
        traces.note({"key": "hush", "count": 3})
    (told,) = collector.until(len)
    assert told.attributes == {"door": "***, it is open", "key": "***", "count": 3}


def test_a_block_within_a_trace_has_its_id_and_no_span(collector):
    headers = {}
    with traces.span("bake") as trace_id:
        traces.inject(headers)
    with traces.within(traces.extract(headers), "look") as seen:
        assert seen == trace_id
    with traces.within(traces.extract({}), "first") as begun:
        assert begun not in ("", trace_id)
    assert {each.name for each in collector.until(lambda spans: len(spans) == 2)} == {
        "bake",
        "first",
    }


def test_services_with_one_ratio_tell_the_same_traces():
    with collecting() as one, collecting() as other:
        traces.start("one", one.endpoint, ratio=0.5)
        sent = []
        for _ in range(64):
            with traces.span("first"):
                headers = {}
                traces.inject(headers)
                sent.append(headers)
        traces.start("other", other.endpoint, ratio=0.5)
        for headers in sent:
            with traces.span("second", traces.extract(headers)):
                pass
        traces.stop()
        told = [{each.trace_id for each in found.spans()} for found in (one, other)]
    assert told[0] == told[1]
    assert 10 < len(told[0]) < 54


def test_stopping_sends_what_is_left():
    with collecting() as made:
        traces.start("oven", made.endpoint)
        with traces.span("last"):
            pass
        traces.stop()
        assert [each.name for each in made.spans()] == ["last"]


def test_a_collector_that_is_away_fails_and_delays_no_call(nobody, ask):
    ask()
    began = time.perf_counter()
    for _ in range(200):
        ask()
    plain_s = time.perf_counter() - began
    traces.start("oven", nobody)
    began = time.perf_counter()
    for _ in range(200):
        ask()
    assert time.perf_counter() - began < 10 * plain_s + 0.5


def test_stopping_waits_a_bounded_time_for_a_collector_that_is_away(nobody):
    traces.start("oven", nobody)
    for _ in range(6000):  # more than the queue holds
        with traces.span("lost"):
            pass
    began = time.perf_counter()
    traces.stop()
    assert time.perf_counter() - began < traces.STOP_S + 1


def test_lost_spans_are_counted_and_told_once(nobody, caplog):
    counted = {"service": "attic", "outcome": "lost"}
    traces.start("attic", nobody)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with traces.span("lost"):
                pass
            traces._process._provider.force_flush()
    told = [record for record in caplog.records if "they are lost" in record.message]
    assert REGISTRY.get_sample_value("athanor_trace_spans_total", counted) == 2
    assert len(told) == 1
    assert len(caplog.records) == 1


def test_a_trace_goes_on_in_a_thread_that_is_handed_its_headers(collector):
    headers = {}

    def work():
        with traces.span("inside", traces.extract(headers)):
            pass

    with traces.span("outside") as trace_id:
        traces.inject(headers)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    told = by_name(collector.until(lambda spans: len(spans) == 2))
    assert told["inside"].trace_id == trace_id
    assert told["inside"].parent_id == told["outside"].span_id


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4317", "ftp://x:1", "http://", "http://me:pw@x:1"])
def test_what_is_no_endpoint_is_refused_and_not_repeated(endpoint):
    with pytest.raises(errors.InvalidInput, match="must be http://host:port") as caught:
        traces.start("oven", endpoint)
    assert "pw" not in str(caught.value)
