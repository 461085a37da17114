"""The bound of the schedule, checked by brute force at every prefix of random instances."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.errors import InvalidInput
from services.sampler import schedule
from services.sampler.clip import Allocation, allocate, water_level
from services.sampler.schedule import interleave, order


def drawn(labels, lengths, budget, *, clip, seed=0):
    labels, lengths = np.array(labels), np.array(lengths)
    costs = np.bincount(labels, weights=lengths).astype(np.int64)
    found = allocate(costs, budget, clip=clip)
    assert isinstance(found, Allocation)
    return order(labels, lengths, level=found.level, clip=clip, budget=budget, seed=seed)


@st.composite
def instances(draw, longest):
    num_documents = draw(st.integers(1, 25))
    labels = draw(st.lists(st.integers(0, 5), min_size=num_documents, max_size=num_documents))
    length = st.integers(1, longest)
    lengths = draw(st.lists(length, min_size=num_documents, max_size=num_documents))
    clip = draw(st.one_of(st.none(), st.integers(1, 6)))
    budget = draw(st.integers(1, (clip or 4) * sum(lengths)))
    return labels, lengths, budget, clip, draw(st.integers(0, 2**64 - 1))


def assert_bound_holds_at_every_prefix(labels, lengths, budget, clip, seed):
    draws = drawn(labels, lengths, budget, clip=clip, seed=seed)
    labels, lengths = np.array(labels), np.array(lengths)
    costs = np.bincount(labels, weights=lengths).astype(np.int64)
    capacity = np.where(costs > 0, costs * (clip or 10**6), 0)
    given_so_far = np.zeros(len(costs), dtype=np.int64)
    for document in draws:
        given_so_far[labels[document]] += lengths[document]
        level = water_level(capacity, int(given_so_far.sum()))
        targets = [min(int(room), level) for room in capacity]
        worst = max(abs(int(g) - t) for g, t in zip(given_so_far, targets, strict=True))
        assert worst <= lengths.max()
    assert given_so_far.sum() - lengths[draws[-1]] < budget <= given_so_far.sum()


@settings(max_examples=300, deadline=None)
@given(instances(longest=1))
def test_every_prefix_of_draws_lies_within_one_of_the_water_level(instance):
    assert_bound_holds_at_every_prefix(*instance)


@settings(max_examples=200, deadline=None)
@given(instances(longest=40))
def test_every_prefix_of_tokens_lies_within_one_document_of_the_water_level(instance):
    assert_bound_holds_at_every_prefix(*instance)


@settings(max_examples=100, deadline=None)
@given(instances(longest=5))
def test_documents_of_a_cluster_are_drawn_equally_often_and_never_beyond_the_clip(instance):
    labels, lengths, budget, clip, seed = instance
    counts = np.bincount(
        drawn(labels, lengths, budget, clip=clip, seed=seed), minlength=len(labels)
    )
    for cluster in set(labels):
        members = counts[np.array(labels) == cluster]
        assert members.max() - members.min() <= 1
    assert clip is None or counts.max() <= clip


def test_the_figure_of_the_paper_draws_every_cluster_once_a_level_until_one_is_clipped():
    labels = [0] * 5 + [1] + [2] * 3
    clusters = np.array(labels)[drawn(labels, [1] * 9, 8, clip=2)].tolist()
    assert sorted(clusters[:3]) == sorted(clusters[3:6]) == [0, 1, 2]
    assert sorted(clusters[6:]) == [0, 2]


def test_one_cluster_is_walked_in_a_new_permutation_each_epoch():
    draws = drawn([0] * 50, [1] * 50, 100, clip=2)
    first, second = draws[:50].tolist(), draws[50:].tolist()
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_the_seed_decides_the_order():
    labels, lengths = [0, 1] * 20, [1] * 40
    same = [drawn(labels, lengths, 30, clip=1, seed=seed).tolist() for seed in (7, 7, 8)]
    assert same[0] == same[1] != same[2]


def test_the_order_of_turns_changes_from_level_to_level():
    clusters = np.arange(8).repeat(20)[drawn(np.arange(8).repeat(20), [1] * 160, 160, clip=1)]
    assert len({tuple(level) for level in clusters.reshape(20, 8).tolist()}) > 10


def test_an_order_of_absurd_length_is_refused(monkeypatch):
    monkeypatch.setattr(schedule, "MAX_DRAWS", 1000)
    with pytest.raises(InvalidInput, match="at most 1,000 draws, this has 5,000"):
        order(np.array([0]), np.array([1]), level=Fraction(5000), clip=None, budget=5000, seed=0)


@settings(max_examples=200, deadline=None)
@given(
    target=st.lists(st.integers(1, 30), min_size=1, max_size=60),
    replay=st.lists(st.integers(1, 30), min_size=1, max_size=60),
    share=st.floats(0.01, 0.99),
)
def test_replay_has_its_share_at_every_prefix_within_one_draw(target, replay, share):
    is_replay = interleave(np.array(target), np.array(replay), share)
    queues = {True: iter(replay), False: iter(target)}
    left = {True: len(replay), False: len(target)}
    given_tokens = {True: 0, False: 0}
    for which in is_replay.tolist():
        if min(left.values()) == 0:
            break  # one of the two is used up: no share can be kept any more
        given_tokens[which] += next(queues[which])
        left[which] -= 1
        total = sum(given_tokens.values())
        assert abs(given_tokens[True] - share * total) <= max(target + replay) + 1e-6


def test_a_tenth_of_unit_draws_is_every_tenth_draw():
    is_replay = interleave(np.ones(90, dtype=np.int64), np.ones(10, dtype=np.int64), 0.1)
    assert is_replay.reshape(10, 10).sum(axis=1).tolist() == [1] * 10
