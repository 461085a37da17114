"""Documents into tables."""

import random

from libs.formats import DOCUMENTS, PASSAGES, REFUSALS, read_rows
from libs.words import words
from services.corpus.passages import Lengths
from services.corpus.records import Document, passage_id, reading
from services.corpus.refusals import Reason, Refusal

from .conftest import prose

LENGTHS = Lengths(min_words=5, max_words=40)


def document(url: str, text: str, topic: str = "") -> Document:
    return Document(url=url, title="t", text=text, source="crawl", topic=topic)


DOCUMENTS_GIVEN = [
    document("http://e/json-copy.html", prose(1)),
    document("http://e/json.html", prose(1), "data"),
    document("http://e/b", prose(2) + "\n" + prose(3)),
    document("http://e/short", "too short"),
    document("http://e/empty", " "),
]


def test_the_result_does_not_depend_on_the_order_of_the_documents(tmp_path):
    written = []
    for seed in range(3):
        shuffled = random.Random(seed).sample(DOCUMENTS_GIVEN, len(DOCUMENTS_GIVEN))
        folder = tmp_path / str(seed)
        folder.mkdir()
        reading(shuffled, [], LENGTHS).write(folder)
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1] == written[2]


def test_the_tables_have_their_columns_and_their_order(tmp_path):
    reading(DOCUMENTS_GIVEN, [Refusal("z", Reason.ROBOTS, "d")], LENGTHS).write(tmp_path)
    documents = read_rows(tmp_path / "documents.parquet", DOCUMENTS)
    passages = read_rows(tmp_path / "passages.parquet", PASSAGES)
    refusals = read_rows(tmp_path / "refusals.parquet", REFUSALS)
    for rows in (documents, passages, refusals):
        first = next(iter(rows[0]))
        assert [row[first] for row in rows] == sorted(row[first] for row in rows)
    assert {row["document_id"] for row in passages} == {row["document_id"] for row in documents}
    assert sum(row["num_passages"] for row in documents) == len(passages)
    assert [(row["id"], row["reason"]) for row in refusals] == [
        ("http://e/empty", "empty"),
        ("http://e/json-copy.html", "duplicate"),
        ("http://e/short", "too_short"),
        ("z", "robots"),
    ]


def test_of_equal_texts_the_one_with_a_topic_is_kept():
    (row,) = reading(DOCUMENTS_GIVEN[:2], [], LENGTHS).documents
    assert (row["url"], row["topic"]) == ("http://e/json.html", "data")


def test_one_address_is_one_document():
    found = reading(
        [document("http://e/a", prose(1)), document("http://e/a", prose(2))], [], LENGTHS
    )
    assert len(found.documents) == 1
    assert [refusal.reason for refusal in found.refusals] == [Reason.DUPLICATE]


def test_a_passage_id_ignores_case_and_punctuation():
    assert passage_id(words("Hello, World!")) == passage_id(words("hello world"))
