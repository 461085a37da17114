"""Which passages may be searched."""

from typing import Any

from libs.words import words
from services.corpus.decontaminate import Exams
from services.corpus.index import index
from services.corpus.records import passage_id
from services.corpus.refusals import Reason

from .conftest import prose


def row(number: int, url: str = "http://e/a", topic: str = "", position: int = 0) -> dict[str, Any]:
    text = prose(number)
    return {
        "passage_id": passage_id(words(text)),
        "document_id": url,
        "url": url,
        "topic": topic,
        "position": position,
        "num_words": 60,
        "text": text,
    }


def exams(*texts: str) -> Exams:
    return Exams([{"item_id": "i", "exam_id": "e", "text": text} for text in texts])


def test_held_out_contaminated_and_repeated_passages_are_refused_by_reason():
    rows = [row(1), row(2), row(3), row(1, "http://e/longer"), row(4)]
    stem = " ".join(rows[1]["text"].split()[:20])
    kept = index(rows, {rows[2]["passage_id"]}, exams(stem), lambda *_: None)
    assert [each["passage_id"] for each in kept.rows] == sorted(
        [rows[0]["passage_id"], rows[4]["passage_id"]]
    )
    assert {(each.id, each.reason) for each in kept.refusals} == {
        (rows[1]["passage_id"], Reason.CONTAMINATED),
        (rows[2]["passage_id"], Reason.HELD_OUT),
        (rows[0]["passage_id"], Reason.DUPLICATE),
    }
    assert kept.num_words == 120


def test_a_repeated_passage_is_kept_as_the_page_that_comes_first():
    rows = [
        row(1, "http://e/long", "topic"),
        row(1, "http://e/b"),
        row(1, "http://e/long", "topic", 3),
    ]
    for order in (rows, rows[::-1]):
        (kept,) = index(order, set(), exams(), lambda *_: None).rows
        assert (kept["url"], kept["position"]) == ("http://e/long", 0)


def test_a_held_out_passage_is_refused_once_however_often_it_stands():
    rows = [row(1), row(1, "http://e/b"), row(1, "http://e/c")]
    kept = index(rows, {rows[0]["passage_id"]}, exams(), lambda *_: None)
    assert kept.rows == []
    assert [each.reason for each in kept.refusals] == [Reason.HELD_OUT]
