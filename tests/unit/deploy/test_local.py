"""The command line on this machine: what it starts, and what it takes for ended."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from athanor.loop.v1 import loop_pb2
from typer.testing import CliRunner

from deploy.local import cli, demo, doctor
from deploy.local.cli import supervised
from deploy.local.programs import ROOT, services
from deploy.minio.rights import secrets_folder
from deploy.minio.server import secret_keys
from deploy.tls.folder import is_secured
from libs import launcher
from libs.blobs.folder import FolderBlobs
from libs.errors import Conflict
from libs.launcher.home import Ports, Report
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


class Supervisor:
    """Stands for the process that runs the services."""

    ended = False

    def terminate(self):
        self.ended = True

    def wait(self):
        pass


@pytest.fixture
def supervisor(monkeypatch):
    one = Supervisor()

    def start(home, *, adopt, **_):
        one.adopted = adopt
        return one

    monkeypatch.setattr(cli, "_start_supervisor", start)
    return one


@pytest.mark.parametrize("keep", [True, False])
def test_services_started_for_a_block_go_on_only_if_they_are_to_be_kept(tmp_path, supervisor, keep):
    with supervised(tmp_path, names=("loop",), keep=keep):
        assert supervisor.adopted == (not keep)
        assert not supervisor.ended
    assert supervisor.ended == (not keep)


def test_services_started_for_a_block_that_raises_are_ended_though_they_were_to_be_kept(
    tmp_path, supervisor
):
    with pytest.raises(KeyboardInterrupt), supervised(tmp_path, names=("loop",), keep=True):
        raise KeyboardInterrupt
    assert supervisor.ended


REQUEST = loop_pb2.StartRoundRequest(request_id="demo-1")


def write_round(home: Path, state: State, request_id: str = "demo-1") -> None:
    name = operation_name("loop", "StartRound", request_id)
    record = Record(
        name=name,
        service="loop",
        method="StartRound",
        request_id=request_id,
        request=b"",
        request_sha256="",
        create_time=0.0,
        state=state,
    )
    FolderBlobs(home / "blobs").create(f"{name}.json", record.to_json())


@pytest.mark.parametrize("state", State)
def test_only_a_round_that_succeeded_is_answered_by_the_loop_alone(tmp_path, state):
    assert not demo._ended(tmp_path, REQUEST)
    write_round(tmp_path, state)
    assert demo._ended(tmp_path, REQUEST) == (state is State.SUCCEEDED)


def test_a_fresh_demonstration_begins_in_a_folder_of_its_own(tmp_path):
    (tmp_path / "h-fresh-2-7").mkdir()
    assert demo._own_home(tmp_path / "h", 1, REQUEST) == tmp_path / "h-fresh-1-1"


@pytest.mark.parametrize("state", State)
def test_a_fresh_demonstration_goes_on_in_its_newest_folder_unless_that_is_answered(
    tmp_path, state
):
    for n in (9, 10):
        write_round(tmp_path / f"h-fresh-1-{n}", State.SUCCEEDED if n == 9 else state)
    expected = "h-fresh-1-11" if state is State.SUCCEEDED else "h-fresh-1-10"
    assert demo._own_home(tmp_path / "h", 1, REQUEST).name == expected


def test_a_fresh_demonstration_takes_no_folder_with_a_round_on_another_site(tmp_path):
    write_round(tmp_path / "h-fresh-1-1", State.RUNNING, request_id="demo-other")
    assert demo._own_home(tmp_path / "h", 1, REQUEST).name == "h-fresh-1-2"


def test_a_fresh_demonstration_stopped_before_its_round_began_goes_on_there(tmp_path):
    (tmp_path / "h-fresh-1-1" / "run").mkdir(parents=True)
    assert demo._own_home(tmp_path / "h", 1, REQUEST).name == "h-fresh-1-1"


@pytest.mark.parametrize(
    ("home", "command"),
    [
        (".athanor", "./athanor lineage abc"),
        ("my home", "ATHANOR_HOME='my home' ./athanor lineage abc"),
    ],
)
def test_the_lineage_command_works_as_printed(home, command):
    ended = loop_pb2.Round(steps=[loop_pb2.Step(name="train", artifact_id="abc")])
    assert f"lineage      {command}" in demo._lines(ended, None, Path(home))


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_doctor_runs_without_a_package_and_says_how_to_get_them(more):
    done = bare("doctor", *more)
    assert done.returncode == 1, done.stderr
    assert "make setup" in done.stdout


def test_doctor_says_how_to_get_the_module_that_setup_begins_with(monkeypatch):
    found = doctor.importlib.util.find_spec
    monkeypatch.setattr(
        doctor.importlib.util, "find_spec", lambda n: None if n == "ensurepip" else found(n)
    )
    assert "python3-venv, then make setup" in doctor._venv().remedy


def test_any_other_command_without_a_package_is_one_line():
    done = bare("status")
    assert done.returncode == 1
    assert done.stderr.startswith("Unavailable: typer is not installed: make setup")


def bare(*arguments: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-S", "-E", "-m", "deploy.local", *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def log_line(message: str, second: int, trace_id: str = "") -> str:
    fields = {"time": f"2026-01-01T00:00:0{second}", "level": "INFO", "service": "lm"}
    return json.dumps({**fields, "trace_id": trace_id, "message": message}, ensure_ascii=False)


@pytest.fixture
def logs(tmp_path, monkeypatch):
    monkeypatch.setenv("ATHANOR_HOME", str(tmp_path))
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def test_log_lines_that_a_kill_cut_off_are_skipped(logs):
    cut = log_line("caf\u00e9", 1).encode().partition(b"\xa9")[0]
    (logs / "lm.jsonl").write_bytes(cut + b"\n" + log_line("a\u2028b", 2).encode())
    shown = CliRunner().invoke(cli.app, ["logs", "--json"])
    assert [json.loads(line)["message"] for line in shown.stdout.splitlines()] == ["a\u2028b"]


def test_logs_begin_with_what_was_rotated_away(logs):
    (logs / "lm.jsonl").write_text(log_line("new", 1, "t"))
    (logs / "lm.jsonl.1").write_text(log_line("old", 1, "t"))
    (logs / "loop.jsonl.2").write_text(log_line("other trace", 1, "u"))
    shown = CliRunner().invoke(cli.app, ["logs", "--trace", "t"])
    assert [line.split()[-1] for line in shown.stdout.splitlines()] == ["old", "new"]


def commands(group: typer.main.TyperGroup, path: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield every command under a group and its options."""
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, f"{path}{name} ")
        else:
            yield f"{path}{name}", {option for one in each.params for option in one.opts}


