"""Compares checkpoints item by item on the decision half.

Pairing removes the difficulty of the items from the comparison, so the same items in the same
option order are demanded and never assumed.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from libs.errors import Conflict, InvalidInput
from services.evaluator.intervals import Bootstrap, Difference, paired_difference
from services.evaluator.power import (
    Effect,
    Grouped,
    design_effect,
    intraclass_correlation,
    items_needed,
    items_per_document,
)
from services.evaluator.score import Response


class Unpaired(Conflict):
    """The responses are not those of named weights to the same items in the same order."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The paired differences that a decision is made from."""

    gain: Difference
    """Candidate minus old on the target topics."""
    guard: Difference
    """Candidate minus old on all other topics."""
    targeting: Difference | None
    """Candidate minus control on the target topics; None without a control."""
    control_gain: Difference | None
    """Control minus old on the target topics; None without a control."""
    per_topic: dict[str, Difference]
    """Candidate minus old, by the topic's name."""
    target_topics: tuple[str, ...]
    items_needed: int | None
    """Target items that show the observed gain, at the observed discordance and clustering, with
    power 0.8; None if the observed gain is not positive, since then no number would."""

    def to_json(self) -> dict[str, Any]:
        """Return what `comparison.json` holds; contrasts without a control are absent."""
        return {name: value for name, value in asdict(self).items() if value is not None} | {
            "target_topics": list(self.target_topics),
            "items_needed": self.items_needed,
        }


def compare(
    old: Sequence[Response],
    candidate: Sequence[Response],
    control: Sequence[Response] | None,
    target_topics: Collection[str],
    bootstrap: Bootstrap,
) -> Comparison:
    """Compare the candidate, and the control if there is one, with the old checkpoint.

    Raises:
        Unpaired: other items or option orders, or responses without one weights digest.
        InvalidInput: no item on the target topics, or none on the others.
    """
    for other in (old, candidate, control):
        if other is not None:
            check_pairs(old, other)
    targets = [place for place, each in enumerate(old) if each.topic in target_topics]
    others = [place for place, each in enumerate(old) if each.topic not in target_topics]
    if not targets or not others:
        raise InvalidInput(
            f"expected items on the target topics {sorted(target_topics)} and on others, "
            f"got {len(targets)} and {len(others)}"
        )
    return Comparison(
        gain=_difference(old, candidate, targets, bootstrap),
        guard=_difference(old, candidate, others, bootstrap),
        targeting=_difference(control, candidate, targets, bootstrap) if control else None,
        control_gain=_difference(old, control, targets, bootstrap) if control else None,
        per_topic=_per_topic(old, candidate, bootstrap),
        target_topics=tuple(target_topics),
        items_needed=_items_needed(old, candidate, targets),
    )


def check_pairs(one: Sequence[Response], other: Sequence[Response]) -> None:
    """Check that two models answered the same items, in the same order of items and options.

    Raises:
        Unpaired: they did not, or a response does not name the weights that made it.
    """
    for responses in (one, other):
        digests = {each.weights_digest for each in responses}
        if len(digests) != 1 or "" in digests:
            raise Unpaired(f"responses must name one weights digest, got {sorted(digests)}")
    if len(one) != len(other):
        raise Unpaired(f"expected responses to the same items, got {len(one)} and {len(other)}")
    for left, right in zip(one, other, strict=True):
        if left.item_id != right.item_id:
            raise Unpaired(
                f"expected responses to the same items, got {left.item_id} and {right.item_id}"
            )
        if _question(left) != _question(right):
            raise Unpaired(
                f"item {left.item_id}: expected the same key, options, topic and document, "
                f"got {_question(left)} and {_question(right)}"
            )


def _question(response: Response) -> tuple[int, int, str, str]:
    return (
        response.key,
        len(response.log_likelihoods),
        response.topic,
        response.document_id,
    )


def _difference(
    before: Sequence[Response],
    after: Sequence[Response],
    places: Sequence[int],
    bootstrap: Bootstrap,
) -> Difference:
    return paired_difference(
        [before[place].correct for place in places],
        [after[place].correct for place in places],
        [before[place].document_id for place in places],
        bootstrap,
    )


def _per_topic(
    old: Sequence[Response], candidate: Sequence[Response], bootstrap: Bootstrap
) -> dict[str, Difference]:
    topics = sorted({each.topic for each in old})
    places = {
        topic: [place for place, each in enumerate(old) if each.topic == topic] for topic in topics
    }
    return {topic: _difference(old, candidate, places[topic], bootstrap) for topic in topics}


def _items_needed(
    old: Sequence[Response], candidate: Sequence[Response], places: Sequence[int]
) -> int | None:
    changes = [
        Grouped(old[place].document_id, candidate[place].correct - old[place].correct)
        for place in places
    ]
    gain = sum(each.value for each in changes) / len(changes)
    if not 0 < gain < 1:
        return None
    per_document = items_per_document([each.document_id for each in changes])
    effect = Effect(
        gain=gain,
        discordance=sum(abs(each.value) for each in changes) / len(changes),
        design_effect=design_effect(per_document, intraclass_correlation(changes)),
    )
    return items_needed(effect)
