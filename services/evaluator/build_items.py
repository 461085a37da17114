"""Builds items from passages that nothing else repeats: continue the passage.

The stem is the first half of a passage, the key its second half cut at 100 characters, the
distractors are the keys of three other passages of the exam. So nothing beyond the exam's own
passages has to be held out of the index.
"""

import hashlib
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from libs.errors import InvalidInput
from libs.words import words
from services.evaluator.items import Item, content_id
from services.evaluator.unrepeated import NGRAM_WORDS, unrepeated

DEFAULT_MAX_ITEMS = 2_000
MIN_ITEMS = 8
"""Fewer leave no four options to each half."""
MIN_WORDS = 2 * NGRAM_WORDS
"""Words of a passage: below this a stem or key is too short for the overlap check to see."""
KEY_CHARACTERS = 100
NUM_DISTRACTORS = 3
NEIGHBOURS = 32
"""Passages nearest by length of key that distractors are drawn from."""


class TooFewPassages(InvalidInput):
    """The site does not hold enough passages that nothing repeats."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """What an item is made of."""

    passage_id: str
    document_id: str
    topic: str
    """Empty if unknown."""
    text: str


class Built(NamedTuple):
    """An exam's items and what must be held out of the index for them."""

    items: list[Item]
    """By item id."""
    holdout: list[str]
    """Passage ids, sorted."""


class _Halves(NamedTuple):
    """A passage cut in two; `lead` is the space that was between the halves, if any."""

    stem: str
    lead: str
    key: str


def passage_of(row: Mapping[str, Any]) -> Passage:
    """Return the passage of one row of the table `PASSAGES`."""
    return Passage(**{name: row[name] for name in ("passage_id", "document_id", "topic", "text")})


def build_items(passages: Sequence[Passage], *, max_items: int, seed: int) -> Built:
    """Make at most `max_items` items, each topic by its share of the passages that qualify.

    Passages without a topic are left out when others have one.

    Raises:
        TooFewPassages: fewer than `MIN_ITEMS` qualify, or their keys do not differ.
    """
    candidates = qualifying(passages)
    if min(len(candidates), max_items) < MIN_ITEMS:
        raise TooFewPassages(
            f"an exam needs at least {MIN_ITEMS} items from passages of {MIN_WORDS} or more words "
            f"that share no {NGRAM_WORDS} words in a row with another, got {len(candidates)} of "
            f"{len(passages)} passages and at most {max_items} items"
        )
    chosen = choose(candidates, max_items, seed)
    cut = [halves(passage.text) for passage in chosen]
    others = _distractors(chosen, [each.key for each in cut], seed)
    drafts = zip(chosen, cut, others, strict=True)
    items = [_item(passage, each, wrong) for passage, each, wrong in drafts]
    return Built(
        sorted(items, key=lambda item: item.item_id), sorted(each.passage_id for each in chosen)
    )


def qualifying(passages: Sequence[Passage]) -> list[Passage]:
    """Return the passages that an item may be made of, in the order given."""
    alone = unrepeated([passage.text for passage in passages])
    good = [
        passage
        for passage, is_alone in zip(passages, alone, strict=True)
        if is_alone and len(words(passage.text)) >= MIN_WORDS and halves(passage.text).key
    ]
    with_topic = [passage for passage in good if passage.topic]
    return with_topic or good


def choose(candidates: Sequence[Passage], max_items: int, seed: int) -> list[Passage]:
    """Draw at most `max_items` passages, topic by topic in proportion, by seeded hash of id."""
    by_topic: defaultdict[str, list[Passage]] = defaultdict(list)
    for passage in candidates:
        by_topic[passage.topic].append(passage)
    quotas = shares({topic: len(group) for topic, group in by_topic.items()}, max_items)
    drawn = (
        passage
        for topic, group in sorted(by_topic.items())
        for passage in sorted(group, key=lambda each: _draw(seed, each.passage_id))[: quotas[topic]]
    )
    return sorted(drawn, key=lambda passage: passage.passage_id)


