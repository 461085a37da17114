"""JSON lines in: what is read, and what is refused at which line."""

import json

import pytest

from libs.errors import InvalidInput, NotFound
from services.evaluator.import_items import BadItem, import_items

GOOD = {"stem": "Who?", "options": [" me", " you"], "key": 1}


@pytest.fixture
def exam(tmp_path):
    def write(*lines):
        path = tmp_path / "exam.jsonl"
        path.write_bytes(
            b"\n".join(
                line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines
            )
        )
        return path

    return write


def read(exam, line):
    """Read one line beside another that only fills the other half, and comes last by id."""
    items = import_items(exam(line, GOOD | {"id": "~", "stem": "Filler?"}))
    assert len(items) == 2
    return items[0]


def test_an_item_is_read_with_its_defaults(exam):
    item = read(exam, GOOD)
    assert (item.stem, item.options, item.key, item.topic) == ("Who?", (" me", " you"), 1, "")
    assert len(item.item_id) == 64
    assert item.document_id == item.item_id


def test_optional_fields_are_kept(exam):
    item = read(exam, GOOD | {"id": "q1", "topic": "who", "document": "page"})
    assert (item.item_id, item.topic, item.document_id) == ("q1", "who", "page")


@pytest.mark.parametrize(("key", "index"), [(0, 0), ("A", 0), ("b", 1), ([1], 1), (["B"], 1)])
def test_a_key_is_an_index_a_letter_or_a_list_of_one(exam, key, index):
    assert read(exam, GOOD | {"key": key}).key == index


def test_blank_lines_and_a_byte_order_mark_are_skipped(exam):
    assert read(exam, b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\n\n  ").key == 1


def test_items_come_by_id_whatever_the_order_of_lines(exam):
    lines = [GOOD | {"id": name, "stem": f"Who is {name}?"} for name in ("b", "a")]
    assert [item.item_id for item in import_items(exam(*lines))] == ["a", "b"]


FAULTS = [
    ({"key": [0, 1]}, "exactly one key, got 2"),
    ({"key": []}, "exactly one key, got 0"),
    ({"key": None}, "exactly one key, got none"),
    ({"key": 2}, "key must name one of 2 options, got 2"),
    ({"key": -1}, "key must name one of 2 options, got -1"),
    ({"key": "C"}, "key must name one of 2 options, got 'C'"),
    ({"key": "AB"}, "index or a letter"),
    ({"key": True}, "index or a letter"),
    ({"key": 1.0}, "index or a letter"),
    ({"options": [" me", " "]}, "option 1 must not be empty"),
    ({"options": [" me", ""]}, "option 1 must not be empty"),
    ({"options": [" me", 3]}, "option 1 must be a text, got int"),
    ({"options": [" me", "me"]}, "must differ, got 'me' twice"),
    ({"options": [" me"]}, "2 to 10, got 1"),
    ({"options": [f" {n}" for n in range(11)]}, "2 to 10, got 11"),
    ({"options": " me"}, "must be a list"),
    ({"stem": " "}, "stem must not be empty"),
    ({"stem": None}, "stem must be a text, got NoneType"),
    ({"topics": "who"}, r"fields are .* got \['topics'\]"),
    ({"stem": "\ud800"}, "Unicode text"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS, ids=[message for _, message in FAULTS])
def test_a_faulty_item_is_refused_with_its_line(exam, change, message):
    with pytest.raises(BadItem, match=f"exam.jsonl, line 3: .*{message}"):
        import_items(exam(GOOD, b"", GOOD | {"stem": "Other?"} | change))


LINES = [
    (b'{"stem": "\xff"}', "expected UTF-8, got byte 10"),
    (b"stem: who", "expected JSON"),
    (b'{"stem": "who"', "expected JSON"),
    (b'["stem"]', "expected a JSON object, got list"),
    (b'{"key": 0, "key": 1}', "the field 'key' twice"),
    (b"[" * 100_000, "expected JSON"),
    (b'"' + b"x" * 1_000_001, "at most 1000000 bytes"),
]


@pytest.mark.parametrize(("line", "message"), LINES, ids=[message for _, message in LINES])
def test_a_line_that_is_no_object_is_refused_with_its_number(exam, line, message):
    with pytest.raises(BadItem, match=f"exam.jsonl, line 2: .*{message}"):
        import_items(exam(GOOD, line))


def test_an_id_that_comes_twice_names_both_lines(exam):
    lines = [GOOD | {"id": "q"}, GOOD | {"id": "q", "stem": "Other?"}]
    with pytest.raises(BadItem, match="line 2: id must be new, got that of line 1"):
        import_items(exam(*lines))


def test_one_question_with_two_keys_under_two_ids_is_refused(exam):
    lines = [GOOD | {"id": "p"}, GOOD | {"id": "q", "key": 0}]
    with pytest.raises(BadItem, match="line 2: content must be new, got that of line 1"):
        import_items(exam(*lines))


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(NotFound, match=r"none\.jsonl"):
        import_items(tmp_path / "none.jsonl")


def test_a_folder_is_no_exam(tmp_path):
    with pytest.raises(InvalidInput, match="Is a directory"):
        import_items(tmp_path)


@pytest.mark.parametrize("lines", [[b""], [GOOD]])
def test_an_exam_that_cannot_fill_both_halves_is_refused(exam, lines):
    with pytest.raises(InvalidInput, match="an item for each half"):
        import_items(exam(*lines))
