"""What a person sees agrees with what was measured."""

from libs.blocks import read_blocks, write_blocks
from services.evaluator.accuracy import accuracy_by_topic, topic_accuracy
from services.evaluator.compare import compare
from services.evaluator.diagnose import Rule, diagnose, missed
from services.evaluator.intervals import Bootstrap
from services.evaluator.items import Half, halved
from services.evaluator.report import (
    accuracy_blocks,
    comparison_blocks,
    diagnosis_blocks,
    exam_blocks,
)

ANSWERS = [("weak", False)] * 100 + [("strong", True)] * 100 + [("", True)] * 10


def test_an_exam_shows_its_composition_and_no_decision_item(items_of):
    halves = halved(items_of(["a"] * 20 + ["b"] * 10))
    table, examples = exam_blocks("demo", halves)
    assert table.rows == [("a", 10, 10), ("b", 5, 5)]
    decision = {item.stem for item in halves[Half.DECISION]}
    assert not any(row[1].split("\n")[0] in decision for row in examples.rows)


def test_models_on_the_same_half_share_a_figure(respond):
    topics = accuracy_by_topic(respond(ANSWERS))
    overall = topic_accuracy("", 110, 210)
    one, other, diagnosis = (
        accuracy_blocks(half, digest, overall, topics)[0]
        for half, digest in ((Half.DECISION, "x"), (Half.DECISION, "y"), (Half.DIAGNOSIS, "x"))
    )
    assert one.anchor == other.anchor != diagnosis.anchor
    assert [each.label for each in one.intervals] == ["all topics", "(no topic)", "strong", "weak"]
    assert one.intervals[3].estimate == 0


def test_a_diagnosis_marks_what_it_aims_at_and_shows_all_powers(respond, items_of):
    responses = respond(ANSWERS)
    result = diagnose(responses, items_of([topic for topic, _ in ANSWERS] * 4), Rule())
    intervals, power = diagnosis_blocks(result, list(missed(responses, result.target_topics)))
    assert (intervals.intervals[0].label, intervals.intervals[0].note) == ("weak", "aimed at")
    assert [row[0] for row in power.rows] == ["gain", "guard", "targeting"]


def test_differences_are_drawn_with_a_line_at_zero(respond, tmp_path):
    old, new = respond(ANSWERS, "old"), respond([(topic, True) for topic, _ in ANSWERS], "new")
    result = compare(old, new, old, ["weak"], Bootstrap(num_draws=100))
    blocks = comparison_blocks(result)
    assert all(block.zero_line for block in blocks)
    assert [round(each.estimate, 3) for each in blocks[0].intervals] == [1.0, 0.0, 0.0, 1.0]
    write_blocks(tmp_path, blocks)
    assert len(read_blocks(tmp_path / "blocks.json")) == 2
