"""Responses and items with known answers, for every test of the evaluator."""

import pytest

from services.evaluator.items import Item
from services.evaluator.score import Response


@pytest.fixture
def respond():
    """Make responses from (topic, correct) pairs; documents hold `per_document` items each."""

    def make(answers, digest="old", per_document=1):
        return [
            Response(
                item_id=f"q{place:05}",
                weights_digest=digest,
                topic=topic,
                document_id=f"{topic}{place // per_document}",
                key=1,
                chosen=int(correct),
                correct=bool(correct),
                log_likelihoods=(-1.0, -2.0),
                num_tokens=(1, 1),
                num_stem_tokens_cut=0,
            )
            for place, (topic, correct) in enumerate(answers)
        ]

    return make


@pytest.fixture
def items_of():
    """Make items from topics; documents hold `per_document` items each."""

    def make(topics, per_document=1):
        return [
            Item(
                item_id=f"q{place:05}",
                topic=topic,
                document_id=f"{topic}{place // per_document}",
                stem=f"stem {place}",
                options=(" a", " b"),
                key=1,
            )
            for place, topic in enumerate(topics)
        ]

    return make
