"""Finds what a model is weak at, and whether the decision half could show that it improved.

Asked before anything is collected or trained: a round that cannot end in a decision is not run.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from libs.formats import canonical_json
from services.evaluator.accuracy import TopicAccuracy, accuracy_by_topic
from services.evaluator.items import Item
from services.evaluator.power import (
    DEFAULT_DISCORDANCE,
    DEFAULT_GAIN,
    DEFAULT_POWER,
    Effect,
    Grouped,
    design_effect,
    intraclass_correlation,
    items_needed,
    items_per_document,
    power,
)
from services.evaluator.score import Response
from services.evaluator.weak import DEFAULT_MIN_ITEMS, weak_topics

DEFAULT_MAX_TOPICS = 3
GUARD_MARGIN = 0.02
"""Loss of accuracy on all other topics that a promotion must exclude."""
CONTROL_SHARE = 0.5
"""Share of the hoped gain that is granted to the control when attribution's power is shown."""


class Outcome(StrEnum):
    """How a diagnosis ends a round."""

    NOTHING_WEAK = "nothing_weak"
    UNDERPOWERED = "underpowered"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What the round asks of a diagnosis."""

    min_items: int = DEFAULT_MIN_ITEMS
    """Diagnosis items that a topic needs to be judged."""
    max_topics: int = DEFAULT_MAX_TOPICS
    """Weak topics to aim at before others join for power."""
    hoped_gain: float = DEFAULT_GAIN
    discordance: float = DEFAULT_DISCORDANCE
    power: float = DEFAULT_POWER
    """That the decision half's target items must have."""

    def __post_init__(self) -> None:
        Effect(gain=self.hoped_gain, discordance=self.discordance)
        items_needed(Effect(), self.power)


@dataclass(frozen=True, kw_only=True)
class ContrastPower:
    """What the decision half can show of one contrast of the decision."""

    contrast: str
    num_items: int
    effect: Effect
    """The true difference that is supposed."""
    power: float
    items_needed: int
    """For the power that the rule asks."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Where the model is weak, what the round aims at, and what it can show."""

    weights_digest: str
    mean_accuracy: float
    topics: Sequence[TopicAccuracy]
    """All topics, by name."""
    weak_topics: Sequence[str]
    """Furthest below the mean first."""
    target_topics: Sequence[str]
    """Those of the weak topics that the round aims at, in the same order."""
    intraclass_correlation: float
    """Of right answers within a document, topic means removed; stands in for the differences'."""
    contrasts: Sequence[ContrastPower]
    """Gain, guard and targeting on the decision half; empty if nothing is weak."""
    exam_items_needed: int
    """Items in both halves, at this exam's share of target items; 0 if nothing is weak."""
    outcome: Outcome | None
    """None: the round goes on."""
    reason: str

    def to_json(self, exam_id: str) -> dict[str, Any]:
        """Return what `diagnosis.json` holds."""
        return {
            "exam_id": exam_id,
            "weights_digest": self.weights_digest,
            "mean_accuracy": self.mean_accuracy,
            "weak_topics": list(self.weak_topics),
            "target_topics": list(self.target_topics),
            "intraclass_correlation": self.intraclass_correlation,
            "power": {each.contrast: _contrast_json(each) for each in self.contrasts},
            "exam_items_needed": self.exam_items_needed,
            "outcome": self.outcome or "",
            "reason": self.reason,
        }


def diagnose(responses: Sequence[Response], decision: Sequence[Item], rule: Rule) -> Diagnosis:
    """Judge one model's answers to the diagnosis half.

    Starts with the `max_topics` weakest topics; further weak ones join until the decision half's
    items on them have the power, or all have joined.

    Args:
        responses: at least one, all of one model.
        decision: the items of the decision half; only their topics and documents are read.
    """
    topics = accuracy_by_topic(responses)
    mean = sum(each.num_right for each in topics) / len(responses)
    weak = weak_topics(topics, mean, rule.min_items)
    correlation = _correlation(responses, topics)
    targets = _targets(weak, decision, rule, correlation)
    contrasts = _contrasts(targets, decision, rule, correlation) if targets else ()
    outcome, reason = _end(topics, mean, rule, contrasts, len(targets), len(decision))
    return Diagnosis(
        weights_digest=responses[0].weights_digest,
        mean_accuracy=mean,
        topics=topics,
        weak_topics=weak,
        target_topics=targets,
        intraclass_correlation=correlation,
        contrasts=contrasts,
        exam_items_needed=_exam_items_needed(contrasts[0], len(decision)) if contrasts else 0,
        outcome=outcome,
        reason=reason,
    )


