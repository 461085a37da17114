"""One moment of an index: exact statistics, and proposals with what the engine counted for them.

All requests go to one point in time, so nothing that is written meanwhile mixes in. Counts are made
by aggregations, which see live entries only; what the engine's score goes by still includes removed
ones, and is read from the explanation that it gives of one hit.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from libs.errors import ServiceError, Unavailable
from libs.search import exact
from libs.search.elastic.documents import frequencies
from libs.search.elastic.server import Gone, Lost, Server
from libs.search.exact import Collection, Proposal, Proposals
from libs.search.port import Hit
from libs.search.rank import Statistics, idf

_KEEP_ALIVE = "1m"
"""How long the server holds the moment after each request."""
_MAX_CLAUSES = 1000
"""Terms of one query; a server may be set to refuse more than 1,024."""
_PAGE = 1000
"""Hits of one answer; more come by further requests."""
_BATCH = 32
"""Queries of one request."""


class Engine(NamedTuple):
    """What the engine's scores go by."""

    num_documents: int
    """With at least one term, removed ones included."""
    mean_length: float
    factor: float
    """What its scores are multiplied by."""


class _Page(NamedTuple):
    hits: Sequence[dict[str, Any]]
    is_last: bool


@contextmanager
def opened(server: Server, alias: str) -> Iterator["Snapshot"]:
    """Give the present moment of an index. Raises `Gone` when there is none.

    All that is asked of it may raise `Lost`: then it is worth opening another.
    """
    with server.errors(f"opening of {alias}"):
        answer = server.client.open_point_in_time(
            index=alias, keep_alive=_KEEP_ALIVE, allow_partial_search_results=False
        )
    snapshot = Snapshot(server, alias, answer["id"])
    try:
        yield snapshot
    finally:
        snapshot.close()


