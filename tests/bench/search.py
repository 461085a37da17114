"""The Elasticsearch adapter beside bare elasticsearch-py on the same server.

Both sides index the same terms under the same settings, and answer the same queries in batches.
The peer takes the engine's list as it comes. Only ours also asks for exact statistics in the same
moment of the index, scores twice as many proposals again in float64 and proves that none is
missing; and its rebuild fills a second index and swaps.
"""

import itertools
import random

from elasticsearch import Elasticsearch, helpers

from libs.search.elastic import documents
from libs.search.elasticsearch import ElasticsearchSearch
from libs.search.port import Entry
from libs.words import terms
from tests import indexes, stack
from tests.bench.measure import interleaved, rate
from tests.bench.table import Row

_WORDS = [f"word{rank}x" for rank in range(20_000)]
_TOP_K = 20
_BATCH = 32


def run(quick: bool) -> list[Row]:
    count, batches, repeats = (300, 2, 2) if quick else (5000, 10, 5)
    entries, queries = _entries(count), _queries(batches * _BATCH)
    url = stack.settings()["ATHANOR_ELASTICSEARCH"]
    with indexes.fresh_namespace(url) as namespace, Elasticsearch(url, request_timeout=60) as bare:
        ours = _Ours(ElasticsearchSearch(url, namespace=namespace, deadline_s=60), entries)
        peer = _Peer(bare, f"{namespace}peer", entries)
        fill = interleaved(
            {"ours": rate(ours.fill, count), "peer": rate(peer.fill, count)}, repeats=repeats
        )
        asked = interleaved(
            {
                "ours": rate(lambda: ours.ask(queries), len(queries)),
                "peer": rate(lambda: peer.ask(queries), len(queries)),
            },
            repeats=repeats,
        )
    return [
        Row(
            benchmark=f"search: rebuild of {count:,} passages",
            unit="passages/s",
            peer_name="elasticsearch-py, bulk into a new index",
            **fill,
        ),
        Row(
            benchmark=f"search: {_BATCH} queries at a time, top {_TOP_K}",
            unit="queries/s",
            peer_name="elasticsearch-py, msearch",
            notes="exact in float64 / as the engine scores",
            **asked,
        ),
    ]


def _entries(count: int) -> list[Entry]:
    rng = random.Random(0)
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(len(_WORDS))))
    texts = (" ".join(rng.choices(_WORDS, cum_weights=weights, k=120)) for _ in range(count))
    return [Entry(f"passage-{number}", text) for number, text in enumerate(texts)]


def _queries(count: int) -> list[str]:
    rng = random.Random(1)
    return [" ".join(rng.choices(_WORDS[:5000], k=8)) for _ in range(count)]


def _batches(queries: list[str]) -> list[list[str]]:
    return [queries[start : start + _BATCH] for start in range(0, len(queries), _BATCH)]


class _Ours:
    def __init__(self, search: ElasticsearchSearch, entries: list[Entry]) -> None:
        self._search, self._entries = search, entries

    def fill(self) -> None:
        self._search.rebuild("ours", self._entries)

    def ask(self, queries: list[str]) -> None:
        index = self._search.index("ours")
        for batch in _batches(queries):
            assert len(index.search(batch, top_k=_TOP_K)) == len(batch)


class _Peer:
    def __init__(self, client: Elasticsearch, name: str, entries: list[Entry]) -> None:
        self._client, self._name, self._entries = client, name, entries

    def fill(self) -> None:
        self._client.indices.delete(index=self._name, ignore_unavailable=True)
        self._client.indices.create(
            index=self._name, settings=documents.settings(1), mappings=documents.mappings()
        )
        actions = (
            {"_id": entry.id, "_source": documents.document(entry)} for entry in self._entries
        )
        helpers.bulk(self._client, actions, index=self._name, refresh=True)

    def ask(self, queries: list[str]) -> None:
        for batch in _batches(queries):
            answers = self._client.msearch(searches=self._searches(batch))["responses"]
            assert all(len(each["hits"]["hits"]) for each in answers)

    def _searches(self, batch: list[str]) -> list[dict[str, object]]:
        header = {"index": self._name}
        bodies = [
            {"query": {"match": {"terms": " ".join(terms(query))}}, "size": _TOP_K}
            for query in batch
        ]
        return [line for body in bodies for line in (header, body)]
