"""Paired differences: by hand, and what does not pair."""

from dataclasses import replace

import pytest

from libs.errors import InvalidInput
from services.evaluator.compare import Unpaired, check_pairs, compare
from services.evaluator.intervals import Bootstrap, paired_difference
from services.evaluator.power import Effect, items_needed

DRAWS = Bootstrap(num_draws=1000)
TOPICS = ["aim"] * 40 + ["rest"] * 60


def answers(*right):
    """Answers in the order of `TOPICS`: right where the place lies in one of the ranges."""
    return [(topic, any(place in each for each in right)) for place, topic in enumerate(TOPICS)]


OLD = answers(range(10), range(40, 70))
NEW = answers(range(4, 26), range(41, 72))
CONTROL = answers(range(12), range(40, 70))


@pytest.fixture
def three(respond):
    return respond(OLD, "old"), respond(NEW, "new"), respond(CONTROL, "control")


def test_each_contrast_is_of_its_models_and_topics(three):
    result = compare(*three, ["aim"], DRAWS)
    # Aim: 4 lost, 16 gained of 40; the rest: 1 lost, 2 gained of 60.
    assert (result.gain.estimate, result.gain.num_discordant) == (12 / 40, 20)
    assert (result.guard.estimate, result.guard.num_discordant) == (1 / 60, 3)
    assert (result.control_gain.estimate, result.control_gain.num_discordant) == (2 / 40, 2)
    assert (result.targeting.estimate, result.targeting.num_discordant) == (10 / 40, 18)


def test_a_contrast_is_the_paired_difference_of_its_items(three):
    result = compare(*three, ["aim"], DRAWS)
    before, after = ([correct for _, correct in each[:40]] for each in (OLD, NEW))
    expected = paired_difference(before, after, [str(place) for place in range(40)], DRAWS)
    assert result.gain == expected


def test_every_topic_has_its_difference(three):
    result = compare(*three, ["aim"], DRAWS)
    assert result.per_topic == {"aim": result.gain, "rest": result.guard}


def test_without_control_targeting_is_absent(three):
    result = compare(three[0], three[1], None, ["aim"], DRAWS)
    assert (result.targeting, result.control_gain) == (None, None)
    assert not {"targeting", "control_gain"} & set(result.to_json())


def test_the_json_has_every_contrast_by_name(three):
    value = compare(*three, ["aim"], DRAWS).to_json()
    assert value["gain"]["num_items"] == value["targeting"]["num_items"] == 40
    assert set(value["gain"]) == {
        "estimate",
        "low",
        "high",
        "num_items",
        "num_discordant",
        "mcnemar_p",
    }
    assert value["target_topics"] == ["aim"]
    assert set(value["per_topic"]) == {"aim", "rest"}


def test_the_items_needed_are_those_of_the_observed_effect(three):
    result = compare(*three, ["aim"], DRAWS)
    assert result.items_needed == items_needed(Effect(gain=0.3, discordance=0.5))


def test_no_number_of_items_would_show_a_loss(three):
    old, new, _ = three
    assert compare(new, old, None, ["aim"], DRAWS).items_needed is None
    assert compare(old, old, None, ["aim"], DRAWS).to_json()["items_needed"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item_id": "other"}, "same items, got q00000 and other"),
        ({"key": 0}, "same key"),
        ({"log_likelihoods": (-1.0,)}, "options"),
        ({"topic": "other"}, "topic"),
        ({"document_id": "other"}, "document"),
        ({"weights_digest": ""}, "one weights digest"),
        ({"weights_digest": "third"}, "one weights digest"),
    ],
)
def test_responses_that_do_not_pair_are_refused(three, change, message):
    old, new, _ = three
    with pytest.raises(Unpaired, match=message):
        check_pairs(old, [replace(new[0], **change), *new[1:]])


def test_missing_digests_and_missing_items_are_refused(three):
    old, new, _ = three
    with pytest.raises(Unpaired, match=r"one weights digest, got \[''\]"):
        check_pairs(old, [replace(each, weights_digest="") for each in new])
    with pytest.raises(Unpaired, match="got 100 and 99"):
        check_pairs(old, new[:-1])


def test_a_control_that_does_not_pair_is_refused(three):
    old, new, control = three
    with pytest.raises(Unpaired, match="got 100 and 99"):
        compare(old, new, control[:-1], ["aim"], DRAWS)


@pytest.mark.parametrize("targets", [[], ["none"], ["aim", "rest"]])
def test_targets_and_others_must_both_have_items(three, targets):
    with pytest.raises(InvalidInput, match="expected items on the target topics"):
        compare(three[0], three[1], None, targets, DRAWS)
