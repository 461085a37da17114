"""Write queries from seeds without a model: templates for breadth, relevance feedback for depth.

Query of CC has a language model ask questions about a seed and think about them, and feeds both
back as seeds. Here key terms of a seed stand for its questions, and the terms of what a query found
(RM3, Lavrenko and Croft 2001; Abdul-Jaleel et al. 2004) for the thoughts. Each query names the one
it was made from, so a passage can be walked back to the exam item that asked for it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from libs.words import terms
from services.corpus.addresses import sha256

NUM_TEMPLATE_TERMS = 6
NUM_FEEDBACK_TERMS = 16
NUM_FEEDBACK_PASSAGES = 5
QUERY_SHARE = 0.5
"""RM3's weight of the query itself beside what it found."""
MAX_TERM_SHARE = 0.1
"""A term in more passages than this share says nothing about a topic."""
MIN_TERMS = 3
"""A query with fewer distinct terms is not asked."""


class Kind(StrEnum):
    """How a query came about."""

    SEED = "seed"
    TEMPLATE = "template"
    FEEDBACK = "feedback"


@dataclass(frozen=True, kw_only=True)
class Query:
    """One query and where it came from."""

    text: str
    kind: Kind
    topic: str
    item_id: str = ""
    parent_id: str = ""
    depth: int = 0

    @cached_property
    def id(self) -> str:
        """sha256 of kind, topic and text, a line feed between them."""
        return sha256(f"{self.kind.value}\n{self.topic}\n{self.text}")

    def row(self) -> dict[str, Any]:
        """Return the row as `libs.formats.QUERIES` has it."""
        return {
            "query_id": self.id,
            "text": self.text,
            "kind": self.kind.value,
            "parent_id": self.parent_id,
            "topic": self.topic,
            "item_id": self.item_id,
            "depth": self.depth,
        }

    def child(self, text: str, kind: Kind) -> "Query":
        """Return a query made from this one."""
        return Query(
            text=text,
            kind=kind,
            topic=self.topic,
            item_id=self.item_id,
            parent_id=self.id,
            depth=self.depth + 1,
        )


class Vocabulary:
    """In how many of the passages each term stands."""

    def __init__(self, texts: Iterable[Sequence[str]]) -> None:
        """Take the terms of every passage."""
        self._counts: Counter[str] = Counter()
        self._num_texts = 0
        for text in texts:
            self._counts.update(set(text))
            self._num_texts += 1

    def idf(self, term: str) -> float:
        """Return ln((N + 1) / (n + 0.5)): large for a rare term."""
        return math.log((self._num_texts + 1) / (self._counts[term] + 0.5))

    def tells(self, term: str) -> bool:
        """Tell whether a term is known, says something, and is more than a letter or a number."""
        count = self._counts[term]
        told = 0 < count <= max(MAX_TERM_SHARE * self._num_texts, 1)
        return told and len(term) > 1 and not term.replace(".", "").isdigit()


class Found(NamedTuple):
    """One passage that a query found."""

    terms: Sequence[str]
    score: float


def seeds(rows: Iterable[Mapping[str, Any]]) -> list[Query]:
    """Return the queries that a diagnosis gives, rows of `libs.formats.QUERIES`."""
    return [
        Query(text=row["text"], kind=Kind.SEED, topic=row["topic"], item_id=row["item_id"])
        for row in rows
    ]


def templates(seed: Query, vocabulary: Vocabulary) -> list[Query]:
    """Return two queries about a seed: its strongest terms with its topic, and the next ones."""
    weights = {
        term: count * vocabulary.idf(term)
        for term, count in Counter(terms(seed.text)).items()
        if vocabulary.tells(term)
    }
    strongest = _heaviest(weights, 2 * NUM_TEMPLATE_TERMS)
    first = [*terms(seed.topic), *strongest[:NUM_TEMPLATE_TERMS]]
    second = strongest[NUM_TEMPLATE_TERMS // 2 :]
    return [seed.child(" ".join(each), Kind.TEMPLATE) for each in (first, second)]


def feedback(query: Query, found: Sequence[Found], vocabulary: Vocabulary) -> Query | None:
    """Return the query that RM3 makes of a query and the best passages it found.

    Terms are weighted by QUERY_SHARE * P(t | query) + (1 - QUERY_SHARE) * P(t | found), a passage
    counting by its share of the scores, and by idf, since the result is asked as plain words.
    """
    best = found[:NUM_FEEDBACK_PASSAGES]
    if not best:
        return None
    total = math.fsum(each.score for each in best)
    weights: Counter[str] = Counter()
    _add(weights, terms(query.text), QUERY_SHARE)
    for each in best:
        _add(weights, each.terms, (1 - QUERY_SHARE) * each.score / total)
    told = {t: weight * vocabulary.idf(t) for t, weight in weights.items() if vocabulary.tells(t)}
    return query.child(" ".join(_heaviest(told, NUM_FEEDBACK_TERMS)), Kind.FEEDBACK)


def worth_asking(queries: Iterable[Query], asked: set[frozenset[str]]) -> list[Query]:
    """Return the queries with enough terms that none in `asked` has, and note them there."""
    chosen = []
    for query in queries:
        distinct = frozenset(terms(query.text))
        if len(distinct) >= MIN_TERMS and distinct not in asked:
            asked.add(distinct)
            chosen.append(query)
    return chosen


def _add(weights: Counter[str], found: Sequence[str], mass: float) -> None:
    """Spread `mass` over the terms of one text."""
    for term in found:
        weights[term] += mass / len(found)  # type: ignore[assignment]  # a Counter of reals


def _heaviest(weights: Mapping[str, float], limit: int) -> list[str]:
    return sorted(weights, key=lambda term: (-weights[term], term))[:limit]
