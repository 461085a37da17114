"""Decide from a comparison what becomes of a candidate, and what its gain is due to.

Here so that the one decision that moves weights is a function of figures alone, each of its
branches a row of a table. Pure. Source: the table of outcomes in the design of a round.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from libs.errors import InvalidInput

_Z, _Z_POWER = 1.96, 0.84
"""Normal quantiles of a two-sided 95 % interval and of a power of 0.8."""


class Outcome(StrEnum):
    """How a round ends."""

    PROMOTED = "promoted"
    REJECTED = "rejected"
    UNDECIDED = "undecided"
    NOTHING_WEAK = "nothing_weak"
    STARVED = "starved"
    UNDERPOWERED = "underpowered"
    AWAITING_APPROVAL = "awaiting_approval"
    CANCELLED = "cancelled"
    FAILED = "failed"


GIVEN_BY_STEPS = tuple(
    outcome for outcome in Outcome if outcome not in (Outcome.CANCELLED, Outcome.FAILED)
)


class Cause(StrEnum):
    """What the gain is due to."""

    TARGETING = "targeting"
    MORE_TRAINING = "more_training"
    NOT_SEPARABLE = "not_separable"


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A paired difference in accuracy with its 95 % interval, each in [-1, 1]."""

    estimate: float
    low: float
    high: float
    num_items: int
    num_discordant: int
    """Pairs of which one answer is right and the other wrong."""

    def __post_init__(self) -> None:
        if not (-1 <= self.low <= self.high <= 1 and math.isfinite(self.estimate)):
            raise InvalidInput(f"an interval has -1 <= low <= high <= 1, got {self}")
        if not 0 <= self.num_discordant <= self.num_items:
            raise InvalidInput(f"at most all {self.num_items} pairs are discordant, got {self}")


@dataclass(frozen=True, kw_only=True)
class Contrasts:
    """What a comparison found."""

    gain: Contrast
    """Candidate minus old, on the target topics."""
    guard: Contrast
    """Candidate minus old, on all other topics."""
    targeting: Contrast | None = None
    """Candidate minus control, on the target topics; None: there was no control."""
    control_gain: Contrast | None = None
    """Control minus old, on the target topics."""
    num_items_needed: int = 0
    """Target items that would have decided it; 0: unknown."""

    @classmethod
    def of(cls, comparison: Mapping[str, Any]) -> "Contrasts":
        """Read them from a `comparison.json`. Raises `InvalidInput` when it holds none."""
        try:
            return cls(
                gain=_contrast(comparison["gain"]),
                guard=_contrast(comparison["guard"]),
                targeting=_optional(comparison.get("targeting")),
                control_gain=_optional(comparison.get("control_gain")),
                num_items_needed=int(comparison.get("items_needed") or 0),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"expected a comparison, got {comparison}: {error!r}") from error


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a promotion asks for."""

    require: frozenset[str] = frozenset({"gain", "guard"})
    """Contrasts that must be shown; `gain` and `guard` always are among them."""
    guard_margin: float = 0.02
    """Loss of accuracy on all other topics that is tolerated, in (0, 1]."""
    min_discordant_pairs: int = 10
    """Discordant pairs of a gain below which it decides nothing, at least 1."""
    manual: bool = False
    """True: a candidate that would be promoted waits for a person."""

    def __post_init__(self) -> None:
        unknown = sorted(self.require - {"gain", "guard", "targeting"})
        if unknown:
            raise InvalidInput(f"require knows gain, guard and targeting, got {unknown[0]!r}")
        if not 0 < self.guard_margin <= 1:
            raise InvalidInput(f"guard_margin must lie in (0, 1], got {self.guard_margin}")
        if self.min_discordant_pairs < 1:
            least = self.min_discordant_pairs
            raise InvalidInput(f"min_discordant_pairs must be at least 1, got {least}")


class Decision(NamedTuple):
    """What becomes of the candidate, and why: a sentence each."""

    outcome: Outcome
    reason: str
    cause: Cause
    attribution: str


def decide(found: Contrasts, rule: Rule) -> Decision:
    """Decide; whatever the figures, exactly one outcome of four comes back.

    `awaiting_approval` stands for `promoted` where a person must approve. Bounds are strict: an
    interval that ends at 0 shows nothing.
    """
    outcome, reason = _outcome(found, rule)
    cause, attribution = attribute(found, rule)
    return Decision(outcome, reason, cause, attribution)


def attribute(found: Contrasts, rule: Rule) -> tuple[Cause, str]:
    """Say what the gain is due to, with a sentence for the report's first line."""
    if not _shows(found.gain, rule):
        return Cause.NOT_SEPARABLE, "No gain is shown, so there is nothing to attribute."
    if found.targeting is None or found.control_gain is None:
        return Cause.NOT_SEPARABLE, "There is no control, so targeting and training are one."
    over = f"the candidate stands {_shown(found.targeting)} over the control"
    if _shows(found.targeting, rule):
        return Cause.TARGETING, f"The gain is due to the targeting: {over}."
    if _shows(found.control_gain, rule):
        as_much = f"the control gains {_shown(found.control_gain)} too, and {over}"
        return Cause.MORE_TRAINING, f"The gain is due to more training: {as_much}."
    return Cause.NOT_SEPARABLE, f"Targeting and more training cannot be separated: {over}."


