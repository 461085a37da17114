"""A round of services that show certificates and tell a collector all they do, on both profiles.

Who is nobody learns and does nothing; what was done is one trace, across calls and the bus.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from athanor.client.connection import connect
from athanor.client.errors import AthanorError
from athanor.client.tls import NAMES, Tls
from athanor.common.v1 import artifacts_pb2
from athanor.loop.v1 import loop_pb2

from deploy.local.programs import names_of, secure
from deploy.tls.folder import identity, tls_folder
from libs import launcher
from libs.profile import Profile
from tests import cluster
from tests.collector import Collector, Told, collecting
from tests.e2e.conftest import DECIDED, Rounds, launched

CREDENTIALS = ("ATHANOR_MINIO_SECRET_KEY", "ATHANOR_TRITON_KEY")
LIST = loop_pb2.ListRoundsRequest(limit=5)


@pytest.fixture(scope="module", params=[*Profile])
def profile(request: pytest.FixtureRequest) -> Iterator[Mapping[str, str]]:
    """The settings of a profile that is in force, each in its turn."""
    with cluster.entered(request.param, request) as settings:
        yield settings


@pytest.fixture(scope="module")
def collector(profile: Mapping[str, str]) -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture(scope="module")
def services(profile: Mapping[str, str]) -> tuple[str, ...]:
    return names_of(Profile(profile["ATHANOR_PROFILE"]))


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector, services: tuple[str, ...]
) -> Iterator[Rounds]:
    home = tmp_path_factory.mktemp("guarded")
    secure(home)
    settings = {f"{name.upper()}_OTLP_ENDPOINT": collector.endpoint for name in services}
    with launched(home, settings, names=services) as found:
        yield found


@pytest.fixture(scope="module")
def reports(guarded: Rounds) -> Mapping[str, launcher.Report]:
    return {report.name: report for report in launcher.reports(guarded.home)}


@pytest.fixture(scope="module")
def ended(guarded: Rounds, short: dict[str, Any]) -> Any:
    return guarded.run("own-folder", short, name="guarded")


@pytest.fixture(scope="module")
def told(collector: Collector, ended: Any) -> Sequence[Told]:
    """Every span of the round: services send theirs within a second of its end."""
    collector.wait_for(lambda spans: is_whole(of_round(spans)))
    return of_round(collector.spans())


def of_round(spans: Sequence[Told]) -> Sequence[Told]:
    """Return the trace in which a round was run."""
    traces = {each.trace_id for each in spans if each.name == "loop.StartRound"}
    return [each for each in spans if each.trace_id in traces]


def is_whole(spans: Sequence[Told]) -> bool:
    ids = {each.span_id for each in spans}
    return bool(spans) and all(each.parent_id in {"", *ids} for each in spans)


def test_a_whole_round_runs_on_certificates(ended):
    assert ended.outcome in DECIDED, ended


def test_every_step_of_the_round_is_in_one_trace(told, ended, services):
    steps = {step.operation for step in ended.steps if step.operation}
    assert len(steps) > 5
    assert steps <= {each.attributes.get("athanor.operation") for each in told}
    assert {each.service for each in told} == {*services}
    assert len({each.trace_id for each in told}) == 1


def test_every_span_of_the_round_has_its_parent_among_them(told):
    ids = {each.span_id for each in told}
    assert [each for each in told if each.parent_id and each.parent_id not in ids] == []
    (first,) = [each for each in told if not each.parent_id]
    assert first.name == "athanor.loop.v1.LoopService/StartRound"


def test_the_trace_crosses_calls_and_the_bus(told):
    by_id = {each.span_id: each for each in told}
    crossings = {
        (by_id[each.parent_id].service, each.name) for each in told if each.parent_id in by_id
    }
    assert ("loop", "athanor.trainer.v1.TrainerService/Train") in crossings
    assert ("trainer", "trainer.commands.v1") in crossings
    assert ("trainer", "athanor.sampler.v1.SamplerService/Stream") in crossings


def test_polling_is_told_by_no_span(told):
    assert [each for each in told if each.name.endswith("/GetOperation")] == []


def test_calls_tell_who_made_them(told):
    (stream, *_) = [each for each in told if each.name.endswith("SamplerService/Stream")]
    assert stream.attributes["athanor.caller"] == "trainer"


def test_no_port_answers_without_a_certificate(reports, services):
    assert reports.keys() == {*services}
    assert [each.name for each in reports.values() if launcher.answers_health(each.port)] == []


def test_no_credential_of_the_servers_lies_in_a_file_or_a_span(profile, guarded, told):
    secrets = [profile[name] for name in CREDENTIALS if name in profile]
    files = [path for path in guarded.home.rglob("*") if path.is_file()]
    said = [path.read_bytes() for path in files] + [str(told).encode()]
    assert len(files) > 20
    assert not [secret for secret in secrets for text in said if secret.encode() in text]


def test_the_command_line_finds_its_own_certificate(guarded, ended):
    shown = guarded.athanor("round", "list")
    assert (shown.returncode, ended.name in shown.stdout) == (0, True), shown
    assert guarded.athanor("status").returncode == 0


def test_a_service_may_not_do_what_is_for_people(guarded, reports):
    sampler = identity(tls_folder(guarded.home), "sampler")
    tls = Tls(cert=sampler.cert, private=sampler.private, ca=sampler.ca)
    with (
        pytest.raises(AthanorError, match="may be called by operator, got a call by sampler"),
        connect(f"127.0.0.1:{reports['loop'].port}", tls=tls) as client,
    ):
        client.artifacts.ListArtifacts(artifacts_pb2.ListArtifactsRequest(), timeout=10)


def test_a_program_shows_the_certificate_that_its_environment_names(guarded, reports, monkeypatch):
    operator = identity(tls_folder(guarded.home), "operator")
    for name, path in zip(NAMES, (operator.cert, operator.private, operator.ca), strict=True):
        monkeypatch.setenv(name, str(path))
    with connect(f"127.0.0.1:{reports['loop'].port}") as client:
        client.loop.ListRounds(LIST, timeout=10)