def missed(responses: Sequence[Response], topics: Sequence[str]) -> Iterator[Response]:
    """Yield the wrong answers on these topics, in the order given."""
    wanted = set(topics)
    return (each for each in responses if each.topic in wanted and not each.correct)


def seed_row(response: Response, stem: str) -> dict[str, Any]:
    """Return the query that a missed item starts with: its stem, never an option."""
    content = canonical_json([response.topic, response.item_id, stem])
    return {
        "query_id": hashlib.sha256(content).hexdigest(),
        "text": stem,
        "kind": "seed",
        "parent_id": "",
        "topic": response.topic,
        "item_id": response.item_id,
        "depth": 0,
    }


def _correlation(responses: Sequence[Response], topics: Sequence[TopicAccuracy]) -> float:
    means = {each.topic: each.share.estimate for each in topics}
    return intraclass_correlation(
        Grouped(each.document_id, each.correct - means[each.topic]) for each in responses
    )


def _targets(
    weak: Sequence[str], decision: Sequence[Item], rule: Rule, correlation: float
) -> Sequence[str]:
    for count in range(min(rule.max_topics, len(weak)), len(weak)):
        gain, *_ = _contrasts(weak[:count], decision, rule, correlation)
        if gain.power >= rule.power:
            return weak[:count]
    return weak


def _contrasts(
    targets: Sequence[str], decision: Sequence[Item], rule: Rule, correlation: float
) -> tuple[ContrastPower, ...]:
    """Return gain, guard and targeting, in this order."""
    aimed = [item.document_id for item in decision if item.topic in set(targets)]
    rest = [item.document_id for item in decision if item.topic not in set(targets)]
    contrasts = (
        ("gain", aimed, rule.hoped_gain),
        ("guard", rest, GUARD_MARGIN),
        ("targeting", aimed, rule.hoped_gain * (1 - CONTROL_SHARE)),
    )
    return tuple(
        _contrast(name, documents, gain, rule, correlation) for name, documents, gain in contrasts
    )


def _contrast(
    name: str, documents: Sequence[str], gain: float, rule: Rule, correlation: float
) -> ContrastPower:
    effect = Effect(
        gain=gain,
        discordance=max(rule.discordance, gain),
        design_effect=design_effect(max(items_per_document(documents), 1.0), correlation),
    )
    return ContrastPower(
        contrast=name,
        num_items=len(documents),
        effect=effect,
        # The interval of a single document is everything.
        power=power(len(documents), effect) if len(set(documents)) > 1 else 0.0,
        items_needed=items_needed(effect, rule.power),
    )


def _exam_items_needed(gain: ContrastPower, num_decision: int) -> int:
    """Scale the target items needed to both halves, at the present share of target items."""
    return -(-2 * gain.items_needed * num_decision // max(gain.num_items, 1))


def _end(
    topics: Sequence[TopicAccuracy],
    mean: float,
    rule: Rule,
    contrasts: Sequence[ContrastPower],
    num_targets: int,
    num_decision: int,
) -> tuple[Outcome | None, str]:
    judged = sum(each.num_items >= rule.min_items and each.topic != "" for each in topics)
    if not contrasts:
        return Outcome.NOTHING_WEAK, (
            f"None of the {judged} topics with at least {rule.min_items} diagnosis items has an "
            f"upper 95 % bound below the mean accuracy of {mean:.3f}."
        )
    gain = contrasts[0]
    if gain.power == 0:
        return Outcome.UNDERPOWERED, (
            f"The {gain.num_items} decision items on all {num_targets} weak topics come from one "
            "document or none, which says nothing of others: give items of many documents."
        )
    if gain.power < rule.power:
        return Outcome.UNDERPOWERED, (
            f"The {gain.num_items} decision items on all {num_targets} weak topics would show a "
            f"gain of {gain.effect.gain:g} at a discordance of {gain.effect.discordance:g} with a "
            f"power of {gain.power:.2f}, below {rule.power:g}: {gain.items_needed} would be "
            f"needed, an exam of about {_exam_items_needed(gain, num_decision)} items."
        )
    return None, ""


def _contrast_json(contrast: ContrastPower) -> dict[str, float]:
    return {
        "num_items": contrast.num_items,
        "gain": contrast.effect.gain,
        "discordance": contrast.effect.discordance,
        "design_effect": contrast.effect.design_effect,
        "power": contrast.power,
        "items_needed": contrast.items_needed,
    }
