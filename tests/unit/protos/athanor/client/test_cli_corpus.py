"""What `corpus forget` asks of the corpus, and what it says of the tombstone."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import grpc
import pytest
import typer
from athanor.client import cli
from athanor.common.v1 import artifacts_pb2, operations_pb2, operations_pb2_grpc
from athanor.corpus.v1 import corpus_pb2_grpc
from google.longrunning import operations_pb2 as longrunning
from typer.testing import CliRunner

ID = "ab" * 32


class Corpus(
    corpus_pb2_grpc.CorpusServiceServicer, operations_pb2_grpc.OperationsWatchServiceServicer
):
    """Forgets at once, and keeps what it was asked."""

    def ForgetDocument(self, request, context):
        self.asked = request
        return longrunning.Operation(name="operations/corpus/f")

    def Watch(self, request, context):
        ended = longrunning.Operation(name=request.name, done=True)
        ended.response.Pack(operations_pb2.StepResult(artifact_id=ID))
        yield ended


class Artifacts:
    """The lineage of a tombstone."""

    def GetLineage(self, request):
        node = artifacts_pb2.LineageNode(artifact_id=request.artifact_id, notes=["plan 12 held it"])
        return artifacts_pb2.GetLineageResponse(nodes=[node])


@pytest.fixture
def corpus():
    servicer = Corpus()
    server = grpc.server(ThreadPoolExecutor(2))
    corpus_pb2_grpc.add_CorpusServiceServicer_to_server(servicer, server)
    operations_pb2_grpc.add_OperationsWatchServiceServicer_to_server(servicer, server)
    servicer.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer
    server.stop(None).wait()


def forget(corpus, *options):
    @contextmanager
    def connection(**opened):
        with grpc.insecure_channel(f"127.0.0.1:{corpus.port}") as channel:
            yield SimpleNamespace(artifacts=Artifacts(), services={"corpus": channel})

    app = typer.Typer()
    cli.add_to(app)
    return CliRunner().invoke(app, ["corpus", "forget", "http://e/a", *options], obj=connection)


def test_a_document_is_forgotten_by_its_address_and_its_holders_are_named(corpus):
    said = forget(corpus)
    assert corpus.asked.document == "http://e/a"
    assert corpus.asked.as_of
    assert said.stdout.splitlines() == ["plan 12 held it", f"tombstone {ID}"]


def test_what_was_forgotten_is_told_as_json(corpus):
    said = json.loads(forget(corpus, "--json").stdout)
    assert said == {"tombstone": ID, "notes": ["plan 12 held it"]}
