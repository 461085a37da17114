"""What a person sees of each step: what came in, what was refused and why, and how it was found."""

from collections import Counter
from collections.abc import Mapping, Sequence

from libs.blocks import Block
from services.corpus.collect import Asked, Sifted
from services.corpus.dedup import MIN_JACCARD
from services.corpus.index import Kept
from services.corpus.queries import Kind, Query
from services.corpus.records import Reading, Row
from services.corpus.refusals import Refusal, counted

_NO_TOPIC = "no topic"
_NUM_EXAMPLES = 6
_NUM_PASSAGES = 2
_MAX_CHARACTERS = 600


def reading_blocks(reading: Reading) -> list[Block]:
    """Return the blocks of an artifact of kind `documents`."""
    num_words = sum(int(row["num_words"]) for row in reading.documents)
    text = (
        f"{len(reading.documents):,} documents, {len(reading.passages):,} passages and"
        f" {num_words:,} words were read."
    )
    return [
        Block(kind="text", title="Documents", text=text),
        _composition(reading.passages, "Words by topic"),
        _refusals(reading.refusals),
    ]


def index_blocks(kept: Kept, num_items: int) -> list[Block]:
    """Return the blocks of passages made by `Index`."""
    text = (
        f"{len(kept.rows):,} passages ({kept.num_words:,} words) may be searched. None of them"
        f" was held out, and none shares 13 words in a row with any of {num_items:,} exam items."
    )
    return [
        Block(kind="text", title="Passages to search", text=text),
        _composition(kept.rows, "Words by topic"),
        _refusals(kept.refusals),
    ]


def collect_blocks(asked: Asked, kept: Sifted, passages: Mapping[str, Row]) -> list[Block]:
    """Return the blocks of passages made by `Collect`."""
    by_kind = Counter(query.kind for query in asked.queries)
    kinds = ", ".join(f"{by_kind[kind]:,} {kind.value}" for kind in Kind)
    text = (
        f"{len(asked.queries):,} queries ({kinds}) found {len(kept.found):,} passages;"
        f" {len(kept.rows):,} of them ({kept.num_words:,} words) were kept."
    )
    return [
        Block(kind="text", title="Collected for the weak topics", text=text),
        _composition(kept.rows, "Words collected, by the topic of their page"),
        _refusals(kept.refusals),
        _examples(asked, kept, passages),
    ]


def _composition(rows: Sequence[Row], title: str) -> Block:
    words: Counter[str] = Counter()
    for row in rows:
        words[row["topic"] or _NO_TOPIC] += int(row["num_words"])
    bars = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    return Block(kind="bars", title=title, rows=bars, x_label="words")


def _refusals(refusals: Sequence[Refusal]) -> Block:
    first: dict[str, Refusal] = {}
    for refusal in refusals:
        first.setdefault(refusal.reason.value, refusal)
    rows = [
        (reason, number, f"{first[reason].id}: {first[reason].detail}")
        for reason, number in counted(refusals).items()
    ]
    columns = ("reason", "number", "for example")
    return Block(kind="table", title="Refused, by reason", columns=columns, rows=rows)


def _examples(asked: Asked, kept: Sifted, passages: Mapping[str, Row]) -> Block:
    """Show queries spread over kinds and topics, each with its best passages and their fate."""
    fate = {
        refusal.id: f"refused: {refusal.reason.value}, {refusal.detail}"
        for refusal in kept.refusals
    }
    fate |= _why_kept(asked, kept)
    rows = []
    for number in _spread(asked.queries):
        query = asked.queries[number]
        for rank, hit in enumerate(asked.hits[number][:_NUM_PASSAGES], 1):
            heading = f"{query.kind.value} for {query.topic}, hit {rank}: {query.text}"
            text = passages[hit.id]["text"][:_MAX_CHARACTERS]
            rows.append((heading[:_MAX_CHARACTERS], text, fate[hit.id]))
    text = "Queries with what they found. A seed is the stem of a missed exam item, never its key."
    return Block(kind="examples", title="How passages were found", text=text, rows=rows)


def _why_kept(asked: Asked, kept: Sifted) -> dict[str, str]:
    """Say of each passage kept where it stood among all that was found, and what it passed."""
    rank_by_id = {id_: rank for rank, id_ in enumerate(kept.found, 1)}
    num_queries = Counter(hit.id for hits in asked.hits for hit in hits)
    passed = (
        "it overlaps no exam item, breaks no rule of quality, and no better one is like it "
        f"(Jaccard {MIN_JACCARD:g})"
    )
    return {
        id_: f"kept: rank {rank_by_id[id_]:,} of {len(kept.found):,} found, "
        f"queries that found it: {num_queries[id_]:,}; {passed}"
        for id_ in (row["passage_id"] for row in kept.rows)
    }


def _spread(queries: Sequence[Query]) -> list[int]:
    """Return the numbers of the first query of each kind and topic, as many as are shown."""
    first: dict[tuple[str, str], int] = {}
    for number, query in enumerate(queries):
        first.setdefault((query.topic, query.kind.value), number)
    return [first[key] for key in sorted(first)][:_NUM_EXAMPLES]
