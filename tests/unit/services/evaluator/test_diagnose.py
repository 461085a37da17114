"""What a round aims at, when it ends before it begins, and why."""

import pytest

from libs.errors import InvalidInput
from services.evaluator.diagnose import GUARD_MARGIN, Outcome, Rule, diagnose, missed
from services.evaluator.power import Effect, items_needed, power

STRONG = [("strong", place % 2) for place in range(400)]


def weak(name, right, items=100):
    return [(name, place < right) for place in range(items)]


FOUR_WEAK = [*STRONG, *weak("w0", 0), *weak("w5", 5), *weak("w8", 8), *weak("w10", 10)]


def halves_of(respond, items_of, answers, copies=1):
    """Responses to one half, and the items of another with the same topics, `copies` times."""
    return respond(answers), items_of([topic for topic, _ in answers] * copies)


def test_the_weakest_topics_are_aimed_at(respond, items_of):
    result = diagnose(*halves_of(respond, items_of, FOUR_WEAK, 2), Rule())
    assert result.weak_topics == ["w0", "w5", "w8", "w10"]
    assert result.target_topics == ["w0", "w5", "w8"]
    assert (result.outcome, result.reason) == (None, "")
    assert result.mean_accuracy == pytest.approx(223 / 800)


def test_further_weak_topics_join_until_the_power_is_there(respond, items_of):
    """361 items are needed: three topics give 300, four 400."""
    assert items_needed(Effect()) == 361
    result = diagnose(*halves_of(respond, items_of, FOUR_WEAK), Rule())
    assert result.target_topics == ["w0", "w5", "w8", "w10"]
    assert result.outcome is None
    assert result.contrasts[0].num_items == 400


def test_no_more_topics_join_than_the_power_needs(respond, items_of):
    result = diagnose(*halves_of(respond, items_of, FOUR_WEAK, 4), Rule(max_topics=1))
    assert result.target_topics == ["w0"]


def test_all_weak_topics_without_the_power_end_the_round(respond, items_of):
    answers = [*STRONG, *weak("w0", 0), *weak("w5", 5)]
    result = diagnose(*halves_of(respond, items_of, answers), Rule())
    assert result.outcome is Outcome.UNDERPOWERED
    # 361 target items at a third of the half are a half of 1,083.
    assert result.exam_items_needed == 2166
    assert "200 decision items on all 2 weak topics" in result.reason
    assert "361 would be needed, an exam of about 2166 items" in result.reason


def test_an_even_model_has_nothing_weak(respond, items_of):
    answers = [(topic, place % 2) for topic in "abc" for place in range(50)]
    result = diagnose(*halves_of(respond, items_of, answers), Rule())
    assert result.outcome is Outcome.NOTHING_WEAK
    assert (result.weak_topics, result.target_topics, result.contrasts) == ([], [], ())
    assert "None of the 3 topics with at least 30" in result.reason


def test_target_items_are_counted_on_the_decision_half(respond, items_of):
    responses = respond([*STRONG, *weak("w0", 0)])
    decision = items_of(["w0"] * 500 + ["strong"] * 70)
    gain, guard, targeting = diagnose(responses, decision, Rule()).contrasts
    assert (gain.num_items, guard.num_items, targeting.num_items) == (500, 70, 500)


def test_the_power_of_guard_and_attribution_is_shown(respond, items_of):
    gain, guard, targeting = diagnose(*halves_of(respond, items_of, FOUR_WEAK), Rule()).contrasts
    assert gain.power == power(400, Effect(gain=0.08))
    assert guard.power == power(400, Effect(gain=GUARD_MARGIN))
    assert targeting.power == power(400, Effect(gain=0.04))


def test_items_that_share_documents_and_answers_need_more_items(respond, items_of):
    alone = diagnose(*halves_of(respond, items_of, FOUR_WEAK), Rule())
    answers = [("strong", place // 10 % 2) for place in range(400)] + FOUR_WEAK[400:]
    together = diagnose(
        respond(answers, per_document=10),
        items_of([topic for topic, _ in answers], per_document=10),
        Rule(),
    )
    assert alone.contrasts[0].effect.design_effect == 1
    assert together.intraclass_correlation > 0.5
    assert together.contrasts[0].items_needed > 5 * alone.contrasts[0].items_needed


def test_a_decision_half_without_the_topic_is_underpowered(respond, items_of):
    responses = respond([*STRONG, *weak("w0", 0)])
    result = diagnose(responses, items_of(["strong"] * 50), Rule())
    assert result.outcome is Outcome.UNDERPOWERED
    assert result.contrasts[0].num_items == 0


def test_seeds_are_missed_items_of_the_target_topics(respond):
    responses = respond([("a", True), ("a", False), ("b", False), ("a", False)])
    assert [each.item_id for each in missed(responses, ["a"])] == ["q00001", "q00003"]


def test_the_json_names_topics_power_and_end(respond, items_of):
    value = diagnose(*halves_of(respond, items_of, FOUR_WEAK), Rule()).to_json("exam")
    assert value["exam_id"] == "exam"
    assert value["target_topics"] == ["w0", "w5", "w8", "w10"]
    assert set(value["power"]) == {"gain", "guard", "targeting"}
    assert value["power"]["gain"]["items_needed"] == 361
    assert value["outcome"] == ""


@pytest.mark.parametrize(
    "rule", [{"hoped_gain": 0.5}, {"hoped_gain": -0.1}, {"discordance": 2}, {"power": 1}]
)
def test_a_rule_that_cannot_be_is_refused(rule):
    with pytest.raises(InvalidInput, match="must lie"):
        Rule(**rule)
