"""What any client can see of any service: reflection, health, deadlines, metrics, one trace."""

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from athanor.common.v1 import operations_pb2, options_pb2
from google.longrunning import operations_pb2 as longrunning
from google.longrunning import operations_pb2_grpc as longrunning_grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from deploy.local.programs import SERVICES
from libs import launcher
from libs.operations.record import State
from tests.e2e.conftest import DECIDED, Rounds

HEAVY = frozenset(
    {
        "athanor.common.v1.ArtifactsService.GetLineage",
        "athanor.common.v1.ArtifactsService.ListArtifacts",
        "athanor.common.v1.DeadLettersService.GetDeadLetter",
        "athanor.common.v1.DeadLettersService.ListDeadLetters",
        "athanor.common.v1.DeadLettersService.ReplayDeadLetter",
        "athanor.corpus.v1.CorpusService.Search",
        "athanor.lm.v1.LmService.LoadWeights",
        "athanor.lm.v1.LmService.Embed",
        "athanor.lm.v1.LmService.ScoreOptions",
        "athanor.loop.v1.LoopService.CheckRecipe",
        "athanor.loop.v1.LoopService.PromoteModel",
        "athanor.loop.v1.LoopService.RollBackModel",
    }
)
"""Calls that may take long, besides those that return an operation or a stream."""
PATIENCE_S = 20.0


@pytest.fixture(scope="session")
def reports(rounds: Rounds) -> dict[str, launcher.Report]:
    return {report.name: report for report in launcher.reports(rounds.home)}


@pytest.fixture(scope="session")
def ended(rounds: Rounds, short: dict[str, Any]) -> Any:
    """A short round that trains, so that there is something to see."""
    return rounds.run("own-folder", short, name="seen")


@pytest.mark.parametrize("service", SERVICES)
def test_reflection_lists_the_service_and_health_answers(reports, service):
    with grpc.insecure_channel(f"127.0.0.1:{reports[service].port}") as channel:
        names = ProtoReflectionDescriptorDatabase(channel).get_services()
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert f"athanor.{service}.v1.{service.capitalize()}Service" in names
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("service", SERVICES)
def test_every_heavy_call_says_so_and_is_refused_without_a_deadline(reports, service):
    with grpc.insecure_channel(f"127.0.0.1:{reports[service].port}") as channel:
        methods = served(channel)
        heavy = {method.full_name for method in methods if is_heavy(method)}
        assert heavy
        assert {method.full_name for method in methods if needs_deadline(method)} == heavy
        for method in filter(is_heavy, methods):
            with pytest.raises(grpc.RpcError) as caught:
                call_blindly(channel, method)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, method.full_name
            assert "deadline" in caught.value.details()


def served(channel: grpc.Channel) -> list[MethodDescriptor]:
    """Return what reflection alone says of our own services."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = descriptor_pool.DescriptorPool(database)
    names = [name for name in database.get_services() if name.startswith("athanor.")]
    return [method for name in names for method in pool.FindServiceByName(name).methods]


def is_heavy(method: MethodDescriptor) -> bool:
    """Tell from what it returns, not from the option that is to be tested."""
    returns_operation = method.output_type.full_name == "google.longrunning.Operation"
    return returns_operation or method.server_streaming or method.full_name in HEAVY


def needs_deadline(method: MethodDescriptor) -> bool:
    options = options_pb2.DESCRIPTOR.pool.FindMessageTypeByName("google.protobuf.MethodOptions")
    known = message_factory.GetMessageClass(options)()
    known.ParseFromString(method.GetOptions().SerializeToString())
    return bool(known.Extensions[options_pb2.deadline_required])


def call_blindly(channel: grpc.Channel, method: MethodDescriptor) -> None:
    """Call with an empty request and without a deadline."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    kind = channel.unary_stream if method.server_streaming else channel.unary_unary
    answer = kind(path, request_serializer=bytes, response_deserializer=bytes)(b"")
    if method.server_streaming:
        next(answer)


class Metrics:
    """What a service shows at `/metrics` at one moment."""

    def __init__(self, report: launcher.Report) -> None:
        address = f"http://127.0.0.1:{report.metrics_port}/metrics"
        with urllib.request.urlopen(address, timeout=5) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            self._samples: list[Sample] = [each for family in families for each in family.samples]

    def has(self, name: str, **labels: str) -> bool:
        return bool(self._values(name, labels))

    def total(self, name: str, **labels: str) -> float:
        """Sum the samples with this name and these labels, whatever else they have."""
        return sum(self._values(name, labels))

    def _values(self, name: str, labels: dict[str, str]) -> list[float]:
        return [
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]


