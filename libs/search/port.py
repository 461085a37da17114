"""Full-text search as Athanor sees it: engines propose, one exact function disposes.

An engine only returns candidates by BM25 (k1 = 1.2, b = 0.75) over terms that
`libs.words.terms` made. `libs.search.rank` re-scores them in float64 from document count,
document frequencies and lengths, and orders them by (score descending, document id), so every
engine gives the same list, fit for a digest.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol


class Entry(NamedTuple):
    """One text to index, under an id unique in its index."""

    id: str
    text: str


class Hit(NamedTuple):
    """One result; `score` is BM25 in float64, natural logarithm."""

    id: str
    score: float


class Searchable(Protocol):
    """What can be asked."""

    def search(self, queries: Sequence[str], *, top_k: int) -> list[list[Hit]]:
        """Return for each query up to `top_k` hits, best first; an empty query has none."""
        ...


class Index(Searchable, Protocol):
    """One index. Adding the same entry twice, or deleting an absent id, changes nothing."""

    def add(self, entries: Iterable[Entry]) -> None:
        """Index the entries and make them searchable; an id already there is replaced."""
        ...

    def delete(self, ids: Iterable[str]) -> None:
        """Remove the ids and make the removal visible."""
        ...

    def __len__(self) -> int:
        """Return the number of entries that can be found."""
        ...


class Search(Protocol):
    """Every call may raise `Unavailable` or `Busy`."""

    def index(self, name: str) -> Index:
        """Open the index, empty if it is new. An index that cannot be read is rebuilt empty."""
        ...

    def rebuild(self, name: str, entries: Iterable[Entry]) -> None:
        """Make the index hold exactly these entries, at once.

        A search that runs meanwhile sees all that was there before or all that is there now; what
        another adds or deletes meanwhile may be replaced too.
        """
        ...

    def drop(self, name: str) -> None:
        """Remove the index; safe to repeat.

        Who still holds it opened goes on with what it held, or is told by `NotFound`.
        """
        ...
