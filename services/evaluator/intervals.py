"""Error bars: of a share, and of the paired difference between two models.

A decision without them would promote noise. Sources: Wilson 1927 (the score interval), McNemar
1947 with the exact binomial test, Efron and Tibshirani 1993, chapter 13 (the percentile interval),
Field and Welsh 2007 (resampling whole clusters), Hesterberg 2015 (widening it for few of them).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm, t

from libs.errors import InvalidInput

CONFIDENCE = 0.95
Z = float(norm.ppf(0.5 + CONFIDENCE / 2))
"""Two-sided 95 % quantile of the normal distribution, 1.96."""
DEFAULT_NUM_DRAWS = 10_000
MAX_NUM_DRAWS = 1_000_000
_BATCH_CELLS = 4_000_000
"""Counts drawn at once, 32 MB: singleton documents need 3 a draw, others more."""


class Share(NamedTuple):
    """A share of right answers with its Wilson 95 % interval, all in [0, 1]."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A paired difference in accuracy, in [-1, 1], with its 95 % interval."""

    estimate: float
    low: float
    high: float
    num_items: int
    num_discordant: int
    """Items that exactly one of the two answered rightly; with none, and two documents or more, the
    interval is [0, 0]."""
    mcnemar_p: float
    """Exact and two-sided; takes items for independent, so it only stands beside the interval."""


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How an interval is drawn."""

    num_draws: int = DEFAULT_NUM_DRAWS
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.num_draws <= MAX_NUM_DRAWS:
            raise InvalidInput(f"draws must lie in [1, {MAX_NUM_DRAWS}], got {self.num_draws}")


def wilson(num_right: int, num_items: int) -> Share:
    """Return the share of right answers with its Wilson 95 % interval.

    Raises:
        InvalidInput: no items, or more right answers than items.
    """
    if not 0 <= num_right <= num_items or num_items == 0:
        raise InvalidInput(f"right answers must lie in [0, items], got {num_right} of {num_items}")
    share, spread = num_right / num_items, Z**2 / num_items
    middle = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / num_items + spread / (4 * num_items)) / (1 + spread)
    # At the ends the bound is the end itself, which rounding may miss by 1e-17.
    low = 0.0 if num_right == 0 else middle - half
    high = 1.0 if num_right == num_items else middle + half
    return Share(share, low, high)


def mcnemar(num_gained: int, num_lost: int) -> float:
    """Return the two-sided p of the exact McNemar test on the discordant pairs; 1 without any."""
    if num_gained + num_lost == 0:
        return 1.0
    return float(binomtest(num_gained, num_gained + num_lost, 0.5).pvalue)


def paired_difference(
    before: Sequence[bool], after: Sequence[bool], clusters: Sequence[str], bootstrap: Bootstrap
) -> Difference:
    """Compare two models on the same items, in the same order.

    Args:
        before: whether the first model answered each item rightly, shape (N,).
        after: the same of the second model, shape (N,).
        clusters: document of each item, shape (N,); whole documents are resampled.

    Raises:
        InvalidInput: no items, or lengths that differ.
    """
    if not len(before) == len(after) == len(clusters) or not before:
        raise InvalidInput(
            "expected as many answers before and after as documents, at least one, "
            f"got {len(before)}, {len(after)} and {len(clusters)}"
        )
    changes = np.array(after, dtype=np.int64) - np.array(before, dtype=np.int64)
    gained, lost = int((changes > 0).sum()), int((changes < 0).sum())
    low, high = _percentiles(changes, clusters, bootstrap)
    return Difference(
        estimate=float(changes.mean()),
        low=low,
        high=high,
        num_items=len(changes),
        num_discordant=gained + lost,
        mcnemar_p=mcnemar(gained, lost),
    )


def _percentiles(
    changes: npt.NDArray[np.int64], clusters: Sequence[str], bootstrap: Bootstrap
) -> tuple[float, float]:
    """Draw as many clusters as there are, with replacement, and take the mean of their items.

    Clusters with equal sum and size cannot be told apart, so the number of times that each *sort*
    of cluster is drawn is multinomial: the same distribution as drawing clusters one by one, at a
    cost that does not grow with their number. K sorts: `sorts` has shape (K, 2), `counts` (K,).
    The interval is widened for their number; of a single cluster it is [-1, 1].
    """
    _, members = np.unique(np.array(clusters), return_inverse=True)
    if members.max() == 0:
        return -1.0, 1.0  # one document says nothing of others
    sums = np.bincount(members, weights=changes).astype(np.int64)
    pairs = np.stack([sums, np.bincount(members)], axis=1)
    sorts, counts = np.unique(pairs, axis=0, return_counts=True)
    rng = np.random.Generator(np.random.PCG64(bootstrap.seed))
    batch = max(_BATCH_CELLS // len(counts), 1)
    means = []
    for start in range(0, bootstrap.num_draws, batch):
        size = min(batch, bootstrap.num_draws - start)
        drawn = rng.multinomial(len(pairs), counts / len(pairs), size=size) @ sorts
        means.append(drawn[:, 0] / drawn[:, 1])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    estimate, wider = float(changes.mean()), _widening(len(pairs))
    return (
        max(-1.0, estimate - wider * (estimate - float(low))),
        min(1.0, estimate + wider * (float(high) - estimate)),
    )


def _widening(num_clusters: int) -> float:
    """Return by how much percentiles of few clusters are too narrow.

    Resampling K clusters underestimates the variance by (K - 1) / K, and its tails are normal
    where Student's are due (Hesterberg 2015, section 4.5).
    """
    degrees = num_clusters - 1
    return float(t.ppf(0.5 + CONFIDENCE / 2, degrees)) / Z * math.sqrt(num_clusters / degrees)
