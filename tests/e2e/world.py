"""A planted world: a small language of facts in which the truth about every round is known.

Each topic has its own nouns and a table of facts, `noun verb noun`. A passage states facts in
random order with random fillers, so that hardly any 13 words stand twice. An item's options
continue its stem with facts: true ones, or the same nouns wrongly joined. A model that learned a
topic's facts tells them apart; one that never saw the topic guesses.
"""

import json
import operator
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
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
        facts = {
            (noun, verb): thing
            for verb in _VERBS
            for noun, thing in zip(own, _rejoined(draw, own), strict=True)
        }
        made.append(Topic(name=name, nouns=own, facts=facts))
    return made


def _rejoined(draw: random.Random, things: Sequence[str]) -> list[str]:
    """Return the things in another order, none in its place."""
    while True:
        order = draw.sample(list(things), len(things))
        if not any(map(operator.eq, order, things)):
            return order


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


def noise(draw: random.Random, topic: Topic) -> str:
    """Return a passage in the topic's words that states nothing."""
    said = (" ".join(draw.choices([*topic.nouns, *_FILLERS, *_VERBS], k=4)) for _ in range(12))
    return " ".join(f"{each}." for each in said)


def write_texts(
    folder: Path,
    counts: dict[str, int],
    world: Sequence[Topic],
    *,
    seed: int,
    spoilt: str = "",
    noisy: str = "",
) -> Path:
    """Write `counts[topic]` passages a topic, ten a file.

    The topic named by `spoilt` spoils the others, the one named by `noisy` says nothing.
    """
    folder.mkdir(parents=True)
    draw = random.Random(seed)
    for topic in world:
        others = [each for each in world if each is not topic] if topic.name == spoilt else []
        made = [
            noise(draw, topic) if topic.name == noisy else passage(draw, topic, spoilt=others)
            for _ in range(counts.get(topic.name, 0))
        ]
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
    facts, wrong = _facts(draw, topic)
    fillers = draw.choices(_FILLERS, k=len(facts))
    true = [topic.facts[fact] for fact in facts]
    # Of the same words, so that only who knows the facts can tell them apart.
    options = [_option(facts, fillers, things) for things in (true, *draw.sample(wrong, 3))]
    order = draw.sample(range(4), 4)
    return {
        "id": name,
        "topic": topic.name,
        "stem": stem,
        "options": [options[n] for n in order],
        "key": order.index(0),
    }


def _facts(
    draw: random.Random, topic: Topic
) -> tuple[list[tuple[str, str]], list[tuple[str, ...]]]:
    """Return four facts about four things, and the orders of things that make all four wrong."""
    while True:
        facts = draw.sample(list(topic.facts), 4)
        true = [topic.facts[fact] for fact in facts]
        wrong = [
            order
            for order in permutations(true)
            if not any(
                thing in (right, noun)
                for thing, right, (noun, _) in zip(order, true, facts, strict=True)
            )
        ]
        if len(set(true)) == 4 and len(wrong) >= 3:
            return facts, wrong


def _option(facts: Sequence[tuple[str, str]], fillers: Sequence[str], things: Sequence[str]) -> str:
    said = zip(facts, fillers, things, strict=True)
    return " " + " ".join(
        f"{noun} {filler} {verb} {thing}." for (noun, verb), filler, thing in said
    )
