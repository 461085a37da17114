"""Make an engine's proposals exact: score them again in float64 and prove that none is missing.

An engine scores in float32, with lengths rounded down to a byte and with statistics that still
count removed entries. Each of these moves its score by a known factor at most, so an entry that it
did not propose cannot score above the last proposal's score times that factor. Where this does not
settle the list (ties, say), more proposals are asked for, until it does.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from libs.search.ledger import Ledger
from libs.search.port import Hit
from libs.search.rank import idf, order, score

_FLOAT32_SLACK = 1.0001
"""Far above the rounding of a sum of some hundred float32 terms."""


class Proposal(NamedTuple):
    """An entry's number in the ledger and the engine's score of it, without the factor k1 + 1."""

    number: int
    score: float


Propose = Callable[[Mapping[str, int], int], Sequence[Proposal]]
"""Takes terms with the times that the query has each, and a limit; returns the best first."""


def search(ledger: Ledger, terms: Sequence[str], top_k: int, propose: Propose) -> list[Hit]:
    """Return the `top_k` best entries, exactly; fewer where fewer have a term of the query."""
    statistics = ledger.statistics
    query = Counter(term for term in terms if statistics.document_frequencies.get(term, 0))
    if not query or top_k < 1:
        return []
    slack = _slack(ledger, query)
    limit = 2 * top_k + 16
    while True:
        proposals = propose(query, limit)
        hits = order(_hit(ledger, query, proposal.number) for proposal in proposals)[:top_k]
        complete = len(proposals) < limit
        if complete or proposals[-1].score * slack < hits[-1].score:
            return hits
        limit *= 4


def _hit(ledger: Ledger, query: Mapping[str, int], number: int) -> Hit:
    frequencies = ledger.frequencies(number)
    length = sum(frequencies.values())
    return Hit(ledger.id(number), score(query, frequencies, length, ledger.statistics))


def _slack(ledger: Ledger, query: Mapping[str, int]) -> float:
    """Return the most by which an exact score can exceed the engine's.

    A rounded-down length only raises the engine's score. Buried entries lower its idf, most when
    all that have the term are counted, and its mean length, by (N + buried) / N at most.
    """
    num_documents, counts = len(ledger), ledger.statistics.document_frequencies
    by_term = (
        idf(num_documents, counts[term])
        / idf(num_documents + ledger.buried[term], counts[term] + ledger.buried[term])
        for term in query
    )
    lengths = (num_documents + ledger.num_buried) / num_documents
    return max(by_term) * lengths * _FLOAT32_SLACK
