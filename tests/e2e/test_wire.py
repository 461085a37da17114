"""What any client can see of any service: reflection, health, deadlines, metrics, one trace."""

import json
import random
import urllib.request
from typing import Any

import grpc
import pytest
from athanor.common.v1 import options_pb2
from athanor.loop.v1 import loop_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from deploy.local.programs import SERVICES
from libs import launcher
from tests.e2e import world
from tests.e2e.conftest import TOPICS, Rounds


@pytest.fixture(scope="session")
def reports(rounds: Rounds) -> dict[str, launcher.Report]:
    return {report.name: report for report in launcher.reports(rounds.home)}


@pytest.fixture(scope="session")
def ended(rounds: Rounds, learned: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A short round, so that there is something to see."""
    folder, draw = tmp_path_factory.mktemp("world"), random.Random(1)
    topics = world.topics(TOPICS)
    base = learned([world.passage(draw, topic) for _ in range(40) for topic in topics])
    exam = world.write_exam(folder / "exam.jsonl", topics, items=20, seed=2)
    texts = world.write_texts(folder / "texts", dict.fromkeys(TOPICS, 10), topics, seed=3)
    given = {"checkpoint": str(base), "exam": str(exam), "folder": str(texts)}
    given["budget_tokens"] = 5_000  # no plan may starve and end the round before the examination
    return rounds.run("own-folder", given, name="seen")


@pytest.mark.parametrize("service", SERVICES)
def test_reflection_lists_the_service_and_health_answers(reports, service):
    with grpc.insecure_channel(f"127.0.0.1:{reports[service].port}") as channel:
        names = ProtoReflectionDescriptorDatabase(channel).get_services()
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert f"athanor.{service}.v1.{service.capitalize()}Service" in names
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("service", SERVICES)
def test_every_heavy_call_without_a_deadline_is_refused_with_the_reason(reports, service):
    with grpc.insecure_channel(f"127.0.0.1:{reports[service].port}") as channel:
        heavy = heavy_methods(channel)
        assert heavy
        for method in heavy:
            with pytest.raises(grpc.RpcError) as caught:
                call_blindly(channel, method)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, method.full_name
            assert "deadline" in caught.value.details()


def heavy_methods(channel: grpc.Channel) -> list[MethodDescriptor]:
    """Return what reflection alone says needs a deadline."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = descriptor_pool.DescriptorPool(database)
    services = [pool.FindServiceByName(name) for name in database.get_services()]
    number = options_pb2.deadline_required.number
    found = [method for service in services for method in service.methods]
    return [method for method in found if _flag(method, number)]


def _flag(method: MethodDescriptor, number: int) -> bool:
    options = options_pb2.DESCRIPTOR.pool.FindMessageTypeByName("google.protobuf.MethodOptions")
    known = message_factory.GetMessageClass(options)()
    known.ParseFromString(method.GetOptions().SerializeToString())
    return bool(known.Extensions[options_pb2.deadline_required]) and number > 0


def call_blindly(channel: grpc.Channel, method: MethodDescriptor) -> None:
    """Call with an empty request and without a deadline."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    kind = channel.unary_stream if method.server_streaming else channel.unary_unary
    answer = kind(path, request_serializer=bytes, response_deserializer=bytes)(b"")
    if method.server_streaming:
        next(answer)


@pytest.mark.parametrize("service", SERVICES)
def test_metrics_show_requests_errors_latency_queue_and_operations(reports, service, ended):
    address = f"http://127.0.0.1:{reports[service].metrics_port}/metrics"
    with urllib.request.urlopen(address, timeout=5) as answer:
        page = answer.read().decode()
    for name in (
        "athanor_rpc_requests_total",
        "athanor_rpc_errors_total",
        "athanor_rpc_latency_seconds",
        "athanor_bus_depth",
        "athanor_bus_oldest_age_seconds",
        "athanor_operations",
    ):
        assert f"# TYPE {name.removesuffix('_total')}" in page, name
    assert f'service="{service}"' in page
    if service == "trainer":
        assert "trainer_tokens_per_second" in page


def test_one_trace_leads_from_the_round_to_every_service_that_worked_for_it(rounds, ended):
    assert ended.outcome != loop_pb2.OUTCOME_FAILED, ended
    lines = [
        json.loads(line)
        for file in (rounds.home / "logs").glob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    traces = {line["trace_id"] for line in lines if line["service"] == "loop"} - {""}
    seen = {each: {x["service"] for x in lines if x["trace_id"] == each} for each in traces}
    assert {"loop", "corpus", "sampler", "trainer", "evaluator", "lm"} in seen.values()
