"""A round among services that show each other certificates: who is nobody learns and does nothing.

One home folder serves all of it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from athanor.client.connection import connect
from athanor.client.errors import AthanorError
from athanor.client.tls import NAMES, Tls
from athanor.common.v1 import artifacts_pb2
from athanor.loop.v1 import loop_pb2

from deploy.local.programs import SERVICES, secure
from deploy.tls.folder import identity, tls_folder
from libs import launcher
from tests.e2e.conftest import DECIDED, Rounds, launched

LIST = loop_pb2.ListRoundsRequest(limit=5)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rounds]:
    home = tmp_path_factory.mktemp("guarded")
    secure(home)
    with launched(home) as found:
        yield found


@pytest.fixture(scope="module")
def reports(guarded: Rounds) -> Mapping[str, launcher.Report]:
    return {report.name: report for report in launcher.reports(guarded.home)}


@pytest.fixture(scope="module")
def ended(guarded: Rounds, short: dict[str, Any]) -> Any:
    return guarded.run("own-folder", short, name="guarded")


def test_a_whole_round_runs_on_certificates(ended):
    assert ended.outcome in DECIDED, ended


@pytest.mark.parametrize("service", SERVICES)
def test_no_port_answers_without_a_certificate(reports, service):
    assert not launcher.answers_health(reports[service].port)


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
