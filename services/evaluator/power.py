"""Power of the paired comparison: would these items show that gain?

A round whose exam cannot show the gain that it hopes for should not train. A promotion needs the
lower 95 % bound of the paired difference above 0. Differences are -1, 0 or 1 an item; with a
share `discordance` of them not 0 and mean `gain` their variance is discordance - gain**2 (Connor
1987), times the design effect 1 + (m - 1) * rho where m items share a document (Kish 1965).

The normal approximation holds from about 20 discordant pairs on; the tests check it by simulation.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy.stats import norm

from libs.errors import InvalidInput
from services.evaluator.intervals import Z

DEFAULT_POWER = 0.8
DEFAULT_GAIN = 0.08
"""Gain of accuracy that a round hopes for; the pilot's was 0.085."""
DEFAULT_DISCORDANCE = 0.3


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A true difference between two models, and how it would show."""

    gain: float = DEFAULT_GAIN
    """Difference in accuracy, in (0, 1)."""
    discordance: float = DEFAULT_DISCORDANCE
    """Share of items that change from right to wrong or back, in [gain, 1]."""
    design_effect: float = 1.0
    """Variance over that of as many items of documents of their own, at least 1."""

    def __post_init__(self) -> None:
        if not 0 < self.gain < 1:
            raise InvalidInput(f"gain must lie in (0, 1), got {self.gain}")
        if not self.gain <= self.discordance <= 1:
            raise InvalidInput(
                f"discordance must lie in [gain, 1] = [{self.gain}, 1], got {self.discordance}"
            )
        if not 1 <= self.design_effect < math.inf:
            raise InvalidInput(f"design effect must be at least 1, got {self.design_effect}")

    @property
    def variance(self) -> float:
        """Variance of an item's difference, the design effect included."""
        return self.design_effect * (self.discordance - self.gain**2)


class Grouped(NamedTuple):
    """A value and the document it belongs to."""

    document_id: str
    value: float


def power(num_items: int, effect: Effect) -> float:
    """Return the probability that the lower 95 % bound lies above 0."""
    return float(norm.cdf(effect.gain * math.sqrt(num_items / effect.variance) - Z))


def items_needed(effect: Effect, wanted: float = DEFAULT_POWER) -> int:
    """Return the fewest items that have the power.

    Raises:
        InvalidInput: the power lies outside [0.025, 1).
    """
    return math.ceil(effect.variance * (_reach(wanted) / effect.gain) ** 2)


def design_effect(items_per_document: float, intraclass_correlation: float) -> float:
    """Return 1 + (m - 1) * rho.

    Raises:
        InvalidInput: fewer than one item a document, or a correlation outside [0, 1).
    """
    if not 1 <= items_per_document < math.inf:
        raise InvalidInput(f"items per document must be at least 1, got {items_per_document}")
    if not 0 <= intraclass_correlation < 1:
        raise InvalidInput(
            f"intraclass correlation must lie in [0, 1), got {intraclass_correlation}"
        )
    return 1 + (items_per_document - 1) * intraclass_correlation


def items_per_document(document_ids: Sequence[str]) -> float:
    """Return the mean over *items* of the items in their document: sum of squares over sum.

    Documents of unequal size inflate the variance by this mean, not by the one over documents.
    """
    sizes = Counter(document_ids).values()
    return sum(size**2 for size in sizes) / max(sum(sizes), 1)


def intraclass_correlation(values: Iterable[Grouped]) -> float:
    """Estimate how alike two values of one document are, in [0, 1), by analysis of variance.

    Documents of one value say nothing of it and count for the spread between documents only;
    negative estimates are 0. Source: Donner 1986, equation 2.
    """
    by_document: defaultdict[str, list[float]] = defaultdict(list)
    for document_id, value in values:
        by_document[document_id].append(value)
    groups = [each for _, each in sorted(by_document.items())]
    num_values, num_groups = sum(map(len, groups)), len(groups)
    if not 1 < num_groups < num_values:
        return 0.0
    mean = sum(map(sum, groups)) / num_values
    between = sum(len(g) * (sum(g) / len(g) - mean) ** 2 for g in groups) / (num_groups - 1)
    within = sum((v - sum(g) / len(g)) ** 2 for g in groups for v in g) / (num_values - num_groups)
    size = (num_values - sum(len(g) ** 2 for g in groups) / num_values) / (num_groups - 1)
    total = between + (size - 1) * within
    return min(max((between - within) / total, 0.0), 0.99) if total > 0 else 0.0


def _reach(wanted: float) -> float:
    """Return the standard errors that a gain must lie above 0 to be shown with that power."""
    if not (1 - norm.cdf(Z)) <= wanted < 1:
        raise InvalidInput(f"power must lie in [0.025, 1), got {wanted}")
    return Z + float(norm.ppf(wanted))
