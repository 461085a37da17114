"""Puts draws in an order that is right at every prefix, not only in the mean.

ClusterClip draws an active cluster at random, so its counts wander by multinomial noise. Here the
order is computed: in it every prefix is itself a clipped, balanced plan. The rule is the one of
start-time fair queueing (Goyal, Vin and Cheng 1996): the next draw belongs to the active cluster
that has been served least.

**The bound.** Let s(d) be what cluster k was given before its draw d; draws are taken by rising
s. Consider any prefix, let s be that of its last draw, and L the longest draw. A cluster with
draws left has been given at least s (its next draw starts at s or later) and at most s + L (its
last one started at s or before). A cluster without has been given its capacity c_k <= s + L. If t
is the sum, then sum min(c_k, s) <= t <= sum min(c_k, s + L), so the level lambda(t) of the
equation sum min(c_k, lambda) = t lies in [s, s + L] too, and

    |given_k(t) - min(c_k, lambda(t))| <= L        for every cluster, at every prefix.

With draws counted one by one, L = 1: within one draw. With tokens: within one document.

Within a cluster a seeded permutation is walked, permuted anew for each local epoch, so the counts
of its documents differ by at most one.
"""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from libs.errors import InvalidInput

MAX_DRAWS = 200_000_000
"""Draws of one plan; making them takes about 60 bytes each."""
_TIE_BITS = 20

Ints = NDArray[np.int64]


def order(
    labels: Ints, lengths: Ints, *, level: Fraction, clip: int | None, budget: int, seed: int
) -> Ints:
    """Return the documents to draw, in order, until the budget is reached.

    Args:
        labels: cluster of each document, shape (N,), in [0, K).
        lengths: what a draw of the document costs, shape (N,), each >= 1: ones to count
            documents, tokens with the separator to count tokens.
        level: lambda(B) of `clip.water_level` for this budget and clip.
        clip: r, the times that a document is drawn at most; None: as often as it takes.
        budget: B, in the unit of `lengths`; the last draw may exceed it.
        seed: same seed, same order.

    Returns:
        Indices of documents, shape (T,): the shortest prefix that costs at least B.

    Raises:
        InvalidInput: the order would have more than `MAX_DRAWS` draws.
    """
    bits = np.random.PCG64(np.random.SeedSequence(seed))
    members = np.argsort(_narrow(labels), kind="stable")
    epochs = _epochs(labels, lengths, level=level, clip=clip)
    draws = _walks(members, np.bincount(labels), epochs, bits)
    served = _served_before(labels[draws], lengths[draws])
    keep = served < math.ceil(level)
    draws, served = draws[keep], served[keep]
    # Clusters that were served alike take turns in an order of their own at every level. The low
    # bits leave each cluster's run sorted, which the stable sort merges quickly.
    ties = (bits.random_raw(len(draws)) >> np.uint64(64 - _TIE_BITS)).astype(np.int64)
    draws = draws[np.argsort((served << _TIE_BITS) | ties, kind="stable")]
    num_draws = int(np.searchsorted(np.cumsum(lengths[draws]), budget)) + 1
    return draws[:num_draws]


def interleave(target_lengths: Ints, replay_lengths: Ints, share: float) -> NDArray[np.bool_]:
    """Merge a target and a replay order so that replay has its share at every prefix.

    Again the one served least, in proportion to its share, is next; by the argument above
    replay's part of the first t tokens lies within one draw of `share` * t.

    Args:
        target_lengths: cost of each target draw, shape (T,).
        replay_lengths: cost of each replay draw, shape (R,).
        share: replay's share, in (0, 1).

    Returns:
        Shape (T + R,): True where the next draw is replay's.
    """
    target = (np.cumsum(target_lengths) - target_lengths) / (1.0 - share)
    replay = (np.cumsum(replay_lengths) - replay_lengths) / share
    places = np.arange(len(replay)) + np.searchsorted(target, replay, side="right")
    is_replay = np.zeros(len(target) + len(replay), dtype=np.bool_)
    is_replay[places] = True
    return is_replay


def _epochs(labels: Ints, lengths: Ints, *, level: Fraction, clip: int | None) -> Ints:
    """Local epochs of each cluster, begun ones included, that its share of the level needs."""
    sizes = np.bincount(labels)
    costs = np.bincount(labels, weights=lengths).astype(np.int64)
    epochs = -(-math.ceil(level) // np.maximum(costs, 1))
    epochs = epochs if clip is None else np.minimum(epochs, clip)
    num_draws = float(np.dot(epochs.astype(np.float64), sizes))
    if num_draws > MAX_DRAWS:
        raise InvalidInput(f"a plan has at most {MAX_DRAWS:,} draws, this has {num_draws:,.0f}")
    return np.asarray(np.where(sizes > 0, epochs, 0), dtype=np.int64)


def _walks(members: Ints, sizes: Ints, epochs: Ints, bits: np.random.PCG64) -> Ints:
    """Lay out every cluster's epochs one after the other, each a permutation of its members.

    Args:
        members: documents sorted by cluster, shape (N,).
        sizes: documents of each cluster, shape (K,).
        epochs: permutations wanted of each cluster, shape (K,).
        bits: source of the permutations.
    """
    cluster_of_walk = np.repeat(np.arange(len(sizes)), epochs)
    walk_sizes = sizes[cluster_of_walk]
    walks = np.repeat(np.arange(len(walk_sizes)), walk_sizes)
    # Sorting by (walk, random bits) permutes within every walk at once; two equal draws of the
    # 32 or more random bits keep their order, which biases nothing that matters.
    random_bits = 63 - max(len(walk_sizes), 1).bit_length()
    noise = (bits.random_raw(len(walks)) >> np.uint64(64 - random_bits)).astype(np.int64)
    shuffled = np.argsort((walks << random_bits) | noise, kind="stable")
    first_of_walk = np.cumsum(walk_sizes) - walk_sizes
    first_of_cluster = np.cumsum(sizes) - sizes
    shift = first_of_cluster[cluster_of_walk] - first_of_walk
    return np.asarray(members[shuffled + shift[walks]], dtype=np.int64)


def _served_before(labels: Ints, lengths: Ints) -> Ints:
    """What each draw's cluster was given before it; draws are grouped by cluster."""
    before = np.cumsum(lengths) - lengths
    firsts = np.flatnonzero(np.diff(labels, prepend=-1))
    return np.asarray(before - np.repeat(before[firsts], np.diff(firsts, append=len(labels))))


def _narrow(labels: Ints) -> NDArray[np.integer]:
    """Labels in 16 bits where they fit: numpy sorts those by radix."""
    return labels.astype(np.uint16) if labels.max(initial=0) < 2**16 else labels
