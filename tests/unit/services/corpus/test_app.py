"""The whole service over real channels, with the embedded adapters."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from athanor.common.v1 import operations_pb2 as common_pb2
from athanor.corpus.v1 import corpus_pb2, corpus_pb2_grpc, events_pb2
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration

from libs import rpc
from libs.artifacts import Artifact, Artifacts
from libs.blobs.folder import FolderBlobs
from libs.bus.events import parse
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.errors import Conflict, InvalidInput, NotFound
from libs.formats import (
    DOCUMENTS,
    EXAM_TEXTS,
    HITS,
    HOLDOUT,
    PASSAGES,
    QUERIES,
    REFUSALS,
    Certificate,
    ids_sha256,
    read_json,
    read_rows,
    write_json,
    write_table,
)
from libs.manifest import Request
from libs.search.tantivy import TantivySearch
from services.corpus.adapters import HttpFetcher
from services.corpus.app import build
from services.corpus.config import Config
from services.corpus.topics import DOCUMENTS_READ, PASSAGES_COLLECTED

from .conftest import Reply, Site, page, prose
from .test_collect import TOPICS, text


@dataclass
class Corpus:
    """A running service and what a caller needs of it."""

    calls: corpus_pb2_grpc.CorpusServiceStub
    operations: operations_pb2_grpc.OperationsStub
    artifacts: Artifacts
    bus: SqliteBus
    root: Path

    def result(self, operation: operations_pb2.Operation) -> common_pb2.StepResult:
        """Wait for an operation; its error is raised as ours."""
        asked = operations_pb2.WaitOperationRequest(
            name=operation.name, timeout=Duration(seconds=20)
        )
        ended = self.operations.WaitOperation(asked, timeout=30)
        assert ended.done, "the operation did not end in time"
        if ended.HasField("error"):
            raise {3: InvalidInput, 5: NotFound}[ended.error.code](ended.error.message)
        found = common_pb2.StepResult()
        assert ended.response.Unpack(found)
        return found

    def artifact(self, result: common_pb2.StepResult) -> Artifact:
        return self.artifacts.open(result.artifact_id)

    def made(self, kind: str, **tables: Any) -> str:
        """Make an artifact as another service would."""
        folder = self.root / kind
        folder.mkdir()
        for name, (schema, rows) in tables.items():
            write_table(folder / f"{name}.parquet", schema, rows)
        write_json(folder / f"{kind}.json", {})
        asked = Request(kind=kind, inputs={}, parameters={}, recipe_version=1)
        return self.artifacts.create(asked, folder, run={})


@pytest.fixture
def corpus(tmp_path, site) -> Iterator[Corpus]:
    blobs = FolderBlobs(tmp_path / "blobs")
    bus = SqliteBus(tmp_path / "bus.sqlite")
    service = build(
        Config(home=tmp_path / "home"),
        blobs=blobs,
        bus=bus,
        clock=Clock(),
        search=TantivySearch(tmp_path / "index"),
        fetchers=partial(HttpFetcher, hosts={"site.example": ("127.0.0.1", site.port)}),
    )
    service.start()
    with rpc.connect(service.address) as channel:
        yield Corpus(
            corpus_pb2_grpc.CorpusServiceStub(channel),
            operations_pb2_grpc.OperationsStub(channel),
            Artifacts(blobs),
            bus,
            tmp_path,
        )
    service.stop(grace_s=1)
    bus.close()


@pytest.fixture
def folder(tmp_path) -> Path:
    """A document a topic, thirty passages each."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for topic in TOPICS:
        body = "\n\n".join(text(topic, number) for number in range(30))
        (folder / f"{topic}.txt").write_text(body)
    return folder


def read_folder(folder: Path, request_id: str = "r1") -> corpus_pb2.ReadFolderRequest:
    return corpus_pb2.ReadFolderRequest(request_id=request_id, path=str(folder), as_of="now")


def crawl(site: Site, **fields: Any) -> corpus_pb2.CrawlRequest:
    given = {
        "request_id": "c1",
        "seeds": ["http://site.example/"],
        "as_of": "now",
        "max_pages": 20,
        "max_depth": 3,
        "rate_per_s": 500,
        "allow_private_hosts": ["site.example"],
        "topics_by_path": {"/numbers.html": "numbers"},
    }
    return corpus_pb2.CrawlRequest(**given | fields)


