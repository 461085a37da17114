"""Error bars against hand-computed values, peers and simulation."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import binomtest

from libs.errors import InvalidInput
from services.evaluator.intervals import Bootstrap, mcnemar, paired_difference, wilson


def test_wilson_agrees_with_the_worked_example():
    # Newcombe 1998, table I: 81 of 263 by the score method without continuity correction.
    assert [round(value, 4) for value in wilson(81, 263)] == [0.308, 0.2553, 0.3662]


@pytest.mark.parametrize(("right", "items"), [(0, 20), (1, 29), (15, 148), (20, 20)])
def test_wilson_agrees_with_scipy(right, items):
    peer = binomtest(right, items).proportion_ci(method="wilson")
    assert wilson(right, items) == pytest.approx((right / items, peer.low, peer.high), abs=1e-9)


@pytest.mark.parametrize(("right", "items"), [(0, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_impossible_counts(right, items):
    with pytest.raises(InvalidInput, match=f"got {right} of {items}"):
        wilson(right, items)


def test_mcnemar_is_the_two_sided_sign_test():
    # 2 * (1 + 8 + 28) / 2**8
    assert mcnemar(2, 6) == mcnemar(6, 2) == pytest.approx(0.2890625)
    assert mcnemar(5, 5) == mcnemar(0, 0) == 1.0


def differ(before, after, clusters=None, **bootstrap):
    names = clusters or [str(place) for place in range(len(before))]
    return paired_difference(before, after, names, Bootstrap(**bootstrap))


def test_a_difference_counts_its_discordant_pairs():
    result = differ([True, False, False, True], [True, True, True, False])
    assert (result.estimate, result.num_items, result.num_discordant) == (0.25, 4, 3)
    assert result.mcnemar_p == 1.0


def test_equal_answers_give_the_interval_of_nothing():
    result = differ([True, False], [True, False])
    assert (result.low, result.high, result.num_discordant) == (0.0, 0.0, 0)


def test_swapping_the_models_swaps_the_signs():
    rng = np.random.default_rng(1)
    one, two = rng.random(200) < 0.4, rng.random(200) < 0.6
    there, back = differ(one.tolist(), two.tolist()), differ(two.tolist(), one.tolist())
    assert there.estimate == -back.estimate
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.01)


def test_one_bootstrap_agrees_with_drawing_documents_one_by_one():
    rng = np.random.default_rng(2)
    names = [f"d{each}" for each in rng.integers(0, 40, size=150)]
    one, two = (rng.random(150) < 0.4).tolist(), (rng.random(150) < 0.6).tolist()
    result = differ(one, two, names, num_draws=40_000, seed=3)
    documents = sorted(set(names))
    change = np.array(two, dtype=int) - np.array(one, dtype=int)
    sums = np.array([change[np.array(names) == each].sum() for each in documents])
    sizes = np.array([names.count(each) for each in documents])
    drawn = rng.integers(0, len(documents), size=(40_000, len(documents)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    # Student's t and (K - 1) / K for K documents.
    num = len(documents)
    wider = stats.t.ppf(0.975, num - 1) / 1.96 * math.sqrt(num / (num - 1))
    expected = change.mean() + wider * (np.quantile(means, [0.025, 0.975]) - change.mean())
    assert (result.low, result.high) == pytest.approx(tuple(expected), abs=0.005)


def test_one_document_shows_nothing():
    result = differ([False] * 30, [True] * 30, ["only"] * 30)
    assert (result.low, result.high) == (-1.0, 1.0)


@pytest.mark.parametrize("num_documents", [2, 4, 15])
def test_few_documents_show_a_gain_by_chance_about_as_seldom_as_many(num_documents):
    names = [str(place % num_documents) for place in range(120)]
    rng = np.random.default_rng(num_documents)
    shown = 0
    for seed in range(300):
        changes = rng.choice([-1, 0, 1], p=[0.075, 0.85, 0.075], size=120)
        pair = (changes < 0).tolist(), (changes > 0).tolist()
        shown += differ(*pair, names, num_draws=500, seed=seed).low > 0
    # 2.5 % of 300 are 7.5; 45, 21 and 6 % of them were shown by the bare percentiles.
    assert shown <= 18


def test_items_of_one_document_widen_the_interval():
    before = [False] * 200
    after = [place // 10 % 2 == 0 for place in range(200)]
    alone = differ(before, after)
    together = differ(before, after, [str(place // 10) for place in range(200)])
    ratio = (together.high - together.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(math.sqrt(10), rel=0.1)


def test_same_seed_same_interval():
    rng = np.random.default_rng(4)
    one, two = (rng.random(300) < 0.4).tolist(), (rng.random(300) < 0.5).tolist()
    first = differ(one, two, num_draws=99, seed=5)
    assert first == differ(one, two, num_draws=99, seed=5)
    assert first != differ(one, two, num_draws=99, seed=6)


@pytest.mark.parametrize(
    ("before", "after", "names"), [([], [], []), ([True], [True, False], ["d"])]
)
def test_answers_that_do_not_pair_are_refused(before, after, names):
    with pytest.raises(InvalidInput, match="as many answers"):
        paired_difference(before, after, names, Bootstrap())


def simulate(rng, gain, num_documents=120):
    """Answers of two models to 1 to 4 items a document; a document shares part of its luck."""
    sizes = rng.integers(1, 5, size=num_documents)
    names = np.repeat(np.arange(num_documents), sizes)
    hard = rng.normal(size=num_documents)[names] * 0.5 + rng.normal(size=len(names))
    shift = rng.normal(size=num_documents)[names] * 0.3 + rng.normal(size=len(names)) * 0.5
    before, after = hard < -0.3, hard + shift < -0.3 + gain
    return before.tolist(), after.tolist(), [str(name) for name in names]


def test_the_interval_covers_the_true_difference_as_often_as_it_says():
    rng = np.random.default_rng(7)
    big = simulate(rng, 0.2, num_documents=200_000)
    truth = np.mean(big[1]) - np.mean(big[0])
    results = [differ(*simulate(rng, 0.2)[:3], num_draws=1_000, seed=turn) for turn in range(1_000)]
    coverage = np.mean([result.low <= truth <= result.high for result in results])
    assert truth > 0.04
    assert 0.93 <= coverage <= 0.97


def test_a_null_world_promotes_no_more_often_than_the_error_rate():
    """Old and candidate swap roles at random, so the true difference is 0 whatever the noise."""
    rng = np.random.default_rng(8)
    worlds = 1_000
    gains = 0
    for turn in range(worlds):
        before, after, names = simulate(rng, 0.2)
        swap = rng.random(len(set(names))) < 0.5
        flip = swap[np.unique(names, return_inverse=True)[1]]
        one, two = np.where(flip, after, before), np.where(flip, before, after)
        gains += differ(one.tolist(), two.tolist(), names, num_draws=1_000, seed=turn).low > 0
    # Three standard errors of a share of 2.5 % in so many worlds.
    assert abs(gains / worlds - 0.025) <= 3 * math.sqrt(0.025 * 0.975 / worlds)
