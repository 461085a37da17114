"""A world in which nothing helps: what is promoted there is an error, and errors are rare.

Candidates that are neither better nor worse than the old model, simulated answer by answer, go
through the comparison and the decision as a round does. Answers of one document go together, as
they do where several items are cut from one page. Nothing is trained.
"""

import numpy as np
import pytest
from scipy.stats import binom

from services.evaluator.compare import compare
from services.evaluator.intervals import Bootstrap
from services.evaluator.score import Response
from services.loop.outcome import Cause, Contrasts, Outcome, Rule, decide

NUM_DECISIONS = 400
ERROR_RATE = 0.025
"""Of a lower 95 % bound above 0 where there is nothing: one side of the interval."""
MOST = int(binom.ppf(0.999, NUM_DECISIONS, ERROR_RATE))
"""More promotions than this would come by chance once in a thousand such worlds."""
TARGET, REST = "tides", ("ores", "sails", "songs")
TARGET_DOCUMENTS, REST_DOCUMENTS, ITEMS_PER_DOCUMENT = 80, 400, 4
SKILL = {TARGET: 0.3, **dict.fromkeys(REST, 0.6)}
"""True share of right answers, the same of every model."""
GUARD_MARGIN = 0.05
"""So wide that the guard is shown: promotions then hang on the gain alone."""
CHANGED_DOCUMENTS = 0.15
"""Share of documents on which another training leaves another impression, good or bad by chance."""


class NullWorld:
    """Models that differ by chance alone, examined on one exam."""

    def __init__(self, seed):
        self.draw = np.random.default_rng(seed)
        counts = {TARGET: TARGET_DOCUMENTS, **dict.fromkeys(REST, REST_DOCUMENTS // len(REST))}
        self.documents = [(topic, f"{topic}-{n}") for topic in counts for n in range(counts[topic])]
        self.old = np.array([self._impression(topic) for topic, _ in self.documents for _ in (0,)])

    def _impression(self, topic):
        """Return which items of a document a model answers rightly, by how well it knows it."""
        known = self.draw.beta(2 * SKILL[topic], 2 * (1 - SKILL[topic]))
        return self.draw.random(ITEMS_PER_DOCUMENT) < known

    def trained(self):
        """Return the answers of a model that further training changed, for nothing on the whole."""
        changed = self.draw.random(len(self.documents)) < CHANGED_DOCUMENTS
        return [
            self._impression(topic) if new else before
            for (topic, _), new, before in zip(self.documents, changed, self.old, strict=True)
        ]

    def responses(self, right, digest):
        return [
            Response(
                item_id=f"{document}-{item}",
                weights_digest=digest,
                topic=topic,
                document_id=document,
                key=0,
                chosen=0 if each else 1,
                correct=bool(each),
                log_likelihoods=(-1.0, -1.0, -1.0, -1.0),
                num_tokens=(1, 1, 1, 1),
                num_stem_tokens_cut=0,
            )
            for (topic, document), answers in zip(self.documents, right, strict=True)
            for item, each in enumerate(answers)
        ]


def decision(seed):
    """Decide on one candidate that is no better, beside a control that is no better either."""
    world = NullWorld(seed)
    old = world.responses(world.old, "0" * 64)
    candidate = world.responses(world.trained(), "1" * 64)
    control = world.responses(world.trained(), "2" * 64)
    found = compare(old, candidate, control, [TARGET], Bootstrap(num_draws=1000, seed=seed))
    contrasts = Contrasts.of(found.to_json())
    return contrasts, decide(contrasts, Rule(guard_margin=GUARD_MARGIN))


@pytest.fixture(scope="module")
def decisions():
    return [decision(seed) for seed in range(NUM_DECISIONS)]


def test_promotions_of_candidates_that_are_no_better_stay_within_the_error_rate(decisions):
    promoted = [made for _, made in decisions if made.outcome is Outcome.PROMOTED]
    assert len(promoted) <= MOST


def test_the_guard_is_shown_so_that_few_promotions_speak_for_the_interval_of_the_gain(decisions):
    held = [found.guard.low > -GUARD_MARGIN for found, _ in decisions]
    assert np.mean(held) > 0.9


def test_a_gain_is_shown_as_often_as_a_loss(decisions):
    gains = sum(found.gain.low > 0 for found, _ in decisions)
    losses = sum(found.gain.high < 0 for found, _ in decisions)
    assert gains <= MOST
    assert losses <= MOST


def test_intervals_that_took_items_for_independent_would_not_pass(decisions):
    """The world is clustered enough for this suite to see an interval that ignores documents."""
    found = [each for each, _ in decisions]
    variance = [
        each.gain.num_discordant / each.gain.num_items - each.gain.estimate**2 for each in found
    ]
    naive = [
        abs(each.gain.estimate) > 1.96 * np.sqrt(spread / each.gain.num_items)
        for each, spread in zip(found, variance, strict=True)
    ]
    assert sum(naive) > binom.ppf(0.999, NUM_DECISIONS, 2 * ERROR_RATE)


def test_a_gain_of_nothing_is_rarely_put_down_to_the_targeting(decisions):
    assert sum(made.cause is Cause.TARGETING for _, made in decisions) <= MOST


def test_to_demand_the_targeting_promotes_no_more(decisions):
    rule = Rule(require=frozenset({"gain", "guard", "targeting"}), guard_margin=GUARD_MARGIN)
    for found, made in decisions:
        if decide(found, rule).outcome is Outcome.PROMOTED:
            assert made.outcome is Outcome.PROMOTED
