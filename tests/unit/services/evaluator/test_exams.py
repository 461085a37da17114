"""The registry: what is there, what replaces it, what of it is frozen."""

import pytest

from libs.blobs.folder import FolderBlobs
from libs.errors import Corrupt, InvalidInput
from services.evaluator.exam_files import texts
from services.evaluator.exams import Registered, register, registered
from services.evaluator.items import Item


def exam(name, exam_id="e1", num_items=8):
    return Registered(name=name, exam_id=exam_id, num_items=num_items, max_decisions=5)


@pytest.fixture
def blobs(tmp_path):
    return FolderBlobs(tmp_path)


def test_exams_are_listed_by_name(blobs):
    for name in ("b", "a"):
        register(blobs, exam(name))
    assert [(each.name, each.sequence) for each in registered(blobs)] == [("a", 2), ("b", 1)]


def test_registering_again_changes_nothing(blobs):
    first = register(blobs, exam("a"))
    register(blobs, exam("b"))
    assert register(blobs, exam("a")) == first
    assert registered(blobs)[0] == first


def test_a_name_moves_to_another_exam_with_a_higher_revision(blobs):
    register(blobs, exam("a", "e1"))
    register(blobs, exam("a", "e2"))
    again = register(blobs, exam("a", "e1"))
    assert (again.exam_id, again.revision, again.sequence) == ("e1", 3, 3)
    assert registered(blobs) == [again]


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "a b", "é", "x" * 101])
def test_a_name_that_is_no_blobs_name_is_refused(blobs, name):
    with pytest.raises(InvalidInput, match="an exam's name is"):
        register(blobs, exam(name))


def test_a_damaged_record_is_corrupt(blobs):
    blobs.create("registry/exams/a.json", b"{}")
    with pytest.raises(Corrupt, match="registered exam"):
        registered(blobs)


def test_every_stem_and_option_is_a_text_of_the_exam():
    item = Item(item_id="q", topic="", document_id="d", stem="s", options=(" a", " b"), key=1)
    assert [row["text"] for row in texts([item], "e")] == ["s", " a", " b"]
    assert {(row["item_id"], row["exam_id"]) for row in texts([item], "e")} == {("q", "e")}
