"""Collecting for weak topics, over a real index."""

import random
from typing import Any

import pytest

from libs.errors import InvalidInput
from libs.search.port import Entry, Hit, Index
from libs.search.tantivy import TantivySearch
from libs.words import words
from services.corpus.collect import Asked, Limits, ask, sift
from services.corpus.decontaminate import Exams
from services.corpus.fusion import fuse
from services.corpus.queries import Kind, Query
from services.corpus.records import passage_id
from services.corpus.refusals import Reason

TOPICS = ("networking", "numbers", "files")


def text(topic: str, number: int, num_words: int = 50) -> str:
    """A passage in its topic's own vocabulary, with some words that all topics share."""
    rng = random.Random(f"{topic} {number}")
    own = [f"{topic}{rng.randrange(80)}" for _ in range(num_words)]
    return " ".join(word if rng.random() < 0.7 else f"common{rng.randrange(60)}" for word in own)


def row(topic: str, content: str) -> dict[str, Any]:
    return {
        "passage_id": passage_id(words(content)),
        "document_id": "d",
        "url": f"http://e/{topic}",
        "topic": topic,
        "position": 0,
        "num_words": len(words(content)),
        "text": content,
    }


ROWS = {
    each["passage_id"]: each
    for each in [row(topic, text(topic, n)) for topic in TOPICS for n in range(60)]
}
SEEDS = [
    Query(text=text("numbers", 1000 + n, 20), kind=Kind.SEED, topic="numbers", item_id=f"i{n}")
    for n in range(8)
]
NO_EXAMS = Exams([])


@pytest.fixture
def index(tmp_path) -> Index:
    found = TantivySearch(tmp_path).index("i")
    found.add(Entry(id_, each["text"]) for id_, each in ROWS.items())
    return found


def asked(index: Index, **limits: Any) -> Asked:
    return ask(SEEDS, ROWS, index, Limits(**limits), lambda *_: None)


def test_what_is_collected_is_mostly_of_the_weak_topic(index):
    kept = sift(asked(index), ROWS, NO_EXAMS, Limits(max_passages=40))
    topics = [each["topic"] for each in kept.rows]
    assert len(topics) == 40
    assert topics.count("numbers") >= 36


def test_what_was_found_is_told_best_first(index):
    found = asked(index)
    fused = fuse([[hit.id for hit in hits] for hits in found.hits])
    assert sift(found, ROWS, NO_EXAMS, Limits()).found == [each.id for each in fused]


def test_every_query_but_a_seed_names_its_parent_and_its_item(index):
    found = asked(index, rounds=3)
    by_id = {query.id: query for query in found.queries}
    assert len(by_id) == len(found.queries)
    for query in found.queries:
        assert (query.parent_id == "") == (query.kind is Kind.SEED)
        if query.parent_id:
            assert by_id[query.parent_id].depth == query.depth - 1
            assert by_id[query.parent_id].item_id == query.item_id


def test_feedback_is_asked_from_the_second_round_on(index):
    first, second = asked(index, rounds=1), asked(index, rounds=2)
    assert not [query for query in first.queries if query.kind is Kind.FEEDBACK]
    assert second.queries[: len(first.queries)] == first.queries
    assert [query for query in second.queries if query.kind is Kind.FEEDBACK]


def test_hits_keep_query_rank_and_score(index):
    found = asked(index, top_k=5)
    rows = found.hit_rows()
    assert max(each["rank"] for each in rows) == 5
    assert rows == sorted(rows, key=lambda r: (r["passage_id"], r["query_id"], r["rank"]))
    best = {query.id: hits[0].score for query, hits in zip(found.queries, found.hits, strict=True)}
    assert all(each["score"] >= 0.3 * best[each["query_id"]] for each in rows)


def test_progress_is_reported(index):
    told: list[tuple[int, int]] = []
    found = ask(SEEDS, ROWS, index, Limits(), lambda *each: told.append(each))
    assert sum(told[-1]) == len(found.queries)


