"""Counts of right answers by topic."""

from services.evaluator.accuracy import accuracy_by_topic
from services.evaluator.intervals import wilson
from services.evaluator.score import Response


def response(topic, correct):
    return Response(
        item_id="q",
        weights_digest="w",
        topic=topic,
        document_id="d",
        key=0,
        chosen=int(not correct),
        correct=correct,
        log_likelihoods=(-1.0, -2.0),
        num_tokens=(1, 1),
        num_stem_tokens_cut=0,
    )


def test_right_answers_are_counted_topic_by_topic_by_name():
    answers = [("b", True), ("a", False), ("b", False), ("b", True)]
    first, second = accuracy_by_topic(response(*each) for each in answers)
    assert (first.topic, first.num_right, first.num_items) == ("a", 0, 1)
    assert (second.topic, second.num_right, second.num_items) == ("b", 2, 3)
    assert second.share == wilson(2, 3)
