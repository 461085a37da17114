"""On real documents both engines give one list, and it is the exhaustive one."""

import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest
import tantivy
from elasticsearch import Elasticsearch

from libs.search.elasticsearch import ElasticsearchSearch
from libs.search.port import Entry, Hit
from libs.search.rank import K1, Statistics, order, score
from libs.search.tantivy import TantivySearch
from libs.words import terms
from tests import indexes

DATA = Path(os.environ.get("ATHANOR_DATA", Path(__file__).parents[3] / "shared" / "data"))
PILE = DATA / "domains" / "toy_pile_1000.jsonl"
TOP_K = 100
FACTOR = K1 + 1
"""Of the raw scores of both engines."""

pytestmark = pytest.mark.skipif(
    not PILE.exists(), reason=f"no {PILE.name}: set ATHANOR_DATA to a folder with domains/"
)


def name(number):
    return f"document-{number:04}"


class Exhaustive:
    """BM25 in float64 of every document, without an engine."""

    def __init__(self, entries):
        self._frequencies = {entry.id: Counter(terms(entry.text)) for entry in entries}
        counts = Counter(term for each in self._frequencies.values() for term in each)
        self._statistics = Statistics(
            num_documents=len(entries),
            total_length=sum(each.total() for each in self._frequencies.values()),
            document_frequencies=counts,
        )

    def search(self, query):
        wanted = Counter(terms(query))
        scored = (
            Hit(id_, score(wanted, each, each.total(), self._statistics))
            for id_, each in self._frequencies.items()
        )
        return order(hit for hit in scored if hit.score > 0)[:TOP_K]


@pytest.fixture(scope="module")
def entries():
    with PILE.open(encoding="utf-8") as lines:
        texts = [json.loads(line)["contents"] for line in lines]
    return [Entry(name(number), text) for number, text in enumerate(texts)]


@pytest.fixture(scope="module")
def queries(entries):
    """Two hundred runs of 1 to 40 words of real documents, a stop word, and a whole document."""
    rng = random.Random(5)
    found = ["the", entries[7].text]
    while len(found) < 200:
        words = rng.choice(entries).text.split()
        start, size = rng.randrange(len(words)), rng.choice([1, 2, 5, 12, 40])
        found.append(" ".join(words[start : start + size]))
    return found


@pytest.fixture(scope="module")
def expected(entries, queries):
    exhaustive = Exhaustive(entries)
    return [exhaustive.search(query) for query in queries]


@pytest.fixture(scope="module")
def url(stack):
    return stack["ATHANOR_ELASTICSEARCH"]


@pytest.fixture(scope="module")
def namespace(url):
    with indexes.fresh_namespace(url) as namespace:
        yield namespace


@pytest.fixture(scope="module")
def engines(url, namespace, entries, tmp_path_factory):
    """Both adapters with the documents in the index `real`, by name, and tantivy's folder."""
    folder = tmp_path_factory.mktemp("index")
    found = {
        "tantivy": TantivySearch(folder),
        "elasticsearch": ElasticsearchSearch(url, namespace=namespace),
    }
    for engine in found.values():
        engine.rebuild("real", entries)
    return found, folder


def test_both_engines_give_the_exhaustive_lists_to_the_last_bit(engines, queries, expected):
    assert sum(map(len, expected)) > 15_000
    for engine in engines[0].values():
        assert engine.index("real").search(queries, top_k=TOP_K) == expected


def test_several_shards_give_the_same_lists(url, queries, entries, expected):
    with indexes.elasticsearch(url, num_shards=3) as search:
        search.rebuild("real", entries)
        assert search.index("real").search(queries, top_k=TOP_K) == expected


def test_lists_are_exhaustive_while_the_engines_still_count_what_was_removed(
    engines, queries, entries
):
    kept = entries[300:]
    exhaustive = Exhaustive(kept)
    expected = [exhaustive.search(query) for query in queries[:100]]
    for engine in engines[0].values():
        index = engine.index("removed")
        index.add(entries)
        index.delete(entry.id for entry in entries[:300])
        assert index.search(queries[:100], top_k=TOP_K) == expected


def test_raw_scores_agree_within_1e_4_and_never_fall_short_of_the_exact_ones(
    engines, url, namespace, entries, queries
):
    """They do not equal them, nor do their lists: both engines round lengths down."""
    exhaustive = Exhaustive(entries)
    num_wrong = 0
    with Elasticsearch(url) as client:
        for query in queries[:100]:
            exact = exhaustive.search(query)
            ours = raw_tantivy(engines[1], query)
            real = raw_elasticsearch(client, f"{namespace}real", query)
            both = ours.keys() & real.keys()
            assert len(both) >= 0.9 * len(exact)
            assert all(abs(ours[id_] - real[id_]) <= 1e-4 for id_ in both)
            assert all(ours[h.id] > h.score * (1 - 1e-4) for h in exact if h.id in ours)
            num_wrong += [hit.id for hit in exact] != list(ours)
    assert num_wrong > 50


def raw_tantivy(folder, query):
    index = tantivy.Index.open(str(folder / "real" / "engine"))
    searcher = index.searcher()
    parts = []
    for term, times in Counter(terms(query)).items():
        part = tantivy.Query.term_query(index.schema, "terms", term, "freq")
        parts.append((tantivy.Occur.Should, tantivy.Query.boost_query(part, float(times))))
    found = searcher.search(tantivy.Query.boolean_query(parts), TOP_K).hits
    numbers = searcher.fast_field_values("number", [address for _, address in found])
    # The ledger numbers entries from 1, in the order they were added.
    return {
        name(number - 1): score / FACTOR for (score, _), number in zip(found, numbers, strict=True)
    }


def raw_elasticsearch(client, alias, query):
    match = {"terms": {"query": " ".join(terms(query)), "analyzer": "whitespace"}}
    answer = client.search(index=alias, query={"match": match}, size=TOP_K, source=["id"])
    return {hit["_source"]["id"]: hit["_score"] / FACTOR for hit in answer["hits"]["hits"]}