def test_a_folder_becomes_an_index_a_collection_and_answers(corpus, folder):
    read = corpus.result(corpus.calls.ReadFolder(read_folder(folder), timeout=10))
    passages = read_rows(corpus.artifact(read).path("passages.parquet"), PASSAGES)
    held_out = [row for row in passages if "numbers" in row["url"]][:4]
    stems = [" ".join(row["text"].split()[:25]) for row in held_out]
    exam_set = corpus.made(
        "exam_set",
        exam_texts=(
            EXAM_TEXTS,
            [{"item_id": f"i{n}", "exam_id": "e", "text": stem} for n, stem in enumerate(stems)],
        ),
        holdout=(HOLDOUT, [{"passage_id": row["passage_id"]} for row in held_out[:2]]),
    )
    indexed = corpus.result(
        corpus.calls.Index(
            corpus_pb2.IndexRequest(
                request_id="i1", documents_id=read.artifact_id, exam_set_id=exam_set
            ),
            timeout=10,
        )
    )
    check_index(corpus.artifact(indexed), exam_set, len(passages))
    check_search(corpus, indexed.artifact_id)
    seeds = [
        {
            "query_id": f"q{n}",
            "text": stem,
            "kind": "seed",
            "parent_id": "",
            "topic": "numbers",
            "item_id": f"i{n}",
            "depth": 0,
        }
        for n, stem in enumerate(stems)
    ]
    request = corpus_pb2.CollectRequest(
        request_id="k1",
        passages_id=indexed.artifact_id,
        diagnosis_id=corpus.made("diagnosis", seeds=(QUERIES, seeds)),
        exam_set_id=exam_set,
        max_passages=20,
        min_words=500,
    )
    # Two of the topic's passages overlap the exam, more than one in twenty that are found.
    with pytest.raises(InvalidInput, match="the exam lies in the corpus: 2 of"):
        corpus.result(corpus.calls.Collect(request, timeout=10))
    request.request_id, request.max_contaminated_share = "k1 again", 0.5
    collected = corpus.result(corpus.calls.Collect(request, timeout=10))
    assert collected.outcome == ""
    check_collection(corpus.artifact(collected), exam_set)
    check_events(corpus, read.artifact_id, collected.artifact_id)
    request.request_id, request.min_words = "k2", 10**6
    starved = corpus.result(corpus.calls.Collect(request, timeout=10))
    assert starved.outcome == "starved"
    assert "1,000,000 are needed" in starved.reason


def check_index(artifact: Artifact, exam_set: str, num_passages: int) -> None:
    rows = read_rows(artifact.path("passages.parquet"), PASSAGES)
    refusals = read_rows(artifact.path("refusals.parquet"), REFUSALS)
    assert len(rows) == num_passages - 4
    assert sorted(row["reason"] for row in refusals) == ["contaminated"] * 2 + ["held_out"] * 2
    certificate = Certificate.read(artifact.path("certificate.json"))
    assert certificate.passages_sha256 == ids_sha256(row["passage_id"] for row in rows)
    assert certificate.exam_set_id == exam_set
    assert (certificate.num_passages, certificate.num_dropped) == (len(rows), 4)


def check_search(corpus: Corpus, passages_id: str) -> None:
    asked = corpus_pb2.SearchRequest(
        passages_id=passages_id, queries=[text("files", 3), ""], top_k=3
    )
    found = corpus.calls.Search(asked, timeout=10).results
    assert [len(each.hits) for each in found] == [3, 0]
    assert found[0].hits[0].text == text("files", 3)
    with pytest.raises(InvalidInput, match="queries"):
        corpus.calls.Search(corpus_pb2.SearchRequest(passages_id=passages_id), timeout=10)
    with pytest.raises(NotFound):
        corpus.calls.Search(
            corpus_pb2.SearchRequest(passages_id="0" * 64, queries=["x"]), timeout=10
        )


def check_collection(artifact: Artifact, exam_set: str) -> None:
    rows = read_rows(artifact.path("passages.parquet"), PASSAGES)
    queries = {row["query_id"]: row for row in read_rows(artifact.path("queries.parquet"), QUERIES)}
    hits = read_rows(artifact.path("hits.parquet"), HITS)
    certificate = Certificate.read(artifact.path("certificate.json"))
    assert len(rows) == 20
    assert sum("numbers" in row["url"] for row in rows) >= 18
    assert {row["passage_id"] for row in rows} <= {hit["passage_id"] for hit in hits}
    assert {hit["query_id"] for hit in hits} <= set(queries)
    assert certificate.passages_sha256 == ids_sha256(row["passage_id"] for row in rows)
    assert certificate.exam_set_id == exam_set
    titles = [block["title"] for block in read_json(artifact.path("blocks.json"))]
    assert titles[-2:] == ["Refused, by reason", "How passages were found"]


def check_events(corpus: Corpus, documents_id: str, passages_id: str) -> None:
    with corpus.bus.subscribe(
        [DOCUMENTS_READ.name, PASSAGES_COLLECTED.name], group="t"
    ) as consumer:
        messages = [consumer.poll(1.0), consumer.poll(1.0)]
    by_topic = {message.topic: message for message in messages if message is not None}
    read = parse(by_topic[DOCUMENTS_READ.name], events_pb2.DocumentsRead).payload
    collected = parse(by_topic[PASSAGES_COLLECTED.name], events_pb2.PassagesCollected).payload
    assert (read.artifact_id, read.num_documents) == (documents_id, 3)
    assert (collected.artifact_id, collected.num_passages) == (passages_id, 20)


