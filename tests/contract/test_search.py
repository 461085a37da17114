"""What every search engine must do behind `libs.search.port`."""

import math
import random
from collections import Counter

import pytest

from libs.errors import InvalidInput
from libs.search.port import Entry, Index
from libs.words import terms

VOCABULARY = [f"w{rank}" for rank in range(120)]
WEIGHTS = [1 / (rank + 1) for rank in range(120)]


def generated(count: int, seed: int) -> list[Entry]:
    """Texts of Zipf-like words, 3 to 90 long, some of them equal."""
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(VOCABULARY, WEIGHTS, k=rng.randint(3, 90))) for _ in range(count)]
    return [Entry(f"d{number}", rng.choice([text, texts[0]])) for number, text in enumerate(texts)]


def brute_force(entries: list[Entry], query: str, top_k: int) -> list[tuple[str, float]]:
    """BM25 written a second time, from the formula."""
    documents = {entry.id: terms(entry.text) for entry in entries}
    mean = sum(map(len, documents.values())) / len(documents)
    containing = Counter(term for document in documents.values() for term in set(document))

    def weight(term: str) -> float:
        n = containing[term]
        return math.log(1 + (len(documents) - n + 0.5) / (n + 0.5))

    def score(document: list[str]) -> float:
        tf = Counter(document)
        norm = 1.2 * (1 - 0.75 + 0.75 * len(document) / mean)
        return math.fsum(weight(t) * (tf[t] / (tf[t] + norm)) for t in terms(query) if tf[t])

    scored = [(id_, score(document)) for id_, document in documents.items()]
    found = sorted(((i, s) for i, s in scored if s > 0), key=lambda each: (-each[1], each[0]))
    return found[:top_k]


def assert_equal_to_brute_force(index: Index, entries: list[Entry], top_k: int = 10) -> None:
    queries = [" ".join(random.Random(seed).choices(VOCABULARY, k=seed)) for seed in range(1, 30)]
    for query, hits in zip(queries, index.search(queries, top_k=top_k), strict=True):
        expected = brute_force(entries, query, top_k)
        assert [hit.id for hit in hits] == [id_ for id_, _ in expected]
        assert [hit.score for hit in hits] == pytest.approx([s for _, s in expected], rel=1e-12)


def test_a_score_is_the_bm25_worked_out_by_hand(engine):
    index = engine.index("i")
    index.add([Entry("a", "cat dog"), Entry("b", "cat cat dog bird"), Entry("c", "fish")])
    (hits,) = index.search(["bird cat"], top_k=5)
    # N = 3, mean length 7/3; cat: n = 2, idf ln(1 + 1.5/2.5); bird: n = 1, idf ln(1 + 2.5/1.5).
    cat, bird = math.log(1.6), math.log(1 + 2.5 / 1.5)
    norm_a, norm_b = 1.2 * (0.25 + 0.75 * 6 / 7), 1.2 * (0.25 + 0.75 * 12 / 7)
    assert [hit.id for hit in hits] == ["b", "a"]
    assert hits[0].score == pytest.approx(bird / (1 + norm_b) + cat * 2 / (2 + norm_b))
    assert hits[1].score == pytest.approx(cat / (1 + norm_a))


@pytest.mark.parametrize("top_k", [1, 10, 400])
def test_lists_equal_brute_force_bm25_over_300_texts(engine, top_k):
    entries = generated(300, seed=1)
    index = engine.index("i")
    index.add(entries)
    assert_equal_to_brute_force(index, entries, top_k)


@pytest.mark.parametrize("removed", [3, 150])
def test_adding_deleting_and_replacing_equal_a_fresh_index(engine, removed):
    old, new = generated(300, seed=2), generated(300, seed=3)
    index = engine.index("i")
    index.add(old[:200])
    index.add(old[150:])
    index.delete(entry.id for entry in old[:removed])
    replaced = new[290 - removed : 290]
    index.add(replaced)
    kept = {entry.id: entry for entry in [*old[removed:], *replaced]}
    assert len(index) == len(kept)
    assert_equal_to_brute_force(index, list(kept.values()))


def test_adding_twice_and_deleting_the_absent_change_nothing(engine):
    entries = generated(40, seed=4)
    index = engine.index("i")
    index.add(entries)
    before = index.search(["w1 w2 w3"], top_k=10)
    index.add(entries)
    index.delete(["absent", "absent"])
    assert len(index) == 40
    assert index.search(["w1 w2 w3"], top_k=10) == before


def test_equal_scores_are_ordered_by_id_however_many_there_are(engine):
    index = engine.index("i")
    ids = [f"{number:04}" for number in range(500)]
    index.add(Entry(id_, "the same text") for id_ in reversed(ids))
    (hits,) = index.search(["same"], top_k=3)
    assert [hit.id for hit in hits] == ids[:3]


def test_a_batch_answers_every_query_in_order(engine):
    index = engine.index("i")
    index.add([Entry("a", "apple"), Entry("b", "pear")])
    hits = index.search(["pear", "nothing", "", "!?", "apple pears"], top_k=5)
    assert [[hit.id for hit in each] for each in hits] == [["b"], [], [], [], ["a", "b"]]


