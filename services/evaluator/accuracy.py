"""The share of right answers by topic: what a person reads and the weak-topic rule judges."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from services.evaluator.intervals import Share, wilson
from services.evaluator.score import Response


@dataclass(frozen=True, kw_only=True)
class TopicAccuracy:
    """How one model did on one topic."""

    topic: str
    num_items: int
    num_right: int
    share: Share


def accuracy_by_topic(responses: Iterable[Response]) -> list[TopicAccuracy]:
    """Count right answers topic by topic, by the topic's name."""
    answers: defaultdict[str, list[bool]] = defaultdict(list)
    for response in responses:
        answers[response.topic].append(response.correct)
    return [topic_accuracy(topic, sum(each), len(each)) for topic, each in sorted(answers.items())]


def topic_accuracy(topic: str, num_right: int, num_items: int) -> TopicAccuracy:
    """Give a count its interval. Raises `InvalidInput` without items."""
    share = wilson(num_right, num_items)
    return TopicAccuracy(topic=topic, num_items=num_items, num_right=num_right, share=share)
