"""The world of the drill round: a folder of text and an exam, made from a seed, in which one topic
is weak and documents about it mend that, so that the round goes all the way to serving.

Invented words, so that nothing depends on what a model may know. To a small model what is written
more often is likelier. So a strong topic's questions offer words that stand everywhere against
words that stand nowhere, and the weak topic's its own words against those of the other topics, of
which there is more text: only text about the weak topic helps.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, permutations
from pathlib import Path

WEAK = "tides"
_NUM_DOCUMENTS = {WEAK: 6, "ores": 30, "songs": 30}
_NUM_ITEMS = 20
"""Items of each topic, in both halves together."""
_NUM_ANSWERS = 6
_PAIRS_PER_SENTENCE = 5
_SENTENCES = 11
_ONSETS = [
    "b",
    "d",
    "f",
    "g",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "z",
    "br",
    "dr",
    "kl",
    "pl",
    "st",
    "tr",
]
_FOREIGN_ONSETS = ["c", "h", "j", "q", "w", "x"]
_VOWELS = ["a", "e", "i", "o", "u"]


@dataclass(frozen=True, kw_only=True)
class Topic:
    """What is written and asked about one subject."""

    name: str
    words: Sequence[str]
    own: Sequence[str]
    """Those that its text repeats."""


def write(folder: Path, *, seed: int = 1) -> None:
    """Write `text/*.txt`, `exam.jsonl` and `late.jsonl` into `folder`; one seed, one world.

    The late exam quotes the weak topic's texts: whoever heeds it may train on none of them.
    """
    draw = random.Random(seed)
    words = _new_words(draw)
    common = [next(words) for _ in range(120)]
    everywhere = [next(words) for _ in range(_NUM_ANSWERS)]
    topics = [
        Topic(
            name=name,
            words=[next(words) for _ in range(40)],
            own=[next(words) for _ in range(_NUM_ANSWERS)],
        )
        for name in _NUM_DOCUMENTS
    ]
    texts = {topic.name: [*_texts(draw, topic, common, everywhere)] for topic in topics}
    (folder / "text").mkdir(parents=True)
    for name, written in texts.items():
        for number, text in enumerate(written):
            (folder / "text" / f"{name}-{number:02}.txt").write_text(f"{text}\n")
    nowhere = [*islice(_new_words(draw, _FOREIGN_ONSETS), _NUM_ANSWERS)]
    weak, *others = topics
    strong = [word for topic in others for word in topic.own]
    items = [_item(draw, weak, weak.own, strong) for _ in range(_NUM_ITEMS)]
    items += [_item(draw, each, everywhere, nowhere) for each in others for _ in range(_NUM_ITEMS)]
    _write_exam(folder / "exam.jsonl", items)
    late = [_item(draw, weak, weak.own, nowhere) | {"stem": text} for text in texts[WEAK]]
    _write_exam(folder / "late.jsonl", late)


def _write_exam(path: Path, items: Sequence[Mapping[str, object]]) -> None:
    lines = [json.dumps({"id": f"{path.stem}-{n:03}", **item}) for n, item in enumerate(items)]
    path.write_text("\n".join(lines) + "\n")


def _new_words(draw: random.Random, onsets: Sequence[str] = _ONSETS) -> Iterator[str]:
    seen: set[str] = set()
    while True:
        word = "".join(draw.choice(onsets) + draw.choice(_VOWELS) for _ in range(3))
        if word not in seen:
            seen.add(word)
            yield word


def _texts(
    draw: random.Random, topic: Topic, common: Sequence[str], everywhere: Sequence[str]
) -> Iterator[str]:
    for _ in range(_NUM_DOCUMENTS[topic.name]):
        yield " ".join(_sentence(draw, topic, common, everywhere) for _ in range(_SENTENCES))


def _sentence(
    draw: random.Random, topic: Topic, common: Sequence[str], everywhere: Sequence[str]
) -> str:
    """Write answers two words apart, so that no option stands in a text as it is."""
    pairs = [
        (draw.choice(draw.choice((common, topic.words))), draw.choice((*topic.own, *everywhere)))
        for _ in range(_PAIRS_PER_SENTENCE)
    ]
    return " ".join(word for pair in pairs for word in pair).capitalize() + "."


def _item(
    draw: random.Random, topic: Topic, right: Sequence[str], wrong: Sequence[str]
) -> dict[str, object]:
    stem = draw.sample(list(topic.words), 6)
    pairs = [draw.choice([*permutations(right, 2)]), *draw.sample([*permutations(wrong, 2)], 3)]
    # The space belongs to the first word, as it does in text.
    options = [f" {first} {second}" for first, second in pairs]
    order = draw.sample(range(4), 4)
    return {
        "topic": topic.name,
        "stem": " ".join(stem).capitalize(),
        "options": [options[n] for n in order],
        "key": order.index(0),
    }
