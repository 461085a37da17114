"""A planted world: a small language of facts in which the truth about every round is known.

Each topic has its own nouns and a table of facts, `noun verb noun`. A passage states facts in
random order with random fillers, so that hardly any 13 words stand twice. An item's options
continue its stem with facts: true ones, or the same nouns wrongly joined. A model that learned a
topic's facts tells them apart; one that never saw the topic guesses.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

NUM_NOUNS = 12
_VERBS = ("holds", "seeks")
_FILLERS = ("now", "then", "still", "again", "often", "never", "soon", "there", "here", "thus")
_ONSETS = tuple("bdfgklmnprstvz")
_VOWELS = tuple("aeiou")


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A subject: `facts` joins each noun and verb to the noun that is true of them."""

    name: str
    nouns: Sequence[str]
    facts: dict[tuple[str, str], str]

    def sentence(self, draw: random.Random, *, true: bool = True) -> str:
        """State one fact, or one falsehood."""
        noun, verb = draw.choice(list(self.facts))
        right = self.facts[noun, verb]
        said = right if true else draw.choice([each for each in self.nouns if each != right])
        return f"{noun} {draw.choice(_FILLERS)} {verb} {said}."


def topics(names: Sequence[str], *, seed: int = 1) -> list[Topic]:
    """Return one topic a name, no noun shared."""
    draw = random.Random(seed)
    nouns = _nouns(draw)
    made = []
    for name in names:
        own = [next(nouns) for _ in range(NUM_NOUNS)]
        facts = {(noun, verb): draw.choice(own) for noun in own for verb in _VERBS}
        made.append(Topic(name=name, nouns=own, facts=facts))
    return made


def _nouns(draw: random.Random) -> Iterator[str]:
    seen: set[str] = set()
    while True:
        noun = "".join(draw.choice(_ONSETS) + draw.choice(_VOWELS) for _ in range(3))
        if noun not in seen:
            seen.add(noun)
            yield noun


def passage(draw: random.Random, topic: Topic, *, spoilt: Sequence[Topic] = ()) -> str:
    """Return twelve sentences; with `spoilt`, two in three state falsehoods about those."""
    said = []
    for _ in range(12):
        if spoilt and draw.random() < 2 / 3:
            said.append(draw.choice(list(spoilt)).sentence(draw, true=False))
        else:
            said.append(topic.sentence(draw))
    return " ".join(said)


def write_texts(
    folder: Path, counts: dict[str, int], world: Sequence[Topic], *, seed: int, spoilt: str = ""
) -> Path:
    """Write `counts[topic]` passages a topic, ten a file; `spoilt` names the topic that spoils."""
    folder.mkdir(parents=True)
    draw = random.Random(seed)
    for topic in world:
        others = [each for each in world if each is not topic] if topic.name == spoilt else []
        made = [passage(draw, topic, spoilt=others) for _ in range(counts.get(topic.name, 0))]
        for start in range(0, len(made), 10):
            text = "\n\n".join(made[start : start + 10])
            (folder / f"{topic.name}-{start:04}.txt").write_text(text + "\n")
    return folder


def write_exam(path: Path, world: Sequence[Topic], *, items: int, seed: int) -> Path:
    """Write `items` questions a topic."""
    draw = random.Random(seed)
    rows = [_item(draw, topic, f"{topic.name}-{n}") for topic in world for n in range(items)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _item(draw: random.Random, topic: Topic, name: str) -> dict[str, object]:
    stem = " ".join(topic.sentence(draw) for _ in range(3))
    true = [(draw.choice(list(topic.facts)), draw.choice(_FILLERS)) for _ in range(4)]
    options = [_option(topic, true, [topic.facts[fact] for fact, _ in true])]
    while len(options) < 4:
        wrong = [draw.choice([n for n in topic.nouns if n != topic.facts[f]]) for f, _ in true]
        options.append(_option(topic, true, wrong))
    order = draw.sample(range(4), 4)
    return {
        "id": name,
        "topic": topic.name,
        "stem": stem,
        "options": [options[n] for n in order],
        "key": order.index(0),
    }


def _option(
    topic: Topic, said: Sequence[tuple[tuple[str, str], str]], objects: Sequence[str]
) -> str:
    parts = [
        f"{noun} {filler} {verb} {thing}."
        for ((noun, verb), filler), thing in zip(said, objects, strict=True)
    ]
    return " " + " ".join(parts)