def _outcome(found: Contrasts, rule: Rule) -> tuple[Outcome, str]:
    gain, guard = found.gain, found.guard
    if gain.num_discordant < rule.min_discordant_pairs:
        return Outcome.UNDECIDED, f"{_few(gain, rule)}{_or(_for_pairs(gain, rule), 'target')}."
    harm = _harm(found, rule)
    if harm:
        return Outcome.REJECTED, harm
    doubt = _doubt(found, rule)
    if doubt:
        return Outcome.UNDECIDED, f"{doubt}."
    outcome = Outcome.AWAITING_APPROVAL if rule.manual else Outcome.PROMOTED
    waits = ", and a person must approve" if rule.manual else ""
    return outcome, f"The target topics gain {_shown(gain)}, the rest {_shown(guard)}{waits}."


def _harm(found: Contrasts, rule: Rule) -> str:
    """Say what is shown to be worse; empty if nothing is."""
    if found.guard.high < -rule.guard_margin:
        margin = f"more than the {100 * rule.guard_margin:g} points tolerated"
        return f"The other topics lose {_shown(found.guard)}, {margin}."
    if found.gain.high < 0:
        return f"The target topics lose: {_shown(found.gain)}."
    if "targeting" in rule.require and found.targeting and found.targeting.high < 0:
        return f"The candidate is worse than the control: {_shown(found.targeting)}."
    return ""


def _doubt(found: Contrasts, rule: Rule) -> str:
    """Say what is not shown although a promotion needs it; empty if all is."""
    gain, guard, targeting = found.gain, found.guard, found.targeting
    if gain.low <= 0:
        needed = _or(found.num_items_needed, "target")
        return f"A gain on the target topics is not shown: {_shown(gain)}{needed}"
    if guard.low <= -rule.guard_margin or _is_blind(guard, rule):
        loss = f"That the other topics lose less than {100 * rule.guard_margin:g} points"
        needed = _or(_for_guard(guard, rule), "other")
        return f"{loss} is not shown: {_shown(guard)}{needed}"
    if "targeting" in rule.require and not _shows(targeting, rule):
        beats = "That targeting beats more training is not shown, but required"
        if targeting is None:
            return f"{beats}: there was no control"
        if targeting.low > 0:
            needed = _or(_for_pairs(targeting, rule), "target")
            return f"{beats}: {_few(targeting, rule).lower()}{needed}"
        needed = _or(_for_distance(targeting, targeting.estimate), "target")
        return f"{beats}: {_shown(targeting)}{needed}"
    return ""


def _is_blind(guard: Contrast, rule: Rule) -> bool:
    """Tell whether so few items could have stood still though the rest loses the margin."""
    few = guard.num_discordant < rule.min_discordant_pairs
    return few and guard.num_items < _unseen_items(rule)


def _unseen_items(rule: Rule) -> int:
    """Items below which no change at all may be chance at the margin: (1 - margin)^n > 2.5 %."""
    return math.ceil(-math.log(0.025) / rule.guard_margin)


# How many items would have decided it: 0 where the estimate itself points the other way.


def _for_guard(guard: Contrast, rule: Rule) -> int:
    by_spread = _for_distance(guard, guard.estimate + rule.guard_margin)
    return max(by_spread, _unseen_items(rule)) if _is_blind(guard, rule) else by_spread


def _for_pairs(contrast: Contrast, rule: Rule) -> int:
    if contrast.num_discordant == 0:
        return 0
    return math.ceil(rule.min_discordant_pairs * contrast.num_items / contrast.num_discordant)


def _for_distance(contrast: Contrast, distance: float) -> int:
    """Return the items that would show a difference as far as `distance` from what it must not be.

    With a power of 0.8, at the spread of the interval at hand.
    """
    if distance <= 0:
        return 0
    error = (contrast.estimate - contrast.low) / _Z
    return math.ceil(contrast.num_items * ((_Z + _Z_POWER) * error / distance) ** 2)


def _or(num_items: int, which: str) -> str:
    return f"; about {num_items:,} {which} items would have decided it" if num_items else ""


def _few(contrast: Contrast, rule: Rule) -> str:
    return (
        f"Only {contrast.num_discordant} of {contrast.num_items} target items changed, and fewer "
        f"than {rule.min_discordant_pairs} decide nothing"
    )


def _shows(contrast: Contrast | None, rule: Rule) -> bool:
    if contrast is None or contrast.num_discordant < rule.min_discordant_pairs:
        return False
    return contrast.low > 0


def _shown(contrast: Contrast) -> str:
    low, high = 100 * contrast.low, 100 * contrast.high
    return f"{100 * contrast.estimate:+.1f} points (95 % from {low:+.1f} to {high:+.1f})"


def _optional(fields: Mapping[str, Any] | None) -> Contrast | None:
    return None if fields is None else _contrast(fields)


def _contrast(fields: Mapping[str, Any]) -> Contrast:
    return Contrast(
        estimate=float(fields["estimate"]),
        low=float(fields["low"]),
        high=float(fields["high"]),
        num_items=int(fields["num_items"]),
        num_discordant=int(fields["num_discordant"]),
    )


def rule_of(
    require: Sequence[str], guard_margin: float, min_discordant_pairs: int, manual: bool
) -> Rule:
    """Return the rule that a request asks for, its zeros the defaults. Raises `InvalidInput`."""
    return Rule(
        require=frozenset({"gain", "guard", *require}),
        guard_margin=guard_margin or Rule.guard_margin,
        min_discordant_pairs=min_discordant_pairs or Rule.min_discordant_pairs,
        manual=manual,
    )
