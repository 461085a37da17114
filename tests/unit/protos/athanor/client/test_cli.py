"""The remote verbs: what they ask for, and what they say while and after they ask."""

import io
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import typer
from athanor.client import cli, terminal
from athanor.client.errors import AthanorError
from athanor.common.v1 import operations_pb2
from athanor.loop.v1 import loop_pb2
from google.longrunning import operations_pb2 as longrunning
from typer.testing import CliRunner

TRACE = "0123456789abcdef" * 2


@pytest.fixture
def round_file(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("recipe: demo\n")
    return path


class Loop:
    """Answers as `loop` does; `opened` is how the command line asked for it."""

    def StartRound(self, request, timeout):
        operation = longrunning.Operation(name="operations/loop/abc")
        operation.metadata.Pack(operations_pb2.OperationMetadata(trace_id=TRACE))
        return operation

    def __init__(self, report=""):
        self.report = report

    def GetRound(self, request, timeout=0):
        outcome = loop_pb2.OUTCOME_REJECTED
        return loop_pb2.Round(name=request.name, outcome=outcome, report=self.report)

    @contextmanager
    def connection(self, **opened):
        self.opened = opened
        yield SimpleNamespace(loop=self)


def athanor(loop: Loop, *arguments: str):
    app = typer.Typer()
    cli.add_to(app)
    return CliRunner().invoke(app, arguments, obj=loop.connection)


def test_a_detached_round_keeps_its_services_and_says_how_to_watch_and_to_end_them(round_file):
    loop = Loop()
    done = athanor(loop, "round", "start", "--detach", str(round_file))
    assert done.exit_code == 0
    assert loop.opened == {"everything": True, "keep": True}
    assert "./athanor round watch rounds/abc" in done.stdout
    assert "./athanor down" in done.stdout


def test_a_round_that_is_shown_until_it_ends_keeps_no_services(round_file):
    loop = Loop()
    done = athanor(loop, "round", "start", str(round_file))
    assert done.exit_code == 10
    assert loop.opened == {"everything": True, "keep": False}


@pytest.mark.parametrize("more", [[], ["--detach"]])
def test_a_started_round_says_its_trace(round_file, more):
    done = athanor(Loop(), "round", "start", *more, str(round_file))
    assert f"trace        {TRACE}\n" in done.stdout


@pytest.mark.parametrize("verb", [("round", "start"), ("recipe", "check")])
def test_a_round_file_that_is_not_utf8_is_refused_by_name(round_file, verb):
    round_file.write_bytes(b"recipe: caf\xe9\n")
    error = athanor(Loop(), *verb, str(round_file)).exception
    assert isinstance(error, AthanorError)
    assert error.kind == "InvalidInput"
    assert str(round_file) in str(error)


class Terminal(io.StringIO):
    """A terminal that tells when something is shown."""

    def __init__(self):
        super().__init__()
        self.shown = threading.Event()

    def isatty(self):
        return True

    def write(self, text):
        if "waiting for the answer" in text:
            self.shown.set()
        return super().write(text)


def test_a_call_that_takes_long_shows_on_a_terminal_that_it_goes_on(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(terminal, "PATIENCE_S", 0.0)
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    with terminal.patience():
        assert screen.shown.wait(10)


def test_a_quick_call_and_one_without_a_terminal_show_nothing(monkeypatch):
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr("sys.stderr", stream)
        with terminal.patience():
            pass
        assert "waiting" not in stream.getvalue()


def test_a_link_to_a_report_is_printed_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = athanor(Loop("http://store/page?signed"), "report", "rounds/abc", "--link")
    assert (done.stdout, list(tmp_path.iterdir())) == ("http://store/page?signed\n", [])


def test_a_round_without_report_has_no_link():
    error = athanor(Loop(), "report", "rounds/abc", "--link").exception
    assert isinstance(error, AthanorError)
    assert (error.kind, str(error)) == ("NotFound", "there is no report of rounds/abc yet")