def eventually(report: launcher.Report, holds: Callable[[Metrics], bool]) -> bool:
    """Gauges are set every few seconds: tell whether `holds` of one page within some time."""
    give_up = time.monotonic() + PATIENCE_S
    while not (held := holds(Metrics(report))) and time.monotonic() < give_up:
        time.sleep(0.2)
    return held


@pytest.mark.parametrize("service", SERVICES)
def test_metrics_count_and_time_the_calls_that_were_answered(reports, service, ended):
    metrics = Metrics(reports[service])
    assert metrics.total("athanor_rpc_requests_total", service=service, status="OK") > 0
    assert metrics.total("athanor_rpc_latency_seconds_count", service=service) > 0
    assert metrics.total("athanor_rpc_latency_seconds_sum", service=service) > 0


@pytest.mark.parametrize("service", SERVICES)
def test_metrics_count_a_call_that_failed_under_its_class(reports, service):
    method = "google.longrunning.Operations/GetOperation"
    before = Metrics(reports[service])
    with grpc.insecure_channel(f"127.0.0.1:{reports[service].port}") as channel:
        absent = longrunning.GetOperationRequest(name="operations/absent")
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            longrunning_grpc.OperationsStub(channel).GetOperation(absent, timeout=5)
    after = Metrics(reports[service])
    for name, labels in {
        "athanor_rpc_errors_total": {"error": "NotFound"},
        "athanor_rpc_requests_total": {"method": method, "status": "NOT_FOUND"},
        "athanor_rpc_latency_seconds_count": {"method": method},
    }.items():
        own = {"service": service, **labels}
        assert after.total(name, **own) > before.total(name, **own), name


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name", ["athanor_bus_depth", "athanor_bus_oldest_age_seconds"])
def test_metrics_show_the_queue_of_commands_and_that_it_is_worked_off(
    reports, service, name, ended
):
    labels = {"service": service, "group": f"{service}.workers"}
    assert eventually(
        reports[service],
        lambda metrics: metrics.has(name, **labels) and metrics.total(name, **labels) == 0,
    )


@pytest.mark.parametrize("service", SERVICES)
def test_metrics_show_operations_by_every_state(reports, service, ended):
    metrics = Metrics(reports[service])
    for state in State:
        assert metrics.has("athanor_operations", service=service, state=state.value), state


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "lm"])
@pytest.mark.parametrize("name", ["athanor_operations", "athanor_operations_ended_total"])
def test_metrics_count_the_operations_that_succeeded(reports, service, name, ended):
    labels = {"service": service, "state": "succeeded"}
    assert eventually(reports[service], lambda metrics: metrics.total(name, **labels) > 0)


@pytest.mark.parametrize(
    ("service", "method"),
    [
        ("trainer", "Train"),
        ("lm", "ScoreOptions"),
        ("sampler", "Stream"),
        ("sampler", "Tokenize"),
    ],
)
def test_metrics_show_tokens_and_tokens_per_second(reports, service, method, ended):
    metrics = Metrics(reports[service])
    assert metrics.total(f"{service}_tokens_total", method=method) > 0
    assert metrics.total(f"{service}_tokens_per_second", method=method) > 0


def test_the_trace_of_a_rounds_start_leads_to_lines_of_every_service(rounds, ended):
    assert ended.outcome in DECIDED, ended
    trace_id = trace_of(rounds, ended)
    lines = [
        json.loads(line)
        for file in (rounds.home / "logs").glob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert {line["service"] for line in lines if line["trace_id"] == trace_id} == {*SERVICES}


def trace_of(rounds: Rounds, ended: Any) -> str:
    """Return the trace id that the operation of the round's start tells."""
    name = f"operations/loop/{ended.name.removeprefix('rounds/')}"
    operation = rounds.client.operations.GetOperation(longrunning.GetOperationRequest(name=name))
    metadata = operations_pb2.OperationMetadata()
    assert operation.metadata.Unpack(metadata)
    assert metadata.trace_id
    return str(metadata.trace_id)
