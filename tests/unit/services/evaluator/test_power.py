"""Power by formula against worked numbers and against simulated decisions."""

import numpy as np
import pytest

from libs.errors import InvalidInput
from services.evaluator.intervals import Bootstrap, paired_difference
from services.evaluator.power import (
    Effect,
    Grouped,
    design_effect,
    intraclass_correlation,
    items_needed,
    items_per_document,
    power,
)


def test_the_pilots_effect_asks_for_the_items_of_the_design():
    # (0.3 - 0.085**2) * ((1.95996 + 0.84162) / 0.085)**2 = 318.06; a third of an exam is target.
    assert items_needed(Effect(gain=0.085)) == 319
    assert 3 * 315 == 945


def test_the_items_needed_are_the_fewest_that_have_the_power():
    effect = Effect(gain=0.08, design_effect=1.4)
    needed = items_needed(effect, 0.9)
    assert power(needed - 1, effect) < 0.9 <= power(needed, effect)


def test_no_items_have_the_power_of_chance():
    assert power(0, Effect()) == pytest.approx(0.025)


@pytest.mark.parametrize("num_items", [120, 360])
@pytest.mark.parametrize("per_document", [1, 3])
def test_the_approximation_agrees_with_simulated_decisions(num_items, per_document):
    """Documents of equal items whose changes agree with probability `correlation`."""
    rng = np.random.default_rng(num_items + per_document)
    correlation, gain, discordance, worlds = 0.3, 0.1, 0.3, 500
    names = [str(place // per_document) for place in range(num_items)]
    shares = [(discordance - gain) / 2, 1 - discordance, (discordance + gain) / 2]
    shown = 0
    for turn in range(worlds):
        own = rng.choice([-1, 0, 1], p=shares, size=num_items)
        shared = np.repeat(
            rng.choice([-1, 0, 1], p=shares, size=num_items // per_document), per_document
        )
        # Two items are equal by design when both take the document's draw: sqrt(rho) each.
        change = np.where(rng.random(num_items) < correlation**0.5, shared, own)
        before, after = change < 0, change > 0
        draws = Bootstrap(num_draws=500, seed=turn)
        shown += paired_difference(before.tolist(), after.tolist(), names, draws).low > 0
    effect = Effect(
        gain=gain, discordance=discordance, design_effect=design_effect(per_document, correlation)
    )
    assert shown / worlds == pytest.approx(power(num_items, effect), abs=0.06)


def test_the_design_effect_of_single_items_is_one():
    assert design_effect(1, 0.9) == 1
    assert design_effect(11, 0.05) == pytest.approx(1.5)


def test_items_per_document_is_the_mean_over_items():
    # Four items see 1, 3, 3 and 3 items in their document.
    assert items_per_document(["a", "b", "b", "b"]) == 2.5
    assert items_per_document([]) == 0


def grouped(**values):
    return [Grouped(name, value) for name, each in values.items() for value in each]


def test_the_intraclass_correlation_agrees_with_a_worked_example():
    # Means 2 and 5, grand mean 3.5: between 9 on 1, within 1 on 2; size 2: (9 - .5) / (9 + .5).
    assert intraclass_correlation(grouped(a=(1.5, 2.5), b=(4.5, 5.5))) == pytest.approx(8.5 / 9.5)


def test_the_intraclass_correlation_finds_what_was_planted():
    rng = np.random.default_rng(3)
    shared = rng.normal(scale=0.3**0.5, size=2000)
    values = [
        Grouped(str(name), shared[name] + rng.normal(scale=0.7**0.5))
        for name in np.repeat(np.arange(2000), 3)
    ]
    assert intraclass_correlation(values) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(
    "values",
    [
        grouped(),
        grouped(a=(1, 2, 3)),
        grouped(a=(1,), b=(2,), c=(3,)),
        grouped(a=(1, 1), b=(1, 1)),
        grouped(a=(0, 1), b=(0, 1)),
    ],
    ids=["none", "one document", "single items", "constant", "negative"],
)
def test_a_correlation_that_cannot_be_seen_is_zero(values):
    assert intraclass_correlation(values) == 0


def test_documents_without_spread_inside_stay_below_one():
    assert intraclass_correlation(grouped(a=(1, 1), b=(2, 2))) == 0.99


@pytest.mark.parametrize(
    ("effect", "message"),
    [
        ({"gain": 0}, "gain must lie"),
        ({"gain": 1}, "gain must lie"),
        ({"gain": float("nan")}, "gain must lie"),
        ({"gain": 0.4, "discordance": 0.3}, r"discordance must lie .* got 0\.3"),
        ({"discordance": 1.1}, "discordance must lie"),
        ({"design_effect": 0.5}, "design effect"),
        ({"design_effect": float("inf")}, "design effect"),
    ],
)
def test_an_effect_that_cannot_be_is_refused(effect, message):
    with pytest.raises(InvalidInput, match=message):
        Effect(**effect)


@pytest.mark.parametrize("wanted", [0, 0.02, 1, float("nan")])
def test_a_power_that_cannot_be_is_refused(wanted):
    with pytest.raises(InvalidInput, match="power must lie"):
        items_needed(Effect(), wanted)


@pytest.mark.parametrize(("per_document", "correlation"), [(0.5, 0), (2, 1), (2, -0.1)])
def test_a_design_that_cannot_be_is_refused(per_document, correlation):
    with pytest.raises(InvalidInput, match="must"):
        design_effect(per_document, correlation)