def hits_on(rows: list[dict[str, Any]]) -> Asked:
    """One query that found exactly these, best first."""
    hits = [Hit(each["passage_id"], 1.0) for each in rows]
    return Asked(queries=SEEDS[:1], hits=[hits])


def test_every_refusal_has_its_reason():
    good, late = row("files", text("files", 1)), row("files", text("files", 2))
    rows = {
        "good": good,
        "repetitive": row("files", "again and again " * 20),
        "symbols": row("files", "a == 1; b += 2; {c: [3]} >>= (5) && ((6)) || 7 ** 8 %% 9 ~~ ^^"),
        "long": row("files", " ".join(letter * 20 for letter in "abcdefghijklmno")),
        "twin": row("files", good["text"] + " end"),
        "exam": row("files", text("files", 3)),
        "late": late,
    }
    stem = " ".join(rows["exam"]["text"].split()[:15])
    exams = Exams([{"item_id": "i", "exam_id": "e", "text": stem}])
    passages = {each["passage_id"]: each for each in rows.values()}
    kept = sift(hits_on(list(rows.values())), passages, exams, Limits(max_contaminated_share=0.5))
    reasons = {refusal.id: refusal.reason for refusal in kept.refusals}
    assert {name: reasons.get(each["passage_id"]) for name, each in rows.items()} == {
        "good": None,
        "repetitive": Reason.REPETITIVE,
        "symbols": Reason.SYMBOLS,
        "long": Reason.LONG_WORDS,
        "twin": Reason.NEAR_DUPLICATE,
        "exam": Reason.CONTAMINATED,
        "late": None,
    }
    few = sift(
        hits_on(list(rows.values())),
        passages,
        exams,
        Limits(max_passages=1, max_contaminated_share=0.5),
    )
    assert Reason.OVER_LIMIT in {
        each.reason for each in few.refusals if each.id == late["passage_id"]
    }


def test_of_two_near_duplicates_the_better_found_stays():
    one = row("files", text("files", 1))
    other = row("files", one["text"] + " end")
    passages = {each["passage_id"]: each for each in (one, other)}
    for order in ([one, other], [other, one]):
        assert sift(hits_on(order), passages, NO_EXAMS, Limits()).rows == [order[0]]


def test_an_exam_that_lies_in_the_corpus_stops_the_collection(index):
    found = asked(index)
    exams = Exams(
        {"item_id": id_, "exam_id": "e", "text": each["text"]} for id_, each in ROWS.items()
    )
    with pytest.raises(InvalidInput, match="the exam lies in the corpus"):
        sift(found, ROWS, exams, Limits())


def test_the_share_that_stops_it_is_exact():
    rows = [row("files", text("files", n)) for n in range(20)]
    passages = {each["passage_id"]: each for each in rows}
    exams = Exams([{"item_id": "i", "exam_id": "e", "text": rows[0]["text"]}])
    assert len(sift(hits_on(rows), passages, exams, Limits(max_contaminated_share=0.05)).rows) == 19
    with pytest.raises(InvalidInput):
        sift(hits_on(rows), passages, exams, Limits(max_contaminated_share=0.049))


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"top_k": -1}, {"max_contaminated_share": 1.5}])
def test_limits_outside_of_their_range_are_refused(wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        Limits(**wrong)


def test_what_the_index_left_out_for_an_exam_counts_against_the_share():
    rows = {each["passage_id"]: each for each in [row("files", text("files", n)) for n in range(8)]}
    lost = [row("files", text("files", 100 + n)) for n in range(2)]
    asked = hits_on(list(rows.values()))
    kept = sift(asked, rows, NO_EXAMS, Limits(max_contaminated_share=0.2), missed=lost)
    assert len(kept.rows) == 8
    assert kept.num_refused(Reason.CONTAMINATED) == 2
    with pytest.raises(InvalidInput, match="the exam lies in the corpus: 2 of 10"):
        sift(asked, rows, NO_EXAMS, Limits(max_contaminated_share=0.1), missed=lost)
