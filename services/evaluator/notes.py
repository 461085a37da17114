"""What a person should know of an exam, and of what a round asks of it, before the round runs.

Said when a recipe is checked, because an exam too small to show the hoped gain is best enlarged
before anything is collected.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from services.evaluator.diagnose import Rule
from services.evaluator.items import Half, Item
from services.evaluator.power import Effect, items_needed, items_per_document

_TOPICS_SHOWN = 8


def exam_notes(halves: Mapping[Half, Sequence[Item]]) -> list[str]:
    """Return what the exam holds, a sentence each; what suffices is for `rule_notes` to say."""
    diagnosis, decision = halves[Half.DIAGNOSIS], halves[Half.DECISION]
    return [
        f"{len(diagnosis) + len(decision)} items: {len(diagnosis)} diagnose, "
        f"{len(decision)} decide.",
        _topics(diagnosis, decision),
        *_sharing(decision),
        *_unspaced([*diagnosis, *decision]),
    ]


def rule_notes(rule: Rule) -> list[str]:
    """Return how many items a round needs in each half for what it hopes for."""
    effect = Effect(gain=rule.hoped_gain, discordance=rule.discordance)
    return [
        f"A topic can be weak if it has at least {rule.min_items} diagnosis items.",
        f"A gain of {rule.hoped_gain:g} at a discordance of {rule.discordance:g} with a power of "
        f"{rule.power:g} needs {items_needed(effect, rule.power)} decision items on the topics "
        "aimed at, more if items share documents.",
    ]


def _topics(diagnosis: Sequence[Item], decision: Sequence[Item]) -> str:
    diagnose, decide = (
        Counter(item.topic for item in half if item.topic) for half in (diagnosis, decision)
    )
    names = sorted({*diagnose, *decide}, key=lambda topic: (-diagnose[topic], topic))
    if not names:
        return "No item names a topic, so none can be weak."
    shown = [f"{topic} {diagnose[topic]} + {decide[topic]}" for topic in names[:_TOPICS_SHOWN]]
    more = ", ..." if len(names) > _TOPICS_SHOWN else ""
    return f"Diagnosis + decision items of {len(names)} topics: {', '.join(shown)}{more}."


def _sharing(decision: Sequence[Item]) -> list[str]:
    shared = items_per_document([item.document_id for item in decision])
    if shared <= 1:
        return []
    return [
        f"{shared:.1f} decision items share a document; as far as they are answered alike, more "
        "are needed than if each had its own."
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
