"""The folders of a stack: what is kept between starts, and who may read it."""

import json
import socket
import stat

import pytest

from deploy.local.stack import run as module
from deploy.local.stack.run import Run, locked
from libs.errors import DeadlineExceeded


@pytest.fixture
def run(tmp_path):
    return Run(cache=tmp_path / "cache", folder=tmp_path)


def test_folders_are_those_that_the_environment_names(tmp_path):
    env = {"ATHANOR_STACK": str(tmp_path / "c"), "ATHANOR_STACK_RUN": str(tmp_path / "r")}
    assert Run.of(env) == Run(cache=tmp_path / "c", folder=tmp_path / "r")
    assert Run.of(env | {"ATHANOR_STACK_RUN": ""}).folder == tmp_path / "c" / "run"


def test_settings_come_back_as_they_were_written(run):
    assert run.settings() == {}
    run.write_settings({"ATHANOR_KAFKA": "127.0.0.1:1", "ATHANOR_MINIO_SECRET_KEY": "a=b"})
    assert run.settings() == {"ATHANOR_KAFKA": "127.0.0.1:1", "ATHANOR_MINIO_SECRET_KEY": "a=b"}


def test_secrets_are_made_once(run):
    assert run.secrets() == run.secrets()
    assert len(set(run.secrets().values())) == 3


@pytest.mark.parametrize("name", ["secrets.json", "stack.env"])
def test_nobody_else_may_read_what_holds_secrets(run, name):
    run.write_settings(run.secrets())
    assert stat.S_IMODE((run.folder / name).stat().st_mode) == 0o600


def test_a_server_keeps_its_ports(run):
    run.keep_ports("kafka", ("client", "controller"))
    before = run.ports()
    run.keep_ports("minio", ("client",))
    run.keep_ports("kafka", ("client", "controller"))
    assert run.ports()["kafka"] == before["kafka"]
    assert len({*before["kafka"].values(), *run.ports()["minio"].values()}) == 3


def test_a_port_that_a_stranger_took_is_replaced(run, monkeypatch):
    monkeypatch.setattr("libs.launcher.home._PORT_PATIENCE_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        (run.folder / "ports.json").write_text(json.dumps({"minio": {"client": taken}}))
        run.keep_ports("minio", ("client",))
    assert run.ports()["minio"]["client"] != taken


def test_settings_that_somebody_else_wrote_are_foreign(run):
    assert not run.is_foreign
    run.env_file.write_text("ATHANOR_KAFKA=kafka.example:9092\n")
    assert run.is_foreign
    run.keep_ports("kafka", ("client",))
    assert not run.is_foreign


def test_a_lock_that_another_holds_is_waited_for_no_longer_than_said(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LOCK_S", 0.1)
    with (
        locked(tmp_path / "lock", what="itself"),
        pytest.raises(DeadlineExceeded, match=r"waited 0.1 s for another command"),
        locked(tmp_path / "lock", what="another command"),
    ):
        pass
