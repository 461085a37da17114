"""Find what a collection would have taken, had the index not left it out for an exam.

An index never holds a passage that overlaps an exam, so that a collection cannot meet one. How many
it would have met tells all the same whether the exam lies in the corpus.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from libs.search.port import Hit
from libs.search.rank import Statistics, order, score
from libs.words import terms
from services.corpus.collect import SCORE_FLOOR, Asked
from services.corpus.records import Row


def missed(
    asked: Asked, left_out: Iterable[Row], indexed: Iterable[Row], *, top_k: int
) -> list[Row]:
    """Return the rows of `left_out` that score high enough to be taken by some query, by id.

    Scored as if they were searched beside the indexed passages, by the statistics of those.
    """
    rows = {row["passage_id"]: row for row in left_out}
    if not rows:
        return []
    texts = {id_: Counter(terms(row["text"])) for id_, row in rows.items()}
    ids_by_term = _inverted(texts)
    statistics = _statistics(indexed)
    found: set[str] = set()
    for query, hits in zip(asked.queries, asked.hits, strict=True):
        wanted = Counter(terms(query.text))
        candidates = {id_ for term in wanted for id_ in ids_by_term.get(term, ())} - found
        scored = (
            Hit(id_, score(wanted, texts[id_], texts[id_].total(), statistics))
            for id_ in candidates
        )
        found |= {hit.id for hit in scored if _is_taken(hit, hits, top_k)}
    return [rows[id_] for id_ in sorted(found)]


def _inverted(texts: Mapping[str, Mapping[str, int]]) -> Mapping[str, Sequence[str]]:
    """Return the ids of the texts that have a term, by the term."""
    ids_by_term: defaultdict[str, list[str]] = defaultdict(list)
    for id_, counts in texts.items():
        for term in counts:
            ids_by_term[term].append(id_)
    return ids_by_term


def _is_taken(hit: Hit, beside: Sequence[Hit], top_k: int) -> bool:
    """Tell whether a hit is among the best `top_k` beside these, and not far below the first."""
    if len(beside) >= top_k:
        return order([hit, beside[-1]])[0] == hit
    return not beside or hit.score >= SCORE_FLOOR * beside[0].score


def _statistics(rows: Iterable[Row]) -> Statistics:
    frequencies: Counter[str] = Counter()
    num_documents = total_length = 0
    for row in rows:
        found = terms(row["text"])
        frequencies.update(set(found))
        num_documents += 1
        total_length += len(found)
    return Statistics(
        num_documents=num_documents, total_length=total_length, document_frequencies=frequencies
    )
