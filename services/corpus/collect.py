"""Collect passages for weak topics: ask, learn from what was found, ask again, then filter.

Snapshot in, result out: seeds and an index give queries and hits; the union of all hits, best first
by reciprocal rank, is filtered in that order, so that of two near-duplicates the better one stays.
Source: Query of CC (Fei et al. 2024); what its paper leaves open is decided in `queries`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from libs.errors import InvalidInput
from libs.search.port import Hit, Searchable
from libs.words import terms, words
from services.corpus.decontaminate import Exams
from services.corpus.dedup import NearDuplicates
from services.corpus.fusion import fuse
from services.corpus.index import Kept
from services.corpus.quality import fault
from services.corpus.queries import (
    NUM_FEEDBACK_PASSAGES,
    Found,
    Query,
    Vocabulary,
    feedback,
    templates,
    worth_asking,
)
from services.corpus.records import Row
from services.corpus.refusals import Reason, Refusal

SCORE_FLOOR = 0.3
"""A hit with less than this share of its query's best score is not taken."""
MAX_QUERIES = 4000
"""Queries of one round of bootstrapping, at most."""
_BATCH = 32
Report = Callable[[int, int], None]
"""Takes queries answered before this round, and in it; may raise to stop."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the request allows."""

    rounds: int = 2
    top_k: int = 20
    max_passages: int = 4000
    max_contaminated_share: float = 0.05

    def __post_init__(self) -> None:
        """Raise `InvalidInput` when a figure lies outside of its range."""
        for name in ("rounds", "top_k", "max_passages"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.max_contaminated_share <= 1:
            share = self.max_contaminated_share
            raise InvalidInput(f"max_contaminated_share must lie in (0, 1], got {share}")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Every query with the hits that were taken from it, in the order asked."""

    queries: Sequence[Query]
    hits: Sequence[Sequence[Hit]]

    def hit_rows(self) -> list[dict[str, Any]]:
        """Return rows of `libs.formats.HITS`, by passage, query and rank; ranks count from 1."""
        rows = [
            {"passage_id": hit.id, "query_id": query.id, "rank": rank, "score": hit.score}
            for query, hits in zip(self.queries, self.hits, strict=True)
            for rank, hit in enumerate(hits, 1)
        ]
        return sorted(rows, key=lambda row: (row["passage_id"], row["query_id"], row["rank"]))


@dataclass(frozen=True, kw_only=True)
class Sifted(Kept):
    """What of the hits may be trained on, and what they were chosen from."""

    found: Sequence[str]
    """Ids of all that was found, best first."""


def ask(
    seeds: Sequence[Query],
    passages: Mapping[str, Row],
    index: Searchable,
    limits: Limits,
    report: Report,
) -> Asked:
    """Ask the seeds and what grows from them, for as many rounds as the request says.

    The first round asks seeds and templates, each later one what relevance feedback makes of the
    queries of the round before.

    Args:
        seeds: of the diagnosis.
        passages: by id, all that the index can return.
        index: over exactly those passages.
        limits: rounds and hits of a query.
        report: is told queries answered before this round, and in it.
    """
    vocabulary = Vocabulary(terms(row["text"]) for row in passages.values())
    asked: set[frozenset[str]] = set()
    planted = worth_asking(seeds, asked)[:MAX_QUERIES]
    grown = [query for seed in planted for query in templates(seed, vocabulary)]
    wave = [*planted, *worth_asking(grown, asked)][:MAX_QUERIES]
    queries: list[Query] = []
    hits: list[Sequence[Hit]] = []
    for _ in range(limits.rounds):
        if queries:
            latest = zip(queries[-len(wave) :], hits[-len(wave) :], strict=True)
            wave = worth_asking(_grown(latest, passages, vocabulary), asked)[:MAX_QUERIES]
        if not wave:
            break
        hits += _search(index, wave, limits.top_k, partial(report, len(queries)))
        queries += wave
    return Asked(queries=queries, hits=hits)


def _grown(
    latest: Iterable[tuple[Query, Sequence[Hit]]],
    passages: Mapping[str, Row],
    vocabulary: Vocabulary,
) -> Iterator[Query]:
    """Yield what relevance feedback makes of the queries of one round."""
    terms_by_id: dict[str, Sequence[str]] = {}
    for query, hits in latest:
        best = hits[:NUM_FEEDBACK_PASSAGES]
        for hit in best:
            if hit.id not in terms_by_id:
                terms_by_id[hit.id] = terms(passages[hit.id]["text"])
        found = [Found(terms_by_id[hit.id], hit.score) for hit in best]
        made = feedback(query, found, vocabulary)
        if made is not None:
            yield made


def _search(
    index: Searchable, queries: Sequence[Query], top_k: int, report: Callable[[int], None]
) -> list[Sequence[Hit]]:
    found: list[Sequence[Hit]] = []
    for start in range(0, len(queries), _BATCH):
        texts = [query.text for query in queries[start : start + _BATCH]]
        for hits in index.search(texts, top_k=top_k):
            floor = SCORE_FLOOR * hits[0].score if hits else 0.0
            found.append([hit for hit in hits if hit.score >= floor])
        report(len(found))
    return found


def sift(
    asked: Asked,
    passages: Mapping[str, Row],
    exams: Exams,
    limits: Limits,
    *,
    missed: Sequence[Row] = (),
) -> Sifted:
    """Return what of the hits may be trained on, and why the rest may not.

    Args:
        asked: the queries with their hits.
        passages: by id, all that was searched.
        exams: what may not be learned from.
        limits: how many passages, and which share of them may overlap an exam.
        missed: what would have been found, had the index not left it out for an exam.

    Raises:
        InvalidInput: so many of the hits overlap an exam that the exam lies in the corpus.
    """
    kept: dict[str, Row] = {}
    refusals: list[Refusal] = []
    seen = NearDuplicates()
    fused = fuse([[hit.id for hit in hits] for hits in asked.hits])
    for candidate in fused:
        row = passages[candidate.id]
        refusal = _refusal(row, exams, seen, is_full=len(kept) >= limits.max_passages)
        if refusal is None:
            kept[candidate.id] = row
        else:
            refusals.append(refusal)
    detail = "the index left it out, it shares words with an item"
    refusals += [Refusal(row["passage_id"], Reason.CONTAMINATED, detail) for row in missed]
    result = Sifted(
        rows=[kept[id_] for id_ in sorted(kept)],
        refusals=sorted(refusals),
        found=[candidate.id for candidate in fused],
    )
    _check_share(result.num_refused(Reason.CONTAMINATED), len(fused) + len(missed), limits)
    return result


def _refusal(row: Row, exams: Exams, seen: NearDuplicates, *, is_full: bool) -> Refusal | None:
    id_, tokens = row["passage_id"], words(row["text"])
    # Contamination comes first: its share must not depend on the other rules.
    item = exams.overlap(tokens)
    if item is not None:
        return Refusal(id_, Reason.CONTAMINATED, f"it shares words with item {item}")
    broken = fault(row["text"], tokens)
    if broken is not None:
        return Refusal(id_, *broken)
    if is_full:
        return Refusal(id_, Reason.OVER_LIMIT, "enough better ones were found")
    twin = seen.twin_or_add(id_, tokens)
    if twin is not None:
        detail = f"Jaccard {twin.jaccard:.2f} with passage {twin.id}"
        return Refusal(id_, Reason.NEAR_DUPLICATE, detail)
    return None


def _check_share(num_contaminated: int, num_found: int, limits: Limits) -> None:
    if num_contaminated > limits.max_contaminated_share * num_found:
        raise InvalidInput(
            f"the exam lies in the corpus: {num_contaminated} of {num_found} passages found"
            f" overlap it, more than the share of {limits.max_contaminated_share:g} allowed"
        )
