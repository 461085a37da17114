"""What a collection would have found beside an index, over a real one."""

import pytest

from libs.search.port import Entry
from libs.search.tantivy import TantivySearch
from services.corpus.collect import Limits, ask
from services.corpus.queries import Kind, Query
from services.corpus.unindexed import missed

from .test_collect import ROWS, SEEDS, TOPICS, row, text

LEFT_OUT = [row(topic, text(topic, 100 + n)) for topic in TOPICS for n in range(20)]


def searched(folder, rows, *, top_k=20):
    index = TantivySearch(folder).index("i")
    index.add(Entry(id_, each["text"]) for id_, each in rows.items())
    return ask(SEEDS, rows, index, Limits(rounds=1, top_k=top_k), lambda *_: None)


def test_what_was_left_out_about_the_topic_is_missed_and_the_rest_is_not(tmp_path):
    asked = searched(tmp_path, ROWS)
    found = [each["topic"] for each in missed(asked, LEFT_OUT, ROWS.values(), top_k=20)]
    assert found.count("numbers") >= 15
    assert found.count("numbers") >= 0.9 * len(found)


def test_of_equal_passages_beside_and_in_the_index_both_are_found(tmp_path):
    asked = searched(tmp_path, ROWS)
    hits = {hit.id for hits in asked.hits for hit in hits}
    copies = [ROWS[id_] for id_ in sorted(hits)]
    assert missed(asked, copies, ROWS.values(), top_k=20) == copies


def test_what_no_query_would_have_taken_is_not_missed(tmp_path):
    asked = searched(tmp_path, ROWS)
    hits = {hit.id for hits in asked.hits for hit in hits}
    others = [each for id_, each in ROWS.items() if id_ not in hits]
    assert others
    assert missed(asked, others, ROWS.values(), top_k=20) == []


def test_nothing_left_out_is_nothing_missed(tmp_path):
    assert missed(searched(tmp_path, ROWS), [], ROWS.values(), top_k=20) == []


@pytest.mark.parametrize(("words", "number"), [("zeta eta theta", 1), ("iota kappa", 0)])
def test_where_the_index_has_nothing_any_word_in_common_is_enough(tmp_path, words, number):
    index = TantivySearch(tmp_path).index("i")
    index.add([Entry("a", "alpha beta gamma")])
    rows = {"a": row("files", "alpha beta gamma")}
    seed = Query(text="zeta lambda mu", kind=Kind.SEED, topic="files", item_id="i")
    asked = ask([seed], rows, index, Limits(rounds=1), lambda *_: None)
    found = missed(asked, [row("files", words)], rows.values(), top_k=20)
    assert len(found) == number