def test_every_command_prints_json_if_asked():
    found = dict(commands(typer.main.get_command(cli.app)))
    assert {"demo", "round start", "models rollback"} <= found.keys()
    assert [name for name, options in found.items() if "--json" not in options] == []


def test_help_answers_in_half_a_second():
    """In processor time, which is all of it on a machine that has nothing else to do."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([ROOT / "athanor", "--help"], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_prometheus_finds_the_services_while_they_run(tmp_path, monkeypatch):
    monkeypatch.setenv("ATHANOR_PROMETHEUS_TARGETS", str(tmp_path / "targets"))
    monkeypatch.setattr(launcher, "reports", lambda home: [Report("lm", 1, 2, 3, 0)])
    with cli._watched(tmp_path):
        (file,) = (tmp_path / "targets").iterdir()
        assert "127.0.0.1:3" in file.read_text()
    assert not [*(tmp_path / "targets").iterdir()]


@pytest.mark.parametrize("given", [["up"], ["up", "--tls"]])
def test_up_makes_certificates_if_asked_to(tmp_path, monkeypatch, given):
    monkeypatch.setenv("ATHANOR_HOME", str(tmp_path))
    monkeypatch.setattr(cli, "_start_supervisor", lambda home, **_: None)
    CliRunner().invoke(cli.app, given)
    assert is_secured(tmp_path) == ("--tls" in given)
    program, *_ = services(tmp_path, names=("corpus",))
    assert ("CORPUS_TLS_CERT" in program.env({"corpus": Ports(1, 2)})) == ("--tls" in given)


@pytest.mark.parametrize("profile", ["embedded", "cluster"])
def test_a_service_is_its_own_user_of_the_store_where_one_was_made(tmp_path, monkeypatch, profile):
    monkeypatch.setenv("ATHANOR_PROFILE", profile)
    monkeypatch.setenv("ATHANOR_NAMESPACE", "n1-")
    secrets = secret_keys(secrets_folder(tmp_path), make=True)
    (tmp_path / "secrets" / "minio" / "sampler").unlink()
    corpus, sampler = services(tmp_path, names=("corpus", "sampler"))
    told = corpus.env({"corpus": Ports(1, 2)})
    seen = told.get("ATHANOR_MINIO_ACCESS_KEY"), told.get("ATHANOR_MINIO_SECRET_KEY")
    assert seen == (("n1-corpus", secrets["corpus"]) if profile == "cluster" else (None, None))
    assert "ATHANOR_MINIO_ACCESS_KEY" not in sampler.env({"sampler": Ports(1, 2)})
