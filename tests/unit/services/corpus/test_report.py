"""What the report says of a collection."""

from libs.search.port import Hit
from services.corpus.collect import Asked, Sifted
from services.corpus.queries import Kind, Query
from services.corpus.refusals import Reason, Refusal
from services.corpus.report import collect_blocks

PASSAGES = {
    id_: {"passage_id": id_, "topic": "files", "num_words": 2, "text": f"text {id_}"}
    for id_ in ("a", "b", "c")
}
QUERIES = [Query(text=f"query {n}", kind=kind, topic="files") for n, kind in enumerate(Kind)]


def fates(kept, refusals):
    """What is said of each passage that the report shows."""
    hits = [[Hit("b", 2.0), Hit("a", 1.0)], [Hit("a", 2.0), Hit("c", 1.0)], [Hit("a", 1.0)]]
    rows = [PASSAGES[id_] for id_ in kept]
    sifted = Sifted(rows=rows, refusals=refusals, found=["a", "b", "c"])
    blocks = collect_blocks(Asked(queries=QUERIES, hits=hits), sifted, PASSAGES)
    return {text.removeprefix("text "): fate for _, text, fate in blocks[-1].rows}


def test_a_passage_kept_says_its_rank_among_all_found_and_what_it_passed():
    said = fates("abc", [])
    assert {id_: fate.partition(";")[0] for id_, fate in said.items()} == {
        "a": "kept: rank 1 of 3 found, queries that found it: 3",
        "b": "kept: rank 2 of 3 found, queries that found it: 1",
        "c": "kept: rank 3 of 3 found, queries that found it: 1",
    }
    assert said["a"].endswith(
        "; it overlaps no exam item, breaks no rule of quality, and no better one is like it "
        "(Jaccard 0.7)"
    )


def test_a_passage_refused_says_why():
    refusal = Refusal("b", Reason.SYMBOLS, "40% of its characters are letters")
    assert fates("ac", [refusal])["b"] == ("refused: symbols, 40% of its characters are letters")
