"""Near-duplicates by MinHash: banded to find candidates, exact Jaccard to decide.

Words in runs of 5, 128 hashes, 16 bands of 8: two texts of similarity 0.8 become candidates with
probability 0.95, and the exact check keeps those that merely look alike. Of a group, the first in
the order given stays, so the result is that order's and no hash table's.
Source: Broder 1997; the bands are those of Query of CC's descendants.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from datasketch import MinHash, MinHashLSH

from libs.words import ngrams

SHINGLE_WORDS = 5
NUM_HASHES = 128
BANDS = (16, 8)
"""Bands and hashes in each."""
MIN_JACCARD = 0.7


class Twin(NamedTuple):
    """The kept text that another is a near-duplicate of."""

    id: str
    jaccard: float


class NearDuplicates:
    """Texts kept so far; ask before adding each of the next."""

    def __init__(self) -> None:
        self._index = MinHashLSH(num_perm=NUM_HASHES, params=BANDS)
        self._shingles: dict[str, set[str]] = {}

    def twin_or_add(self, id_: str, tokens: Sequence[str]) -> Twin | None:
        """Return the kept text most like this one, if it is a near-duplicate; else keep it."""
        shingles = ngrams(list(tokens), SHINGLE_WORDS)
        sketch = MinHash(num_perm=NUM_HASHES, seed=1)
        sketch.update_batch([shingle.encode() for shingle in sorted(shingles)])
        twin = self._nearest(self._index.query(sketch), shingles)
        if twin is not None:
            return twin
        self._index.insert(id_, sketch, check_duplication=False)
        self._shingles[id_] = shingles
        return None

    def _nearest(self, candidates: Iterable[str], shingles: set[str]) -> Twin | None:
        twins = (Twin(id_, jaccard(shingles, self._shingles[id_])) for id_ in candidates)
        near = [twin for twin in twins if twin.jaccard >= MIN_JACCARD]
        return min(near, key=lambda twin: (-twin.jaccard, twin.id), default=None)


def jaccard(one: set[str], other: set[str]) -> float:
    """Return the share of the union that both have, in [0, 1]; 1 for two empty sets."""
    union = len(one | other)
    return len(one & other) / union if union else 1.0
