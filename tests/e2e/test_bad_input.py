"""Bad input, over the wire and on the command line: each a typed error that says what came.

Those that one service decides alone are tested beside its code: a plan without or with a foreign
certificate and truncated weights (trainer), a page of a gigabyte, a redirect loop and invalid UTF-8
(corpus), an exam item with two keys or none (evaluator), a budget above the clip (sampler), one
flipped byte (artifacts), a port in use (rpc), two launchers (launcher).
"""

import http.server
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from athanor.corpus.v1 import corpus_pb2, corpus_pb2_grpc
from athanor.evaluator.v1 import evaluator_pb2, evaluator_pb2_grpc
from athanor.loop.v1 import loop_pb2
from google.longrunning import operations_pb2, operations_pb2_grpc

from libs import launcher, rpc
from libs.errors import Conflict, InvalidInput, NotFound, ServiceError
from tests.e2e.conftest import Rounds

ROOT = Path(__file__).parents[2]


@pytest.fixture
def reach(rounds: Rounds) -> Iterator[Callable[[str], Any]]:
    """Return a function that opens a channel to a service of the session."""
    ports = {report.name: report.port for report in launcher.reports(rounds.home)}
    channels: list[Any] = []

    def connect(service: str) -> Any:
        channels.append(rpc.connect(f"127.0.0.1:{ports[service]}"))
        return channels[-1]

    yield connect
    for channel in channels:
        channel.close()


def failure(channel: Any, operation: Any) -> ServiceError:
    """Return the error that a long call ends with."""
    waited = operations_pb2_grpc.OperationsStub(channel).WaitOperation(
        operations_pb2.WaitOperationRequest(name=operation.name), timeout=60
    )
    assert waited.WhichOneof("result") == "error", waited
    return rpc.from_status(waited.error)


@pytest.fixture
def site() -> Iterator[Callable[[str], str]]:
    """Return a function that serves a robots.txt and an empty page, and gives the address."""
    servers: list[http.server.HTTPServer] = []

    def serve(robots: str) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = robots.encode() if self.path == "/robots.txt" else b""
                self.send_response(200)
                self.send_header("Content-Type", "text/plain" if body else "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        servers.append(http.server.HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("robots", "why"),
    [("", "empty"), ("User-agent: *\nDisallow: /\n", "robots")],
    ids=["empty site", "robots forbid everything"],
)
def test_a_site_that_gives_no_page_is_not_found_with_the_reason(reach, site, robots, why):
    channel = reach("corpus")
    operation = corpus_pb2_grpc.CorpusServiceStub(channel).Crawl(
        corpus_pb2.CrawlRequest(
            request_id=f"bad-{why}",
            seeds=[site(robots)],
            as_of="now",
            max_pages=5,
            rate_per_s=100,
            allow_private_hosts=["127.0.0.1"],
        ),
        timeout=30,
    )
    error = failure(channel, operation)
    assert isinstance(error, NotFound), error
    assert why in str(error)


def test_an_unknown_checkpoint_is_not_found(reach):
    request = evaluator_pb2.ExamineRequest(
        request_id="bad-checkpoint",
        checkpoint_id="0" * 64,
        exam_id="1" * 64,
        half=evaluator_pb2.HALF_DIAGNOSIS,
    )
    with pytest.raises(NotFound, match="0000"):
        evaluator_pb2_grpc.EvaluatorServiceStub(reach("evaluator")).Examine(request, timeout=30)


@pytest.mark.parametrize("key", ["[0, 1]", "[]", "null", "7"])
def test_an_exam_without_exactly_one_key_is_refused_by_its_line(reach, tmp_path, key):
    good = '{"stem": "one", "options": [" a", " b"], "key": 0}\n'
    bad = f'{{"stem": "two", "options": [" a", " b"], "key": {key}}}\n'
    (tmp_path / "exam.jsonl").write_text(good + bad)
    request = evaluator_pb2.ImportExamRequest(
        request_id=f"bad-key-{key}", path=str(tmp_path / "exam.jsonl"), as_of="now", name="bad"
    )
    with pytest.raises(InvalidInput, match=r"(line 2|:2)"):
        evaluator_pb2_grpc.EvaluatorServiceStub(reach("evaluator")).ImportExam(request, timeout=30)


def test_a_request_id_cannot_name_another_request(reach, tmp_path):
    calls = corpus_pb2_grpc.CorpusServiceStub(reach("corpus"))
    (tmp_path / "a.txt").write_text("word " * 50)
    first = corpus_pb2.ReadFolderRequest(request_id="twice", path=str(tmp_path), as_of="now")
    other = corpus_pb2.ReadFolderRequest(request_id="twice", path=str(tmp_path), as_of="later")
    assert calls.ReadFolder(first, timeout=30).name == calls.ReadFolder(first, timeout=30).name
    with pytest.raises(Conflict, match="twice"):
        calls.ReadFolder(other, timeout=30)


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        ("recipe: nonesuch\n", "nonesuch"),
        ("steps:\n  a: {rpc: corpus.Crwal, with: {}}\n", "Crwal"),
        (
            "steps:\n"
            "  a: {rpc: sampler.Tokenize, with: {passages_id: b, tokenizer_id: b}}\n"
            "  b: {rpc: corpus.Index, with: {documents_id: a, exam_set_id: a}}\n",
            "a -> b -> a",
        ),
    ],
    ids=["unknown recipe", "unknown rpc", "cycle"],
)
def test_a_wrong_recipe_is_refused_before_anything_runs(rounds, recipe, why):
    request = loop_pb2.CheckRecipeRequest(recipe_yaml=recipe)
    assert why in " ".join(rounds.client.loop.CheckRecipe(request, timeout=30).faults)


def athanor(home: Path, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [ROOT / "athanor", *arguments],
        env={**os.environ, "ATHANOR_HOME": str(home), **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("how", ["--foreground", "--detach"])
def test_a_second_launcher_on_one_folder_is_refused_in_one_line(rounds, how):
    done = athanor(rounds.home, "up", how)
    assert done.returncode == 1
    assert done.stderr.startswith("Conflict: ")
    assert "Traceback" not in done.stderr


def test_a_setting_with_an_unknown_name_is_refused_with_the_nearest(tmp_path):
    done = athanor(tmp_path, "up", "--foreground", "--only", "corpus", CORPUS_MAX_INDEXS="3")
    assert done.returncode == 1
    assert "CORPUS_MAX_INDEXES" in done.stderr
