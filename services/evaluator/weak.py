"""The weak-topic rule: where a model is worse than it is on the whole, beyond chance.

Aiming at the lowest averages would aim at the smallest topics; the rule asks the upper end of
each topic's interval instead, and leaves topics too small to be judged alone.
"""

from collections.abc import Iterable

from services.evaluator.accuracy import TopicAccuracy

DEFAULT_MIN_ITEMS = 30
"""Diagnosis items that a topic needs to be judged."""


def weak_topics(
    topics: Iterable[TopicAccuracy], mean_accuracy: float, min_items: int = DEFAULT_MIN_ITEMS
) -> list[str]:
    """Return the topics whose Wilson upper bound lies below the mean, furthest below first.

    Items without a topic are never weak: nothing can be collected for them.
    """
    judged = [each for each in topics if each.topic and each.num_items >= min_items]
    weak = [each for each in judged if each.share.high < mean_accuracy]
    return [each.topic for each in sorted(weak, key=lambda each: (each.share.high, each.topic))]
