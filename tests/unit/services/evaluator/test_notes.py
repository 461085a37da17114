"""What is said of an exam before a round runs on it."""

from dataclasses import replace

from services.evaluator.items import halved
from services.evaluator.notes import exam_notes


def test_the_notes_name_halves_topics_and_what_can_be_shown(items_of):
    notes = exam_notes(halved(items_of(["big"] * 800 + ["small"] * 20)))
    assert notes == [
        "820 items: 410 diagnose, 410 decide.",
        "1 of 2 topics have at least 30 diagnosis items: big.",
        # 2.80159 * sqrt(0.3 / (410 + 2.80159**2)) = 0.0751
        "The whole decision half shows a gain of 0.075 at a discordance of 0.3 with a power of "
        "0.8.",
        "A gain of 0.08 needs 361 decision items on the target topics, at the same discordance "
        "and power.",
    ]


def test_an_exam_too_small_for_anything_says_so(items_of):
    notes = exam_notes(halved(items_of(["a"] * 10)))
    assert notes[1].endswith("items, so none can be weak.")
    assert notes[2].startswith("The decision half is too small to show any gain")


def test_items_that_share_documents_are_mentioned(items_of):
    notes = exam_notes(halved(items_of(["a"] * 400, per_document=400)))
    assert "200.0 decision items share a document" in notes[-1]


def test_options_without_leading_space_are_mentioned(items_of):
    bare = [replace(item, options=("a", " b")) for item in items_of(["a"] * 4)]
    assert exam_notes(halved(bare))[-1].startswith("4 options begin without a space")


def test_scripts_without_spaces_are_not_mentioned(items_of):
    han = [replace(item, stem="天地", options=("玄", "黃")) for item in items_of(["a"] * 4)]
    assert not any("space" in note for note in exam_notes(halved(han)))
