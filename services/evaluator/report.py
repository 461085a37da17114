"""What a person should see of each step, as blocks for the round's page.

Built here from the same values that the artifacts hold, so the page cannot say anything else.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from libs.blocks import Block, Interval
from services.evaluator.accuracy import TopicAccuracy
from services.evaluator.compare import Comparison
from services.evaluator.diagnose import ContrastPower, Diagnosis
from services.evaluator.intervals import Difference
from services.evaluator.items import LETTERS, Half, Item
from services.evaluator.score import Response

_NUM_EXAMPLES = 3
NO_TOPIC = "(no topic)"


def exam_blocks(name: str, halves: Mapping[Half, Sequence[Item]]) -> list[Block]:
    """Show an exam's composition and a few items."""
    diagnosis, decision = halves[Half.DIAGNOSIS], halves[Half.DECISION]
    counts = {half: Counter(item.topic for item in items) for half, items in halves.items()}
    topics = sorted({item.topic for item in (*diagnosis, *decision)})
    rows = [
        (topic or NO_TOPIC, counts[Half.DIAGNOSIS][topic], counts[Half.DECISION][topic])
        for topic in topics
    ]
    return [
        Block(
            kind="table",
            title=f"Exam {name}",
            text=(
                f"{len(diagnosis) + len(decision)} items on {len(topics)} topics. Topics are "
                "chosen on the diagnosis half; only the decision half can promote."
            ),
            columns=("topic", "diagnosis items", "decision items"),
            rows=rows,
        ),
        # Of the diagnosis half: what decides is not shown to those who choose what to collect.
        Block(
            kind="examples",
            title=f"Items of {name}",
            rows=[_example(item) for item in diagnosis[:_NUM_EXAMPLES]],
        ),
    ]


def _example(item: Item) -> tuple[str, str, str]:
    options = [f"{LETTERS[place]}.{option}" for place, option in enumerate(item.options)]
    return (item.topic or NO_TOPIC, "\n".join((item.stem, *options)), f"key {LETTERS[item.key]}")


def accuracy_blocks(
    half: Half, digest: str, overall: TopicAccuracy, topics: Sequence[TopicAccuracy]
) -> list[Block]:
    """Show a model's accuracy by topic; models on the same half share one figure."""
    return [
        Block(
            kind="intervals",
            title=f"Weights {digest[:12]}",
            text=(
                f"Accuracy by topic on the {half} half, closed book, with Wilson 95 % intervals; "
                f"{overall.num_right} of {overall.num_items} right."
            ),
            intervals=[
                _share_interval("all topics", overall),
                *(_share_interval(each.topic or NO_TOPIC, each) for each in topics),
            ],
            x_label="share of right answers",
            anchor=f"accuracy-{half}",
        )
    ]


def _share_interval(label: str, accuracy: TopicAccuracy) -> Interval:
    return Interval(label, *accuracy.share, note=f"{accuracy.num_right} of {accuracy.num_items}")


def diagnosis_blocks(diagnosis: Diagnosis, seeds: Sequence[Response]) -> list[Block]:
    """Show the topics from the weakest on, those aimed at marked, and the power of the decision."""
    topics = sorted(diagnosis.topics, key=lambda each: (each.share.high, each.topic))
    return [
        Block(
            kind="intervals",
            title="Weak topics",
            text=(
                f"A topic is weak when the upper end of its 95 % interval lies below the mean "
                f"accuracy of {diagnosis.mean_accuracy:.3f}; weak: {len(diagnosis.weak_topics)}, "
                f"aimed at: {', '.join(diagnosis.target_topics) or 'none'}, "
                f"by {len(seeds)} missed items."
            ),
            intervals=[
                Interval(each.topic or NO_TOPIC, *each.share, note=_standing(each.topic, diagnosis))
                for each in topics
            ],
            x_label="share of right answers",
        ),
        Block(
            kind="table",
            title="What the decision half can show",
            text=diagnosis.reason
            or "Power to show each contrast, if the true difference is the one supposed.",
            columns=(
                "contrast",
                "items",
                "true difference supposed",
                "discordance supposed",
                "design effect",
                "power",
                "items needed",
            ),
            rows=[_power_row(each) for each in diagnosis.contrasts],
        ),
    ]


def _standing(topic: str, diagnosis: Diagnosis) -> str:
    if topic in diagnosis.target_topics:
        return "aimed at"
    return "weak" if topic in diagnosis.weak_topics else ""


def _power_row(contrast: ContrastPower) -> tuple[str | float | int, ...]:
    effect = contrast.effect
    return (
        contrast.contrast,
        contrast.num_items,
        effect.gain,
        effect.discordance,
        round(effect.design_effect, 3),
        round(contrast.power, 3),
        contrast.items_needed,
    )


def comparison_blocks(comparison: Comparison) -> list[Block]:
    """Show the contrasts that decide, and the paired difference of every topic."""
    contrasts = {
        "gain: candidate minus old, target topics": comparison.gain,
        "guard: candidate minus old, other topics": comparison.guard,
        "control minus old, target topics": comparison.control_gain,
        "targeting: candidate minus control, target topics": comparison.targeting,
    }
    return [
        _differences(
            "Paired differences",
            "Difference in accuracy on the decision half, item by item, with 95 % intervals from "
            "a bootstrap over documents. A promotion needs the gain's lower end above 0.",
            {label: each for label, each in contrasts.items() if each is not None},
        ),
        _differences(
            "Paired difference by topic",
            "Candidate minus old. Target topics: " + ", ".join(comparison.target_topics) + ".",
            {topic or NO_TOPIC: each for topic, each in comparison.per_topic.items()},
        ),
    ]


def _differences(title: str, text: str, differences: Mapping[str, Difference]) -> Block:
    return Block(
        kind="intervals",
        title=title,
        text=text,
        intervals=[
            Interval(label, each.estimate, each.low, each.high, note=_counts(each))
            for label, each in differences.items()
        ],
        x_label="difference in share of right answers",
        zero_line=True,
    )


def _counts(difference: Difference) -> str:
    return (
        f"{difference.num_items} items, {difference.num_discordant} discordant, "
        f"McNemar p {difference.mcnemar_p:.3g}"
    )
