"""The command line on this machine: what it starts, and what it takes for ended."""

from dataclasses import replace

import pytest
from athanor.loop.v1 import loop_pb2

from deploy.local import demo
from deploy.local.cli import supervised
from libs import launcher
from libs.blobs.folder import FolderBlobs
from libs.errors import Conflict
from libs.launcher.home import Report
from libs.operations.record import Record, State, operation_name


@pytest.mark.parametrize(
    ("names", "site", "missing"),
    [(("loop",), False, "loop"), (("lm",), True, "site"), (("lm", "loop"), True, "loop, site")],
)
def test_services_that_run_without_one_that_is_needed_are_refused_naming_it(
    tmp_path, monkeypatch, names, site, missing
):
    monkeypatch.setattr(launcher, "reports", lambda home: [Report("lm", 1, 2, 3, 0)])
    with (
        pytest.raises(Conflict, match=f"expected {missing} among .* got lm: ./athanor down"),
        supervised(tmp_path, names=names, site_folder=tmp_path if site else None),
    ):
        pass


def test_services_that_run_are_used(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "reports", lambda home: [Report("lm", 1, 2, 3, 0)])
    with supervised(tmp_path, names=("lm",)) as ports:
        assert ports == {"lm": 2}


@pytest.mark.parametrize("state", State)
def test_only_a_round_that_succeeded_is_answered_by_the_loop_alone(tmp_path, state):
    request = loop_pb2.StartRoundRequest(request_id="demo-1")
    assert not demo._ended(tmp_path, request)
    name = operation_name("loop", "StartRound", "demo-1")
    record = Record(
        name=name,
        service="loop",
        method="StartRound",
        request_id="demo-1",
        request=b"",
        request_sha256="",
        create_time=0.0,
    )
    data = replace(record, state=state).to_json()
    FolderBlobs(tmp_path / "blobs").create(f"{name}.json", data)
    assert demo._ended(tmp_path, request) == (state is State.SUCCEEDED)
