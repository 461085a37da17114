"""What a person should know of an exam before a round runs on it.

Said when a recipe is checked, because an exam too small to show the hoped gain is best enlarged
before anything is collected.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from services.evaluator.items import Half, Item
from services.evaluator.power import (
    DEFAULT_DISCORDANCE,
    DEFAULT_GAIN,
    DEFAULT_POWER,
    Effect,
    items_needed,
    items_per_document,
    smallest_gain,
)
from services.evaluator.weak import DEFAULT_MIN_ITEMS

_TOPICS_SHOWN = 8


def exam_notes(halves: Mapping[Half, Sequence[Item]]) -> list[str]:
    """Return what the exam holds and what it can show, a sentence each."""
    diagnosis, decision = halves[Half.DIAGNOSIS], halves[Half.DECISION]
    return [
        f"{len(diagnosis) + len(decision)} items: {len(diagnosis)} diagnose, "
        f"{len(decision)} decide.",
        _topics(diagnosis),
        _reach(decision),
        f"A gain of {DEFAULT_GAIN:g} needs {items_needed(Effect())} decision items on the target "
        f"topics, at the same discordance and power.",
        *_sharing(decision),
        *_unspaced([*diagnosis, *decision]),
    ]


def _topics(diagnosis: Sequence[Item]) -> str:
    counts = Counter(item.topic for item in diagnosis if item.topic)
    judged = [topic for topic, count in sorted(counts.items()) if count >= DEFAULT_MIN_ITEMS]
    names = ", ".join(judged[:_TOPICS_SHOWN]) + (", ..." if len(judged) > _TOPICS_SHOWN else "")
    return (
        f"{len(judged)} of {len(counts)} topics have at least {DEFAULT_MIN_ITEMS} diagnosis "
        f"items{': ' + names if judged else ', so none can be weak'}."
    )


def _reach(decision: Sequence[Item]) -> str:
    gain = smallest_gain(len(decision))
    supposed = f"at a discordance of {DEFAULT_DISCORDANCE:g} with a power of {DEFAULT_POWER:g}"
    if gain is None:
        return f"The decision half is too small to show any gain {supposed}."
    return f"The whole decision half shows a gain of {gain:.3f} {supposed}."


def _sharing(decision: Sequence[Item]) -> list[str]:
    shared = items_per_document([item.document_id for item in decision])
    if shared <= 1:
        return []
    return [
        f"These numbers take items for independent; {shared:.1f} decision items share a document, "
        "so more are needed as far as they are answered alike."
    ]


def _unspaced(items: Sequence[Item]) -> list[str]:
    count = sum(
        option[0].isascii() and not option[0].isspace() and not item.stem[-1].isspace()
        for item in items
        for option in item.options
    )
    if not count:
        return []
    return [
        f"{count} options begin without a space after a stem that ends without one; they are "
        "scored as they stand."
    ]
