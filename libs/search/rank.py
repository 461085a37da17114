"""BM25 in float64: the one score that orders every list of hits.

    score(q, d) = sum over the terms t of q of idf(t) * tf / (tf + k1 * (1 - b + b * |d| / mean))
    idf(t) = ln(1 + (N - n + 0.5) / (n + 0.5))

Without Lucene's former factor (k1 + 1), which changes no order. Terms are summed by `math.fsum`,
so that the order of a query's words cannot change a bit of its score.
Source: Robertson and Zaragoza 2009, section 3.2; the idf is Lucene's, which is never negative.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from libs.search.port import Hit

K1 = 1.2
B = 0.75


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What a score needs to know of the whole collection."""

    num_documents: int
    total_length: int
    """Terms of all documents together."""
    document_frequencies: Mapping[str, int]

    @property
    def mean_length(self) -> float:
        """Terms of a document, on average; 1 for an empty collection."""
        return self.total_length / self.num_documents if self.total_length else 1.0


def idf(num_documents: int, document_frequency: int) -> float:
    """Return the inverse document frequency, natural logarithm, above 0."""
    rest = num_documents - document_frequency + 0.5
    return math.log(1 + rest / (document_frequency + 0.5))


def score(
    query: Mapping[str, int], frequencies: Mapping[str, int], length: int, statistics: Statistics
) -> float:
    """Return BM25 of one document.

    Args:
        query: term to the number of times that the query has it.
        frequencies: term to the number of times that the document has it.
        length: terms of the document.
        statistics: of the collection that the document is part of.
    """
    norm = K1 * (1 - B + B * length / statistics.mean_length)
    return math.fsum(
        times
        * idf(statistics.num_documents, statistics.document_frequencies[term])
        * (frequency / (frequency + norm))
        for term, times in query.items()
        if (frequency := frequencies.get(term, 0))
    )


def order(hits: Iterable[Hit]) -> list[Hit]:
    """Return the hits by score descending, then id ascending."""
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))
