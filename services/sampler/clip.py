"""Fills clusters like vessels: each gets the same, up to its clip.

The closed form of ClusterClip Sampling: n_k = min(r N_k, lambda) with sum B, where N_k is a
cluster's size and r the times that its documents may be repeated. Sizes are documents, or tokens
with one separator a document; the equation is the same.

Source: ClusterClip Sampling (arXiv:2402.14526), section 3; the sampling code is not released, so
the definition is the one that its figure and text imply.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from libs.errors import InvalidInput

MAX_BUDGET = 2**43
"""Draws or tokens; below it every sum here and in `schedule` fits 64 bits."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """How much of each cluster is drawn."""

    budget: int
    """B, in the unit of the sizes."""
    level: Fraction
    """lambda: what every cluster that is not clipped gets."""
    counts: NDArray[np.float64]
    """n_k, shape (K,), in the same unit."""
    clipped: NDArray[np.bool_]
    """Shape (K,): clusters drawn r times over, to the end."""

    @property
    def weights(self) -> NDArray[np.float64]:
        """Share of the budget of each cluster, shape (K,); sums to 1."""
        return np.asarray(self.counts / self.counts.sum(), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """A budget that the clip does not allow."""

    budget: int
    allowed: int
    clip: int
    needed_clip: int | None
    """Least r that would do; None if there is nothing to repeat."""

    def sentence(self, unit: str) -> str:
        """Say it to a person: what was asked, what there is, what would do."""
        remedy = (
            "there is nothing to draw from"
            if self.needed_clip is None
            else f"a clip of {self.needed_clip} would do"
        )
        return (
            f"the budget is {self.budget:,} {unit}, but with every document drawn at most "
            f"{self.clip} times there are {self.allowed:,}; {remedy}"
        )


def allocate(sizes: NDArray[np.int64], budget: int, *, clip: int | None) -> Allocation | Shortfall:
    """Share a budget equally over clusters, none beyond `clip` times its size.

    Args:
        sizes: N_k, documents or tokens, shape (K,), each >= 0.
        budget: B, in the same unit.
        clip: r; None leaves clusters unclipped (uniform sampling).

    Raises:
        InvalidInput: `budget` or `clip` is out of range.
    """
    _check(budget, clip)
    # A vessel larger than the budget never fills up, so cutting it there changes nothing and
    # keeps the sums small; an empty cluster stays empty, clipped or not.
    room = np.full_like(sizes, budget) if clip is None else np.minimum(sizes, budget // clip + 1)
    capacity = np.where(sizes > 0, np.minimum(room * (clip or 1), budget), 0)
    if capacity.sum() < budget:
        return _shortfall(sizes, budget, clip or 1)
    level = water_level(capacity, budget)
    full = sizes <= math.floor(level) // clip if clip is not None else sizes == 0
    counts = np.minimum(capacity.astype(np.float64), float(level))
    return Allocation(
        budget=budget, level=level, counts=counts, clipped=np.asarray(full, dtype=np.bool_)
    )


def water_level(capacity: NDArray[np.int64], budget: int) -> Fraction:
    """Solve sum_k min(c_k, lambda) = B for lambda, exactly.

    With capacities sorted, filling i clusters to the brim and the others to the level of the
    next brim takes S_i + (K - i) c_i, which grows with i. So one search finds how many are full,
    and the rest share what remains.

    Args:
        capacity: c_k = r N_k, shape (K,).
        budget: B, with 0 < B <= sum of `capacity`.
    """
    brims = np.sort(capacity)
    filled = np.concatenate([[0], np.cumsum(brims)[:-1]])
    takes = filled + np.arange(len(brims), 0, -1) * brims
    num_full = int(np.searchsorted(takes, budget))
    return Fraction(budget - int(filled[num_full]), len(brims) - num_full)


def _shortfall(sizes: NDArray[np.int64], budget: int, clip: int) -> Shortfall:
    total = int(sizes.sum())
    needed = -(-budget // total) if total else None
    return Shortfall(budget=budget, allowed=clip * total, clip=clip, needed_clip=needed)


def _check(budget: int, clip: int | None) -> None:
    if not 0 < budget <= MAX_BUDGET:
        raise InvalidInput(f"budget must lie in [1, 2^43], got {budget}")
    if clip is not None and clip < 1:
        raise InvalidInput(f"clip must be at least 1, got {clip}")
