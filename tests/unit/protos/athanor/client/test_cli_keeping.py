"""What `artifacts gc` and the pins say, and that nothing is deleted without --yes."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import typer
from athanor.client import cli
from athanor.client.errors import AthanorError
from athanor.common.v1 import artifacts_pb2, operations_pb2
from google.longrunning import operations_pb2 as longrunning
from google.rpc import error_details_pb2, status_pb2
from typer.testing import CliRunner

A, B = "a" * 64, "b" * 64


class Keeping:
    """Answers as the artifacts service does, with one artifact due and one in its grace."""

    def __init__(self, error=None):
        self.collected, self.error = [], error

    def ListGarbage(self, request, timeout):
        self.days = request.rounds_older_than_days
        yield artifacts_pb2.Garbage(
            artifact_id=A, kind="plan", size_bytes=1500, reason="unreachable"
        )
        yield artifacts_pb2.Garbage(artifact_id=B, size_bytes=5, reason="unfinished", wait_s=7200)

    def CollectGarbage(self, request):
        self.collected.append(request)
        return longrunning.Operation(name="operations/loop/c")

    def Watch(self, request, timeout):
        ended = longrunning.Operation(name=request.name, done=True)
        if self.error:
            ended.error.CopyFrom(self.error)
        else:
            figures = {"num_artifacts": 1, "size_bytes": 1500}
            ended.response.Pack(operations_pb2.StepResult(figures=figures))
        yield ended

    def PinArtifact(self, request):
        return artifacts_pb2.Pin(artifact_id=A, who=request.who, why=request.why, when="now")

    @contextmanager
    def connection(self, **opened):
        yield SimpleNamespace(artifacts=self, watching=self)


def athanor(keeping, *arguments):
    app = typer.Typer()
    cli.add_to(app)
    return CliRunner().invoke(app, ["artifacts", *arguments], obj=keeping.connection)


def test_garbage_is_listed_with_its_size_its_reason_and_when_it_may_go():
    keeping = Keeping()
    done = athanor(keeping, "gc", "--rounds-older-than", "2.5")
    first, second, totals, hint = done.stdout.splitlines()
    assert first.split() == [A[:12], "plan", "1,500", "bytes", "unreachable", "now"]
    assert second.split() == [B[:12], "-", "5", "bytes", "unfinished", "in", "2.0", "h"]
    assert totals == "2 artifacts, 1,505 bytes; 1 of them, 1,500 bytes, may be deleted now"
    assert "--yes" in hint
    assert keeping.days == 2.5
    assert keeping.collected == []


def test_with_yes_it_is_deleted():
    done = athanor(Keeping(), "gc", "--yes")
    assert done.stdout.splitlines()[-1] == "deleted 1 artifacts, 1,500 bytes"


def test_garbage_is_told_as_json():
    said = json.loads(athanor(Keeping(), "gc", "--yes", "--json").stdout)
    assert [each["artifact_id"] for each in said["garbage"]] == [A, B]
    assert said["deleted"] == {"num_artifacts": 1, "size_bytes": 1500}


def test_a_collection_that_fails_is_an_error_of_its_own_kind():
    error = status_pb2.Status(code=10, message="another goes on")
    error.details.add().Pack(error_details_pb2.ErrorInfo(reason="Conflict"))
    with pytest.raises(AthanorError, match="another goes on") as failed:
        raise athanor(Keeping(error), "gc", "--yes").exception
    assert failed.value.kind == "Conflict"


def test_a_pin_says_who_pinned_it_and_why():
    done = athanor(Keeping(), "pin", A, "--why", "a talk")
    assert done.stdout.startswith(A[:12])
    assert done.stdout.endswith(": a talk\n")