def test_a_site_becomes_documents_under_its_name(corpus, site):
    site.replies = {
        "/": page("Home", prose(1), links=("/numbers.html", "/copy", "/gone")),
        "/numbers.html": page("Numbers", prose(2)),
        "/copy": page("Copy", prose(2)),
    }
    result = corpus.result(corpus.calls.Crawl(crawl(site), timeout=10))
    made = corpus.artifact(result)
    documents = read_rows(made.path("documents.parquet"), DOCUMENTS)
    assert {(row["url"], row["topic"]) for row in documents} == {
        ("http://site.example/", ""),
        ("http://site.example/numbers.html", "numbers"),
    }
    refusals = read_rows(made.path("refusals.parquet"), REFUSALS)
    assert {row["id"]: row["reason"] for row in refusals} == {
        "http://site.example/copy": "duplicate",
        "http://site.example/gone": "not_found",
    }
    assert dict(result.figures)["num_documents"] == 2
    assert made.run()["pages_per_second"] > 0
    ours = b"".join(made.path(file.name).read_bytes() for file in made.manifest.files)
    assert str(site.port).encode() not in ours


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ({"/robots.txt": Reply(b"User-agent: *\nDisallow: /")}, "robots.txt forbids it"),
        ({"/": Reply(b"<p></p>", headers={"Content-Type": "text/html"})}, "empty"),
        ({}, "answered 404"),
    ],
)
def test_a_crawl_without_a_page_says_why(corpus, site, replies, why):
    site.replies = replies
    with pytest.raises(NotFound, match=f"no page could be read.*{why}"):
        corpus.result(corpus.calls.Crawl(crawl(site), timeout=10))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"seeds": ["ftp://e.org/"]}, "seed"),
        ({"max_pages": 0}, "max_pages"),
        ({"rate_per_s": -1}, "rate_per_s"),
        ({"passage_min_words": 100, "passage_max_words": 120}, "twice"),
    ],
)
def test_a_crawl_that_cannot_succeed_is_refused_at_once(corpus, site, fields, why):
    with pytest.raises(InvalidInput, match=why):
        corpus.calls.Crawl(crawl(site, **fields), timeout=10)


def test_a_dry_run_tells_what_a_crawl_would_do(corpus, site):
    operation = corpus.calls.Crawl(crawl(site), timeout=10, metadata=[("athanor-dry-run", "1")])
    metadata = common_pb2.OperationMetadata()
    assert operation.metadata.Unpack(metadata)
    assert "at most 20 pages from http://site.example" in metadata.progress.message
    assert site.asked == []


def test_the_same_request_costs_nothing_and_another_under_its_id_is_refused(corpus, folder):
    first = corpus.result(corpus.calls.ReadFolder(read_folder(folder), timeout=10))
    again = corpus.result(corpus.calls.ReadFolder(read_folder(folder, "r2"), timeout=10))
    assert (again.artifact_id, again.cached) == (first.artifact_id, True)
    other = corpus_pb2.ReadFolderRequest(request_id="r1", path=str(folder), as_of="later")
    with pytest.raises(Conflict):
        corpus.calls.ReadFolder(other, timeout=10)


def test_a_folder_that_is_not_there_is_not_found_at_once(corpus, tmp_path):
    with pytest.raises(NotFound, match="no folder"):
        corpus.calls.ReadFolder(read_folder(tmp_path / "absent"), timeout=10)


def test_a_forgotten_document_is_found_no_more_and_the_same_reading_is_without_it(corpus, folder):
    read = corpus.result(corpus.calls.ReadFolder(read_folder(folder), timeout=10))
    exam_set = corpus.made("exam_set", exam_texts=(EXAM_TEXTS, []), holdout=(HOLDOUT, []))

    def index(documents_id: str) -> str:
        asked = corpus_pb2.IndexRequest(documents_id=documents_id, exam_set_id=exam_set)
        return corpus.result(corpus.calls.Index(asked, timeout=10)).artifact_id

    def search(passages_id: str) -> set[str]:
        asked = corpus_pb2.SearchRequest(passages_id=passages_id, queries=[text("files", 3)])
        (found,) = corpus.calls.Search(asked, timeout=10).results
        return {hit.text for hit in found.hits}

    indexed = index(read.artifact_id)
    assert text("files", 3) in search(indexed)
    rows = read_rows(corpus.artifact(read).path("documents.parquet"), DOCUMENTS)
    (url,) = [row["url"] for row in rows if "files" in row["url"]]
    asked = corpus_pb2.ForgetDocumentRequest(request_id="f", document=url, as_of="now")
    stone = corpus.result(corpus.calls.ForgetDocument(asked, timeout=10))
    assert (stone.kind, stone.figures["num_replaced"]) == ("tombstone", 2)
    with pytest.raises(NotFound, match="was forgotten"):
        search(indexed)
    again = corpus.result(corpus.calls.ReadFolder(read_folder(folder, "r2"), timeout=10))
    assert again.artifact_id != read.artifact_id
    assert text("files", 3) not in search(index(again.artifact_id))


def test_a_document_that_nothing_holds_cannot_be_forgotten(corpus):
    asked = corpus_pb2.ForgetDocumentRequest(document="http://nowhere/", as_of="now")
    with pytest.raises(NotFound, match="http://nowhere/"):
        corpus.result(corpus.calls.ForgetDocument(asked, timeout=10))
