"""A secret is planted in a service that says it at every occasion, and looked for everywhere."""

import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from athanor.corpus.v1 import corpus_pb2, corpus_pb2_grpc
from google.longrunning import operations_pb2 as longrunning
from google.longrunning import operations_pb2_grpc as longrunning_grpc

from libs import rpc
from libs.errors import InvalidInput, Unavailable
from libs.launcher import Launcher, Ports, Program
from tests.collector import collecting

ROOT = Path(__file__).parents[2]
SECRET = "hush-7f3a9c-planted"
MASKED_IN = ("logs/corpus.jsonl", "logs/corpus.out", "errors", "spans", "operations")


class Seen(NamedTuple):
    home: Path
    said: Mapping[str, str]
    """What left the process, by way."""


def program(env: Mapping[str, str]) -> Program:
    def own(ports: Mapping[str, Ports]) -> Mapping[str, str]:
        given = {"PYTHONPATH": str(ROOT), "CORPUS_PORT": str(ports["corpus"].port)}
        return given | {"CORPUS_METRICS_PORT": str(ports["corpus"].metrics_port), **env}

    return Program(name="corpus", argv=(sys.executable, "-m", "tests.integration.leaky"), env=own)


@pytest.fixture(scope="module", params=["variable", "file"])
def seen(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """A home folder in which the service did all that it can, and what it said beside."""
    home = tmp_path_factory.mktemp("home")
    file = tmp_path_factory.mktemp("elsewhere") / "token"
    file.write_text(f"{SECRET}\n")
    env = {"CORPUS_API_TOKEN_FILE": str(file)}
    if request.param == "variable":
        env = {"CORPUS_API_TOKEN": SECRET}
    with collecting() as collector:
        env |= {"ATHANOR_HOME": str(home), "ATHANOR_OTLP": collector.endpoint}
        launcher = Launcher(home, [program(env)])
        ports = launcher.start()["corpus"]
        try:
            said = provoked(ports, home)
            collector.until(lambda spans: sum("leaky.token" in s.attributes for s in spans) > 3)
        finally:
            launcher.stop()
        yield Seen(home, said | {"spans": str(collector.spans())})


def provoked(ports: Ports, home: Path) -> dict[str, str]:
    """Let the service fail in every way, and return what a caller and a neighbour can see."""
    errors = []
    with rpc.connect(f"127.0.0.1:{ports.port}") as channel:
        corpus = corpus_pb2_grpc.CorpusServiceStub(channel)
        for kind, error in (("typed", InvalidInput), ("bug", rpc.RemoteError)):
            with pytest.raises(error) as caught:
                corpus.Search(corpus_pb2.SearchRequest(passages_id=kind, queries=["q"]), timeout=9)
            errors.append(str(caught.value))
        operations = longrunning_grpc.OperationsStub(channel)
        ended = [run(corpus, operations, kind) for kind in ("typed", "bug")]
    page = urllib.request.urlopen(f"http://127.0.0.1:{ports.metrics_port}/metrics", timeout=9)
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    return {
        "errors": str(errors),
        "operations": str(ended),
        "metrics": page.read().decode(),
        "command lines": str(lines),
    }


def run(corpus, operations, kind: str) -> longrunning.Operation:
    name = corpus.Crawl(corpus_pb2.CrawlRequest(seeds=["s"], as_of=kind), timeout=9).name
    ends_at = time.monotonic() + 20
    while time.monotonic() < ends_at:
        request = longrunning.WaitOperationRequest(name=name)
        if (seen := operations.WaitOperation(request, timeout=9)).done:
            return seen
    raise AssertionError(f"{name} did not end")


def test_a_secret_lies_in_no_file_of_the_home_folder(seen):
    files = [path for path in seen.home.rglob("*") if path.is_file()]
    assert {path.relative_to(seen.home).parts[0] for path in files} >= {"blobs", "logs", "run"}
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_a_secret_leaves_the_process_on_no_way(seen):
    assert [way for way, text in seen.said.items() if SECRET in text] == []


@pytest.mark.parametrize("where", MASKED_IN)
def test_what_holds_the_secret_was_said_and_masked(seen, where):
    """So that the tests above do not pass because nothing was said."""
    said = seen.said.get(where) or (seen.home / where).read_text()
    assert "***" in said


def test_a_crash_before_anything_runs_is_masked(tmp_path):
    env = {"CORPUS_API_TOKEN": SECRET, "CORPUS_CRASH": "1", "ATHANOR_HOME": str(tmp_path)}
    with pytest.raises(Unavailable, match=r"the token \*\*\* was refused") as caught:
        Launcher(tmp_path, [program(env)]).start()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert SECRET not in str(caught.value)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_a_secret_under_a_wrong_name_is_refused_and_not_repeated(tmp_path):
    env = {"CORPUS_API_TOKEN": "x", "CORPUS_API_TOKN": SECRET, "ATHANOR_HOME": str(tmp_path)}
    with pytest.raises(Unavailable, match="CORPUS_API_TOKN is no setting of corpus") as caught:
        Launcher(tmp_path, [program(env)]).start()
    assert SECRET not in str(caught.value)