class Snapshot:
    """A point in time of one index."""

    def __init__(self, server: Server, alias: str, id_: str) -> None:
        self._server, self._what, self._id = server, f"search in {alias}", id_

    def close(self) -> None:
        """Let the server forget it; it does so by itself where this fails."""
        with suppress(ServiceError), self._server.errors(self._what):
            self._server.client.close_point_in_time(id=self._id)

    def search(self, queries: Sequence[Sequence[str]], top_k: int) -> list[list[Hit]]:
        """Return for each query, given by its terms, the best `top_k` hits, exactly."""
        found: list[list[Hit]] = []
        for start in range(0, len(queries), _BATCH):
            found += self._batch(queries[start : start + _BATCH], top_k)
        return found

    def __len__(self) -> int:
        return int(self._ask(size=0, track_total_hits=True)["hits"]["total"]["value"])

    def _batch(self, queries: Sequence[Sequence[str]], top_k: int) -> list[list[Hit]]:
        collection = self._collection(sorted({term for query in queries for term in query}))
        wanted = [exact.known(query, collection.statistics) for query in queries]
        first = self._first([query for query in wanted if query], exact.first_limit(top_k))

        def propose(query: Mapping[str, int], limit: int) -> Proposals:
            # What was asked for together answers the first call for each query.
            found = first.pop(_key(query), None)
            return found or self._propose(query, limit)

        return [exact.search(collection, query, top_k, propose) for query in wanted]

    # Statistics.

    def _collection(self, terms: Sequence[str]) -> Collection:
        """Return what is true of the index for these terms, and what the engine goes by."""
        statistics, num_filled = self._statistics(terms)
        present = [term for term, count in statistics.document_frequencies.items() if count]
        if not present:
            return Collection(
                statistics=statistics,
                engine_idf=lambda _: 1.0,
                engine_mean_length=1.0,
                engine_factor=1.0,
            )
        engine = self._engine(present[0])
        num_removed = engine.num_documents - num_filled

        def engine_idf(term: str) -> float:
            # Lowest if all that were removed had the term.
            count = statistics.document_frequencies[term] + num_removed
            return idf(engine.num_documents, count)

        return Collection(
            statistics=statistics,
            engine_idf=engine_idf,
            engine_mean_length=engine.mean_length,
            engine_factor=engine.factor,
        )

    def _statistics(self, terms: Sequence[str]) -> tuple[Statistics, int]:
        """Return exact statistics, and how many entries have a term at all."""
        counts: dict[str, int] = {}
        totals: Mapping[str, Any] = {}
        for part in _parts(terms) or [[]]:
            totals = self._ask(size=0, track_total_hits=True, aggs=_aggregations(part))
            buckets = totals["aggregations"]["terms"]["buckets"] if part else []
            counts |= {t: int(b["doc_count"]) for t, b in zip(part, buckets, strict=True)}
        statistics = Statistics(
            num_documents=int(totals["hits"]["total"]["value"]),
            total_length=int(totals["aggregations"]["length"]["value"]),
            document_frequencies=counts,
        )
        return statistics, int(totals["aggregations"]["filled"]["doc_count"])

    def _engine(self, term: str) -> Engine:
        """Return what the engine says that it goes by, in explaining a hit for this term."""
        answer = self._ask(**_body(_query({term: 1}), size=1), explain=True)
        said = dict(_explained(answer["hits"]["hits"][0]["_explanation"]))
        try:
            return Engine(int(said["N"]), said["avgdl"], said.get("boost", 1.0))
        except KeyError as error:
            server = self._server.name
            raise Unavailable(f"{self._what}: {server} explains no {error} in its BM25") from error

    # Proposals.

    def _first(
        self, queries: Sequence[Mapping[str, int]], limit: int
    ) -> dict[frozenset[tuple[str, int]], Proposals]:
        """Return what one request for all queries proposes, where that is enough to ask."""
        short = [query for query in queries if len(query) <= _MAX_CLAUSES]
        if not short or limit > _PAGE:
            return {}
        bodies = [
            _body(_query(query), size=limit) | {"pit": {"id": self._id, "keep_alive": _KEEP_ALIVE}}
            for query in short
        ]
        header = {"search_type": "dfs_query_then_fetch", "allow_partial_search_results": False}
        with self._errors():
            searches = [line for body in bodies for line in (header, body)]
            answers = self._server.client.msearch(searches=searches)["responses"]
        found = {}
        for query, answer in zip(short, answers, strict=True):
            page = self._page(answer, limit)
            found[_key(query)] = _proposals([[page]])
        return found

    def _propose(self, query: Mapping[str, int], limit: int) -> Proposals:
        """Return at least `limit` proposals, where as many have a term of the query.

        A query of more terms than fit into one is asked in parts: an entry that no part proposes
        scores below the sum of what is last in each.
        """
        terms = list(query)
        parts = [self._pages({t: query[t] for t in part}, limit) for part in _parts(terms)]
        return _proposals(parts)

    def _pages(self, query: Mapping[str, int], limit: int) -> list[_Page]:
        pages: list[_Page] = []
        num_found = 0
        while num_found < limit and not (pages and pages[-1].is_last):
            size = min(_PAGE, limit - num_found)
            body = _body(_query(query), size=size) | {"sort": [{"_score": "desc"}, "_shard_doc"]}
            after = {"search_after": pages[-1].hits[-1]["sort"]} if pages else {}
            pages.append(self._page(self._ask(**body, **after), size))
            num_found += len(pages[-1].hits)
        return pages

    def _page(self, answer: Mapping[str, Any], size: int) -> _Page:
        if "error" in answer:
            raise self._server.error(self._what, answer["status"], answer["error"])
        self._server.require_whole(self._what, answer["_shards"])
        hits = answer["hits"]["hits"]
        return _Page(hits, is_last=len(hits) < size)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with self._server.errors(self._what):
                yield
        except Gone as error:  # deleted since it was opened
            raise Lost(str(error)) from error

    def _ask(self, **body: Any) -> Mapping[str, Any]:
        with self._errors():
            answer = self._server.client.search(
                pit={"id": self._id, "keep_alive": _KEEP_ALIVE},
                # Counts of all shards together, so that several give the scores that one gives.
                search_type="dfs_query_then_fetch",
                allow_partial_search_results=False,
                **body,
            )
        self._server.require_whole(self._what, answer["_shards"])
        return answer.body  # type: ignore[no-any-return]


def _proposals(parts: Sequence[Sequence[_Page]]) -> Proposals:
    """Join the pages of each part of a query."""
    stored = {hit["_id"]: hit["_source"] for pages in parts for page in pages for hit in page.hits}
    best = [Proposal(each["id"], frequencies(each)) for each in stored.values()]
    last = [pages[-1] for pages in parts]
    return Proposals(best, sum(page.hits[-1]["_score"] for page in last if not page.is_last))


def _parts(terms: Sequence[str]) -> list[Sequence[str]]:
    return [terms[start : start + _MAX_CLAUSES] for start in range(0, len(terms), _MAX_CLAUSES)]


def _key(query: Mapping[str, int]) -> frozenset[tuple[str, int]]:
    return frozenset(query.items())


def _body(query: dict[str, Any], *, size: int) -> dict[str, Any]:
    return {"query": query, "size": size, "track_total_hits": False}


def _query(query: Mapping[str, int]) -> dict[str, Any]:
    clauses = [
        {"term": {"terms": {"value": term, "boost": float(times)}}} for term, times in query.items()
    ]
    return {"bool": {"should": clauses}}


def _aggregations(terms: Sequence[str]) -> dict[str, Any]:
    filters = [{"term": {"terms": term}} for term in terms]
    counted = {"terms": {"filters": {"filters": filters}}} if filters else {}
    return counted | {
        "length": {"sum": {"field": "length"}},
        "filled": {"filter": {"exists": {"field": "terms"}}},
    }


def _explained(explanation: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the figures that an explanation of a score names, by the first word of each."""
    yield explanation["description"].partition(",")[0], float(explanation["value"])
    for part in explanation.get("details", ()):
        yield from _explained(part)