def test_the_order_of_a_query_does_not_matter_and_its_repeats_do(engine):
    index = engine.index("i")
    index.add(generated(50, seed=5))
    one, other, doubled = index.search(["w1 w7 w30", "w30 w1 w7", "w1 w7 w7 w30"], top_k=5)
    assert one == other
    assert one != doubled


def test_every_script_is_found(engine):
    texts = {
        "han": "深度学习模型",
        "greek": "Ἀλήθεια καὶ λόγος",
        "emoji": "naïve 🙂 café",
        "dot": "os.path",
    }
    index = engine.index("i")
    index.add(Entry(*each) for each in texts.items())
    hits = index.search(["学习", "ΚΑῚ", "cafe\u0301", "path"], top_k=4)
    assert [each[0].id for each in hits] == ["han", "greek", "emoji", "dot"]


def test_a_very_long_term_is_found(engine):
    index = engine.index("i")
    index.add([Entry("long", "x" * 70_000), Entry("short", "xx")])
    assert [hit.id for hit in index.search(["x" * 70_000], top_k=2)[0]] == ["long"]


def test_an_empty_text_is_an_entry_that_nothing_finds(engine):
    index = engine.index("i")
    index.add([Entry("empty", ""), Entry("a", "word")])
    assert len(index) == 2
    assert [hit.id for hit in index.search(["word"], top_k=5)[0]] == ["a"]


def test_indexes_are_apart_and_a_dropped_one_is_empty(engine):
    engine.index("one").add([Entry("a", "word")])
    assert len(engine.index("two")) == 0
    engine.drop("one")
    engine.drop("one")
    assert len(engine.index("one")) == 0
    assert engine.index("one").search(["word"], top_k=1) == [[]]


def test_a_name_that_leaves_the_store_is_refused(engine):
    with pytest.raises(InvalidInput, match="name"):
        engine.index("../elsewhere")


def test_a_rebuilt_index_holds_exactly_what_it_was_given(engine):
    index = engine.index("i")
    index.add(old := generated(60, seed=6))
    new = [*generated(40, seed=7), Entry("other", "w1 w2")]
    engine.rebuild("i", [*new, old[50], old[50]])
    assert len(index) == 42
    assert_equal_to_brute_force(index, [*new, old[50]])
    engine.rebuild("i", [])
    assert engine.index("i").search(["w1"], top_k=1) == [[]]


def test_an_index_can_be_new_when_it_is_rebuilt(engine):
    engine.rebuild("i", [Entry("a", "word")])
    assert [hit.id for hit in engine.index("i").search(["word"], top_k=1)[0]] == ["a"]


def test_of_an_id_given_twice_the_later_text_counts(engine):
    index = engine.index("i")
    index.add([Entry("a", "first"), Entry("b", "word"), Entry("a", "second")])
    assert [len(hits) for hits in index.search(["first", "second"], top_k=5)] == [0, 1]
    index.add([Entry("a", "third"), Entry("a", "second")])
    assert [len(hits) for hits in index.search(["third", "second"], top_k=5)] == [0, 1]


def test_long_and_odd_ids_come_back_as_they_are(engine):
    ids = sorted(["x" * 600, "a/b c?*", "深度", "🙂", "_id", "-"])
    index = engine.index("i")
    index.add(Entry(id_, "word") for id_ in ids)
    assert [hit.id for hit in index.search(["word"], top_k=9)[0]] == ids
    index.delete(ids[1:])
    assert [hit.id for hit in index.search(["word"], top_k=9)[0]] == ids[:1]


def test_names_that_differ_in_case_or_signs_alone_are_different_indexes(engine):
    names = ["Name", "name", "NAME", "=4eame", "_name", "-name", "name.1", "name-v000001"]
    for name in names:
        engine.index(name).add([Entry(name, "word")])
    found = [engine.index(name).search(["word"], top_k=9)[0] for name in names]
    assert [[hit.id for hit in hits] for hits in found] == [[name] for name in names]


def test_a_query_of_thousands_of_terms_equals_brute_force(engine):
    rng = random.Random(8)
    words = [f"q{number}" for number in range(4000)]
    entries = [Entry(f"d{n}", " ".join(rng.choices(words, k=40))) for n in range(150)]
    query = " ".join(words[:2500] + words[:40])
    index = engine.index("i")
    index.add(entries)
    (hits,) = index.search([query], top_k=12)
    expected = brute_force(entries, query, 12)
    assert [hit.id for hit in hits] == [id_ for id_, _ in expected]
    assert [hit.score for hit in hits] == pytest.approx([s for _, s in expected], rel=1e-12)


def test_two_terms_longer_than_an_engines_token_are_two(engine):
    long = "\U00010330" * 127  # a letter of two UTF-16 units
    index = engine.index("i")
    index.add([Entry("a", long + "\U00010331"), Entry("b", long + "\U00010332")])
    found = index.search([long + "\U00010331", long, "\U00010330"], top_k=5)
    assert [[hit.id for hit in hits] for hits in found] == [["a"], [], []]


def test_empty_texts_count_for_the_statistics(engine):
    entries = [*generated(30, seed=9), *(Entry(f"e{number}", "!") for number in range(30))]
    index = engine.index("i")
    index.add(entries)
    assert_equal_to_brute_force(index, entries)
