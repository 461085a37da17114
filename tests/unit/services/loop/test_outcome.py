"""The table of outcomes, row by row, and that its rows share no case and leave none out."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import InvalidInput
from services.loop.outcome import (
    Cause,
    Contrast,
    Contrasts,
    Outcome,
    Rule,
    attribute,
    decide,
    rule_of,
)

BETTER, WORSE, UNCLEAR = (0.02, 0.2), (-0.2, -0.02), (-0.1, 0.1)


def contrast(interval, num_discordant=50, num_items=300):
    low, high = interval
    return Contrast(
        estimate=(low + high) / 2,
        low=low,
        high=high,
        num_items=num_items,
        num_discordant=num_discordant,
    )


def found(gain=BETTER, guard=(-0.01, 0.01), targeting=None, control=UNCLEAR, **gains):
    return Contrasts(
        gain=contrast(gain, **gains),
        guard=contrast(guard),
        targeting=contrast(targeting) if targeting else None,
        control_gain=contrast(control) if targeting else None,
        num_items_needed=945,
    )


STRICT = Rule(require=frozenset({"gain", "guard", "targeting"}))


@pytest.mark.parametrize(
    ("contrasts", "rule", "outcome"),
    [
        (found(), Rule(), Outcome.PROMOTED),
        (found(), Rule(manual=True), Outcome.AWAITING_APPROVAL),
        (found(guard=(-0.2, -0.021)), Rule(), Outcome.REJECTED),
        (found(guard=(-0.2, -0.02)), Rule(), Outcome.UNDECIDED),
        (found(guard=(-0.02, 0.1)), Rule(), Outcome.UNDECIDED),
        (found(gain=WORSE), Rule(), Outcome.REJECTED),
        (found(gain=UNCLEAR), Rule(), Outcome.UNDECIDED),
        (found(gain=(0.0, 0.2)), Rule(), Outcome.UNDECIDED),
        (found(num_discordant=9), Rule(), Outcome.UNDECIDED),
        (found(gain=(0.0, 0.0), num_discordant=0), Rule(), Outcome.UNDECIDED),
        (found(targeting=UNCLEAR), Rule(), Outcome.PROMOTED),
        (found(targeting=UNCLEAR), STRICT, Outcome.UNDECIDED),
        (found(targeting=BETTER), STRICT, Outcome.PROMOTED),
        (found(targeting=WORSE), STRICT, Outcome.REJECTED),
        (found(), STRICT, Outcome.UNDECIDED),
    ],
)
def test_each_row_of_the_table(contrasts, rule, outcome):
    assert decide(contrasts, rule).outcome is outcome


def test_an_undecided_round_says_how_many_items_would_have_decided_it():
    assert "about 945 target items" in decide(found(gain=UNCLEAR), Rule()).reason
    # 300 items gave a margin of 10 points around 0: 300 (10 / 2 * 2.8 / 1.96)^2 give one of 2.
    assert "about 15,307 other items" in decide(found(guard=(-0.1, 0.1)), Rule()).reason
    assert "items would" not in decide(found(guard=(-0.1, 0.05)), Rule()).reason
    assert "about 334 target items" in decide(found(num_discordant=9), Rule()).reason
    assert "items would" not in decide(found(num_discordant=0), Rule()).reason


@pytest.mark.parametrize(
    ("num_items", "outcome"),
    [(0, Outcome.UNDECIDED), (184, Outcome.UNDECIDED), (185, Outcome.PROMOTED)],
)
def test_a_guard_on_which_nothing_changed_needs_items_enough_to_see_the_margin(num_items, outcome):
    # (1 - 0.02)^185 is the first below 2.5 %.
    still = replace(found(), guard=contrast((0.0, 0.0), 0, num_items))
    decision = decide(still, Rule())
    assert decision.outcome is outcome
    assert ("about 185 other items" in decision.reason) == (outcome is Outcome.UNDECIDED)


@pytest.mark.parametrize(
    ("contrasts", "cause"),
    [
        (found(targeting=BETTER), Cause.TARGETING),
        (found(targeting=UNCLEAR, control=BETTER), Cause.MORE_TRAINING),
        (found(targeting=UNCLEAR), Cause.NOT_SEPARABLE),
        (found(), Cause.NOT_SEPARABLE),
        (found(gain=UNCLEAR, targeting=BETTER), Cause.NOT_SEPARABLE),
    ],
)
def test_a_gain_is_attributed(contrasts, cause):
    assert attribute(contrasts, Rule())[0] is cause


def test_too_few_changed_answers_are_attributed_to_nothing():
    few = replace(found(), targeting=contrast(BETTER, 6), control_gain=contrast(UNCLEAR))
    assert attribute(found(targeting=BETTER, num_discordant=9), Rule())[0] is Cause.NOT_SEPARABLE
    assert attribute(few, Rule())[0] is Cause.NOT_SEPARABLE
    decision = decide(few, STRICT)
    assert decision.outcome is Outcome.UNDECIDED
    assert "only 6 of 300 target items changed" in decision.reason


intervals = st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(lambda pair: tuple(sorted(pair)))
contrasts = st.builds(
    lambda interval, items, share: contrast(interval, int(items * share), items),
    intervals,
    st.integers(0, 2000),
    st.floats(0, 1),
)
comparisons = st.builds(
    Contrasts,
    gain=contrasts,
    guard=contrasts,
    targeting=st.none() | contrasts,
    control_gain=st.none() | contrasts,
    num_items_needed=st.integers(0, 10**6),
)
rules = st.builds(
    Rule,
    require=st.sampled_from([frozenset({"gain", "guard"}), STRICT.require]),
    guard_margin=st.floats(0.001, 1),
    min_discordant_pairs=st.integers(1, 100),
    manual=st.booleans(),
)


def shown(each, rule):
    return each is not None and each.low > 0 and each.num_discordant >= rule.min_discordant_pairs


@given(comparisons, rules)
def test_the_rows_share_no_case_and_leave_none_out(contrasts, rule):
    strict = "targeting" in rule.require
    gain, guard, targeting = contrasts.gain, contrasts.guard, contrasts.targeting
    enough = gain.num_discordant >= rule.min_discordant_pairs
    worse = (
        guard.high < -rule.guard_margin
        or gain.high < 0
        or (strict and targeting is not None and targeting.high < 0)
    )
    better = (
        gain.low > 0
        and guard.low > -rule.guard_margin
        and (
            guard.num_discordant >= rule.min_discordant_pairs
            or guard.num_items * rule.guard_margin >= -math.log(0.025)
        )
        and (not strict or shown(targeting, rule))
    )
    assert not (worse and better)
    outcome = decide(contrasts, rule).outcome
    promoted = Outcome.AWAITING_APPROVAL if rule.manual else Outcome.PROMOTED
    assert (outcome is promoted) == (enough and better)
    assert (outcome is Outcome.REJECTED) == (enough and worse)
    assert (outcome is Outcome.UNDECIDED) == (not enough or not (better or worse))


@given(comparisons, rules)
def test_reasons_are_one_sentence(contrasts, rule):
    decision = decide(contrasts, rule)
    for sentence in (decision.reason, decision.attribution):
        assert sentence.endswith(".")
        assert "\n" not in sentence


def test_zeros_of_a_request_are_the_defaults():
    assert rule_of([], 0.0, 0, False) == Rule()
    assert rule_of(["targeting"], 0.05, 3, True) == Rule(
        require=STRICT.require, guard_margin=0.05, min_discordant_pairs=3, manual=True
    )


@pytest.mark.parametrize("require", [["gian"], ["gain", "control"]])
def test_an_unknown_contrast_is_refused(require):
    with pytest.raises(InvalidInput, match="require knows"):
        rule_of(require, 0, 0, False)


def test_a_comparison_is_read_with_and_without_a_control():
    each = {"estimate": 0.1, "low": 0.02, "high": 0.2, "num_items": 300, "num_discordant": 50}
    comparison = {"gain": each, "guard": each | {"mcnemar_p": 0.1}, "items_needed": None}
    assert Contrasts.of(comparison).targeting is None
    both = Contrasts.of(comparison | {"targeting": each, "control_gain": each})
    assert both.targeting == both.control_gain == both.gain


@pytest.mark.parametrize("comparison", [{}, {"gain": {}}, {"gain": None, "guard": None}])
def test_what_is_no_comparison_is_refused(comparison):
    with pytest.raises(InvalidInput, match="expected a comparison"):
        Contrasts.of(comparison)


def test_impossible_contrasts_are_refused():
    with pytest.raises(InvalidInput, match="low <= high"):
        contrast((0.2, 0.1))
    with pytest.raises(InvalidInput, match="discordant"):
        contrast(BETTER, num_discordant=4, num_items=3)
