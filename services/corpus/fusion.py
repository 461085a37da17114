"""Join the hits of many queries into one list by reciprocal rank, which needs no common scale.

Source: Cormack, Clarke and Buettcher 2009, with their constant 60.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

RANK_CONSTANT = 60


class Fused(NamedTuple):
    """One passage of the union; `score` is the sum of 1 / (60 + rank) over its queries."""

    id: str
    score: float


def fuse(lists: Iterable[Sequence[str]]) -> list[Fused]:
    """Return the union of ranked lists of ids, best first, then by id; ranks count from 1.

    Equal lists in another order give the same scores: a passage's ranks are summed ascending.
    """
    ranks: dict[str, list[int]] = defaultdict(list)
    for ids in lists:
        for rank, id_ in enumerate(ids, 1):
            ranks[id_].append(rank)
    fused = (
        Fused(id_, sum(1 / (RANK_CONSTANT + rank) for rank in sorted(found)))
        for id_, found in ranks.items()
    )
    return sorted(fused, key=lambda each: (-each.score, each.id))
