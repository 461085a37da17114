"""The score's own properties; the contract suite checks its figures."""

from libs.search.port import Hit
from libs.search.rank import Statistics, idf, order, score

STATISTICS = Statistics(
    num_documents=10, total_length=100, document_frequencies={"rare": 1, "often": 9}
)


def scored(query: dict[str, int], frequencies: dict[str, int], length: int = 10) -> float:
    return score(query, frequencies, length, STATISTICS)


def test_a_term_in_every_document_still_counts_for_something():
    assert idf(10, 10) > 0
    assert idf(10, 1) > idf(10, 9)


def test_a_score_rises_with_the_term_and_falls_with_the_length():
    assert scored({"rare": 1}, {"rare": 2}) > scored({"rare": 1}, {"rare": 1})
    assert scored({"rare": 1}, {"rare": 1}, 5) > scored({"rare": 1}, {"rare": 1}, 50)
    assert scored({"rare": 1}, {"often": 3}) == 0


def test_a_score_of_a_mean_length_document_is_idf_over_one_plus_k1():
    assert scored({"rare": 1}, {"rare": 1}) == idf(10, 1) * (1 / 2.2)


def test_order_is_score_descending_then_id():
    hits = [Hit("b", 1.0), Hit("c", 2.0), Hit("a", 1.0)]
    assert [hit.id for hit in order(hits)] == ["c", "a", "b"]
