"""What an exam is made of: items with one key each, cut into two halves.

Topics chosen and judged on the same items look better by regression to the mean. So one half of
an exam diagnoses and the other decides, and every topic has its share in both.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from libs.formats import ITEMS, canonical_json, ids_sha256, read_rows, write_table

LETTERS = "ABCDEFGHIJ"
"""Options an item may have at most, by the letters that a key may be given as."""


class Half(StrEnum):
    """The two halves of an exam."""

    DIAGNOSIS = "diagnosis"
    """Topics are chosen on it."""
    DECISION = "decision"
    """A promotion is decided on it."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One closed-book question with exactly one right option."""

    item_id: str
    topic: str
    """Empty if unknown."""
    document_id: str
    """Items of one document are clustered; the item's own id if there is none."""
    stem: str
    options: tuple[str, ...]
    """Two to ten; each carries its own leading space."""
    key: int
    """Index of the right option."""


def content_id(stem: str, key: str, distractors: Iterable[str]) -> str:
    """Return the id of an item's content, whatever the order of its options."""
    return hashlib.sha256(canonical_json([stem, key, sorted(distractors)])).hexdigest()


def contents_sha256(items: Iterable[Item]) -> str:
    """Return the digest of what the items ask, whatever they are called and in which exam."""
    return ids_sha256(
        content_id(
            item.stem,
            item.options[item.key],
            [option for place, option in enumerate(item.options) if place != item.key],
        )
        for item in items
    )


def split_halves(items: Iterable[Item]) -> dict[str, Half]:
    """Give each item a half by the hash of its id, within the strata of topic.

    In each topic the halves differ by one item at most; the odd item goes to the two halves in
    turn, topic by topic, so that the halves as wholes differ by one item at most too.
    """
    by_topic: defaultdict[str, list[str]] = defaultdict(list)
    for item in items:
        by_topic[item.topic].append(item.item_id)
    halves: dict[str, Half] = {}
    first, second = Half.DIAGNOSIS, Half.DECISION
    for _, item_ids in sorted(by_topic.items()):
        ordered = sorted(item_ids, key=_id_hash)
        halves |= {item_id: (first, second)[turn % 2] for turn, item_id in enumerate(ordered)}
        if len(ordered) % 2:
            first, second = second, first
    return halves


def _id_hash(item_id: str) -> str:
    return hashlib.sha256(item_id.encode()).hexdigest()


def halved(items: Iterable[Item]) -> dict[Half, list[Item]]:
    """Return the items of each half, by item id."""
    ordered = sorted(items, key=lambda item: item.item_id)
    half_by_id = split_halves(ordered)
    return {half: [item for item in ordered if half_by_id[item.item_id] is half] for half in Half}


def write_items(path: Path, items: Sequence[Item]) -> None:
    """Write the items with their halves, by item id."""
    rows = (
        vars(item) | {"half": str(half)} for half, each in halved(items).items() for item in each
    )
    write_table(path, ITEMS, sorted(rows, key=lambda row: str(row["item_id"])))


def read_items(path: Path) -> dict[Half, list[Item]]:
    """Read an exam's items, each half by item id."""
    halves: dict[Half, list[Item]] = {half: [] for half in Half}
    for row in read_rows(path, ITEMS):
        halves[Half(row["half"])].append(item_of(row))
    return {half: sorted(items, key=lambda item: item.item_id) for half, items in halves.items()}


def item_of(row: Mapping[str, Any]) -> Item:
    """Return the item of one row of the table `ITEMS`."""
    return Item(
        item_id=row["item_id"],
        topic=row["topic"],
        document_id=row["document_id"],
        stem=row["stem"],
        options=tuple(row["options"]),
        key=row["key"],
    )
