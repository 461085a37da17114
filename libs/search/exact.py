"""Make an engine's proposals exact: score them again in float64 and prove that none is missing.

An engine scores in float32, with lengths rounded down to a byte and with statistics that still
count removed entries. Each of these moves its score by a known factor at most, so an entry that it
did not propose cannot score above the engine's bound on it times that factor. Where this does not
settle the list (ties, say), more proposals are asked for, until it does.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from libs.search.port import Hit
from libs.search.rank import Statistics, idf, order, score

_FLOAT32_SLACK = 1.0001
"""Far above the rounding of a sum of some hundred float32 terms."""


class Proposal(NamedTuple):
    """An entry and the number of times that it has each of its terms."""

    id: str
    frequencies: Mapping[str, int]


class Proposals(NamedTuple):
    """What an engine found best, and how good the rest can be."""

    best: Sequence[Proposal]
    unseen: float
    """The engine scores no entry outside of `best` above this; 0 when no other has a term of the
    query."""


Propose = Callable[[Mapping[str, int], int], Proposals]
"""Takes terms with the times that the query has each, and how many to propose at least."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What is true of an index, and how far below it the engine may count."""

    statistics: Statistics
    engine_idf: Callable[[str], float]
    """The inverse document frequency that the engine gives a term, at least."""
    engine_mean_length: float
    """The mean length that the engine goes by, at least."""
    engine_factor: float
    """What the engine's scores are multiplied by."""


def first_limit(top_k: int) -> int:
    """Return how many proposals are asked for at first: enough unless scores lie close."""
    return 2 * top_k + 16


def known(terms: Sequence[str], statistics: Statistics) -> Counter[str]:
    """Return the terms that some entry has, with the times that the query has each."""
    return Counter(term for term in terms if statistics.document_frequencies.get(term, 0))


def search(collection: Collection, query: Counter[str], top_k: int, propose: Propose) -> list[Hit]:
    """Return the `top_k` best entries, exactly; fewer where fewer have a term of the query.

    Args:
        collection: that is searched.
        query: what `known` gave.
        top_k: how many are wanted.
        propose: asks the engine.
    """
    if not query or top_k < 1:
        return []
    slack = _slack(collection, query) / collection.engine_factor
    limit = first_limit(top_k)
    while True:
        found = propose(query, limit)
        hits = order(_hit(collection, query, proposal) for proposal in found.best)[:top_k]
        if not found.unseen or found.unseen * slack < hits[-1].score:
            return hits
        limit *= 4


def _hit(collection: Collection, query: Mapping[str, int], proposal: Proposal) -> Hit:
    frequencies = proposal.frequencies
    length = sum(frequencies.values())
    return Hit(proposal.id, score(query, frequencies, length, collection.statistics))


def _slack(collection: Collection, query: Mapping[str, int]) -> float:
    """Return the most by which an exact score can exceed the engine's.

    A rounded-down length only raises the engine's score, and so does a mean length above the true
    one; one below it lowers the score by their ratio at most.
    """
    statistics = collection.statistics
    counts = statistics.document_frequencies
    by_term = (
        idf(statistics.num_documents, counts[term]) / collection.engine_idf(term) for term in query
    )
    lengths = max(1.0, statistics.mean_length / collection.engine_mean_length)
    return max(by_term) * lengths * _FLOAT32_SLACK
