"""Which topics are weak, and which are only small."""

from services.evaluator.accuracy import topic_accuracy
from services.evaluator.weak import weak_topics


def topic(name, right, items):
    return topic_accuracy(name, right, items)


def test_a_topic_whose_upper_bound_lies_below_the_mean_is_weak():
    # Wilson: 3 of 40 has the upper bound 0.199, 8 of 40 has 0.348.
    topics = [topic("far", 3, 40), topic("near", 8, 40)]
    assert weak_topics(topics, 0.34) == ["far"]
    assert weak_topics(topics, 0.35) == ["far", "near"]


def test_the_furthest_below_comes_first_by_upper_bound_and_not_by_average():
    topics = [topic("small", 3, 30), topic("large", 15, 145)]
    assert topics[0].share.estimate < topics[1].share.estimate
    assert weak_topics(topics, 0.5) == ["large", "small"]


def test_equally_weak_topics_come_by_name():
    assert weak_topics([topic("b", 1, 40), topic("a", 1, 40)], 0.5) == ["a", "b"]


def test_a_topic_of_29_items_is_not_judged_and_one_of_30_is():
    topics = [topic("small", 0, 29), topic("enough", 0, 30)]
    assert weak_topics(topics, 0.5) == ["enough"]
    assert weak_topics(topics, 0.5, min_items=29) == ["enough", "small"]


def test_an_upper_bound_equal_to_the_mean_is_not_below_it():
    edge = topic("edge", 3, 40)
    assert weak_topics([edge], edge.share.high) == []


def test_items_without_topic_are_never_weak():
    assert weak_topics([topic("", 0, 100)], 0.5) == []


def test_no_topics_no_weak_ones():
    assert weak_topics([], 0.5) == []
