"""Many lists into one."""

import random

import pytest

from services.corpus.fusion import fuse


def test_scores_are_sums_of_reciprocal_ranks():
    fused = fuse([["a", "b"], ["b", "c"], ["b"]])
    assert [each.id for each in fused] == ["b", "a", "c"]
    assert fused[0].score == pytest.approx(1 / 62 + 1 / 61 + 1 / 61)
    assert fused[1].score == 1 / 61


def test_equal_scores_are_ordered_by_id():
    assert [each.id for each in fuse([["b"], ["a"], ["c"]])] == ["a", "b", "c"]


def test_the_order_of_the_lists_changes_nothing():
    rng = random.Random(1)
    lists = [rng.sample("abcdefghijkl", rng.randint(0, 12)) for _ in range(40)]
    assert fuse(lists) == fuse(rng.sample(lists, len(lists)))


def test_nothing_found_is_nothing_fused():
    assert fuse([]) == fuse([[], []]) == []
