"""gRPC in, gRPC out: long calls become operations, Search is answered at once."""

from typing import Protocol

import grpc
from athanor.corpus.v1 import corpus_pb2, corpus_pb2_grpc
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from libs.artifacts import Artifacts
from libs.errors import InvalidInput
from libs.search.port import Hit
from services.corpus import metrics
from services.corpus.shelf import Opened, Shelf

_DEFAULT_TOP_K = 10
_MAX_TOP_K = 1000
_MAX_QUERIES = 1000


class Starter(Protocol):
    """Turns a long call into an operation."""

    def start(
        self, method: str, request: Message, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        """Record it, wake a worker, and return it."""
        ...


class CorpusServicer(corpus_pb2_grpc.CorpusServiceServicer):
    """Failures leave as `ServiceError`; `libs.rpc` gives them their status."""

    def __init__(self, operations: Starter, artifacts: Artifacts, shelf: Shelf) -> None:
        self._operations, self._artifacts, self._shelf = operations, artifacts, shelf

    def Crawl(
        self, request: corpus_pb2.CrawlRequest, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        return self._operations.start("Crawl", request, context)

    def ReadFolder(
        self, request: corpus_pb2.ReadFolderRequest, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        return self._operations.start("ReadFolder", request, context)

    def Index(
        self, request: corpus_pb2.IndexRequest, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        return self._operations.start("Index", request, context)

    def Collect(
        self, request: corpus_pb2.CollectRequest, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        return self._operations.start("Collect", request, context)

    def ForgetDocument(
        self, request: corpus_pb2.ForgetDocumentRequest, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        return self._operations.start("ForgetDocument", request, context)

    def Search(
        self, request: corpus_pb2.SearchRequest, context: grpc.ServicerContext
    ) -> corpus_pb2.SearchResponse:
        top_k = request.top_k or _DEFAULT_TOP_K
        if not 0 < len(request.queries) <= _MAX_QUERIES:
            raise InvalidInput(f"expected 1 to {_MAX_QUERIES} queries, got {len(request.queries)}")
        if top_k > _MAX_TOP_K:
            raise InvalidInput(f"top_k must be at most {_MAX_TOP_K}, got {top_k}")
        with metrics.SEARCH_LATENCY.time():
            opened = self._shelf.open(self._artifacts.open(request.passages_id, kind="passages"))
            lists = opened.index.search(request.queries, top_k=top_k)
        metrics.QUERIES_ANSWERED.labels("search").inc(len(lists))
        return corpus_pb2.SearchResponse(
            results=[
                corpus_pb2.SearchResult(hits=[_hit(hit, opened) for hit in hits]) for hits in lists
            ]
        )


def _hit(hit: Hit, opened: Opened) -> corpus_pb2.SearchHit:
    row = opened.passages[hit.id]
    return corpus_pb2.SearchHit(
        passage_id=hit.id, document_id=row["document_id"], score=hit.score, text=row["text"]
    )
