"""What is said of an exam before a round runs on it."""

from dataclasses import replace

from services.evaluator.diagnose import Rule
from services.evaluator.items import halved
from services.evaluator.notes import exam_notes, rule_notes


def test_the_notes_say_what_the_halves_hold(items_of):
    assert exam_notes(halved(items_of(["small"] * 20 + ["big"] * 800))) == [
        "820 items: 410 diagnose, 410 decide.",
        "Diagnosis + decision items of 2 topics: big 400 + 400, small 10 + 10.",
    ]


def test_an_exam_without_topics_says_that_none_can_be_weak(items_of):
    assert exam_notes(halved(items_of([""] * 10)))[1] == (
        "No item names a topic, so none can be weak."
    )


def test_the_items_needed_are_those_of_the_rounds_own_hopes():
    rule = Rule(min_items=5, hoped_gain=0.12, discordance=0.15, power=0.9)
    # (0.15 - 0.12**2) * ((1.95996 + 1.28155) / 0.12)**2 = 98.95
    assert rule_notes(rule) == [
        "A topic can be weak if it has at least 5 diagnosis items.",
        "A gain of 0.12 at a discordance of 0.15 with a power of 0.9 needs 99 decision items on "
        "the topics aimed at, more if items share documents.",
    ]


def test_items_that_share_documents_are_mentioned(items_of):
    notes = exam_notes(halved(items_of(["a"] * 400, per_document=400)))
    assert notes[-1].startswith("200.0 decision items share a document")


def test_options_without_leading_space_are_mentioned(items_of):
    bare = [replace(item, options=("a", " b")) for item in items_of(["a"] * 4)]
    assert exam_notes(halved(bare))[-1].startswith("4 options begin without a space")


def test_scripts_without_spaces_are_not_mentioned(items_of):
    han = [replace(item, stem="天地", options=("玄", "黃")) for item in items_of(["a"] * 4)]
    assert not any("space" in note for note in exam_notes(halved(han)))
