from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from libs.errors import InvalidInput
from services.sampler.clip import Allocation, Shortfall, allocate


def allocation(sizes, budget, clip):
    found = allocate(np.array(sizes, dtype=np.int64), budget, clip=clip)
    assert isinstance(found, Allocation)
    return found


def test_the_figure_of_the_paper_clips_the_single_document_after_two_draws():
    found = allocation([5, 1, 3], 8, clip=2)
    assert found.level == 3
    assert found.counts.tolist() == [3, 2, 3]
    assert found.clipped.tolist() == [False, True, False]


def test_a_level_between_integers_is_exact():
    # B is full at 1; A and C share the other 7 evenly.
    found = allocation([5, 1, 4], 8, clip=1)
    assert found.level == Fraction(7, 2)
    assert found.weights.tolist() == [3.5 / 8, 1 / 8, 3.5 / 8]


@pytest.mark.parametrize(
    ("clip", "level", "num_clipped", "largest"), [(5, 262.7, 81, 0.025), (2, 847, 183, 0.084)]
)
def test_zipf_clusters_fill_as_the_specification_simulated(clip, level, num_clipped, largest):
    sizes = np.ceil(10_000 / np.arange(1, 201) ** 1.1).astype(np.int64)
    found = allocate(sizes, int(sizes.sum()), clip=clip)
    assert isinstance(found, Allocation)
    assert float(found.level) == pytest.approx(level, abs=0.5)
    assert found.clipped.sum() == num_clipped
    assert found.counts[0] / sizes[0] == pytest.approx(largest, abs=0.002)


def test_clip_one_and_one_epoch_draws_every_document_once():
    found = allocation([7, 1, 3], 11, clip=1)
    assert found.counts.tolist() == [7, 1, 3]
    assert found.clipped.all()


def test_without_a_clip_every_cluster_gets_the_same():
    found = allocation([100, 1, 7], 999, clip=None)
    assert found.counts.tolist() == [333, 333, 333]
    assert not found.clipped.any()


def test_an_empty_cluster_gets_nothing_even_without_a_clip():
    assert allocation([4, 0, 4], 20, clip=None).counts.tolist() == [10, 0, 10]


def test_a_budget_above_the_clip_is_a_shortfall_that_names_what_would_do():
    found = allocate(np.array([5, 1, 3]), 19, clip=2)
    assert found == Shortfall(budget=19, allowed=18, clip=2, needed_clip=3)
    assert found.sentence("tokens") == (
        "the budget is 19 tokens, but with every document drawn at most 2 times there are 18; "
        "a clip of 3 would do"
    )


def test_nothing_to_draw_from_is_a_shortfall_without_remedy():
    found = allocate(np.array([0, 0]), 1, clip=5)
    assert isinstance(found, Shortfall)
    assert "nothing to draw from" in found.sentence("tokens")


@pytest.mark.parametrize(("budget", "clip"), [(0, 5), (-1, 5), (2**43 + 1, 5), (1, 0)])
def test_absurd_budgets_and_clips_are_refused(budget, clip):
    with pytest.raises(InvalidInput, match=r"budget|clip"):
        allocate(np.array([3]), budget, clip=clip)


@given(
    sizes=st.lists(st.integers(0, 2**30), min_size=1, max_size=30),
    clip=st.integers(1, 9),
    share=st.floats(1e-6, 1),
)
def test_counts_fill_the_budget_exactly_and_respect_the_clip(sizes, clip, share):
    budget = int(share * clip * sum(sizes))
    assume(budget > 0)
    found = allocation(sizes, budget, clip)
    assert sum(min(clip * size, found.level) for size in sizes) == budget
    assert (found.clipped == [clip * size <= found.level for size in sizes]).all()
    assert found.counts.sum() == pytest.approx(budget)