def shares(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Divide `total` in proportion to `sizes`, at most the size each, by largest remainder."""
    whole = sum(sizes.values())
    if whole <= total:
        return dict(sizes)
    exact = {name: total * size / whole for name, size in sizes.items()}
    quotas = {name: math.floor(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (quotas[name] - exact[name], name))
    for name in by_remainder[: total - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def halves(text: str) -> _Halves:
    """Cut a passage at the white space nearest to its middle, or in the middle if it has none.

    The second half is cut at `KEY_CHARACTERS`, at the end of a word where there is one.
    """
    text = text.strip()
    middle = len(text) // 2
    gaps = [place for place, character in enumerate(text) if character.isspace()]
    if not gaps:
        return _Halves(text[:middle], "", text[middle : middle + KEY_CHARACTERS])
    near = bisect_left(gaps, middle)
    gap = min(gaps[max(near - 1, 0) : near + 1], key=lambda place: abs(place - middle))
    return _Halves(text[:gap].rstrip(), " ", _cut(text[gap:].lstrip()))


def _cut(text: str) -> str:
    """Cut at the last white space that leaves at most `KEY_CHARACTERS` characters."""
    if len(text) <= KEY_CHARACTERS:
        return text
    ends = [place for place in range(1, KEY_CHARACTERS + 1) if text[place].isspace()]
    return text[: ends[-1] if ends else KEY_CHARACTERS].rstrip()


def _distractors(passages: Sequence[Passage], keys: Sequence[str], seed: int) -> list[list[str]]:
    """Draw wrong options for every passage from the keys nearest in length, in passage order."""
    order = sorted(
        range(len(keys)), key=lambda each: (len(keys[each]), _draw(seed, passages[each].passage_id))
    )
    normal = [" ".join(words(key)) for key in keys]
    drawn: dict[int, list[str]] = {}
    for rank, own in enumerate(order):
        start = min(max(rank - NEIGHBOURS // 2, 0), max(len(order) - NEIGHBOURS - 1, 0))
        near = [each for each in order[start : start + NEIGHBOURS + 1] if each != own]
        rng = _rng("distractors", str(seed), passages[own].passage_id)
        found = list(_distinct(own, rng.permutation(near), normal))
        if len(found) < NUM_DISTRACTORS:
            raise TooFewPassages(
                f"an item needs {NUM_DISTRACTORS} wrong options that differ from its key and from "
                f"each other, got {len(found)} from {len(near)} passages near in length"
            )
        drawn[own] = [keys[each] for each in found]
    return [drawn[each] for each in range(len(keys))]


def _distinct(own: int, others: npt.NDArray[np.int64], normal: Sequence[str]) -> Iterator[int]:
    """Yield the first `NUM_DISTRACTORS` of `others` whose words differ from all taken so far."""
    taken = {normal[own]}
    for other in others:
        if len(taken) > NUM_DISTRACTORS:
            return
        if normal[other] not in taken:
            taken.add(normal[other])
            yield int(other)


def _item(passage: Passage, cut: _Halves, wrong: Sequence[str]) -> Item:
    key, distractors = cut.lead + cut.key, [cut.lead + other for other in wrong]
    item_id = content_id(cut.stem, key, distractors)
    # From a sorted start, so that the order depends on the id alone.
    options = sorted([key, *distractors])
    order = _rng("options", item_id).permutation(len(options))
    shuffled = tuple(options[place] for place in order)
    return Item(
        item_id=item_id,
        topic=passage.topic,
        document_id=passage.document_id,
        stem=cut.stem,
        options=shuffled,
        key=shuffled.index(key),
    )


def _draw(seed: int, passage_id: str) -> str:
    return hashlib.sha256(f"draw {seed} {passage_id}".encode()).hexdigest()


def _rng(*names: str) -> np.random.Generator:
    """Return a generator that depends on the names alone."""
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
