"""Near-duplicates."""

import random

import pytest

from libs.words import ngrams
from services.corpus.dedup import MIN_JACCARD, NearDuplicates, jaccard


def text(seed: int, num_words: int = 120) -> list[str]:
    rng = random.Random(seed)
    return [f"w{rng.randrange(5000)}" for _ in range(num_words)]


def changed(tokens: list[str], every: int) -> list[str]:
    return [f"x{n}" if n % every == every - 1 else word for n, word in enumerate(tokens)]


def test_jaccard_by_hand():
    assert jaccard({"a", "b", "c"}, {"b", "c", "d"}) == 0.5
    assert jaccard(set(), set()) == 1.0


def test_a_text_and_its_near_copy_are_twins_and_strangers_are_not():
    seen = NearDuplicates()
    assert seen.twin_or_add("first", text(1)) is None
    assert seen.twin_or_add("other", text(2)) is None
    twin = seen.twin_or_add("copy", [*text(1), "and", "more"])
    assert twin is not None
    assert twin.id == "first"


def test_what_was_refused_is_no_measure_for_later_texts():
    seen = NearDuplicates()
    seen.twin_or_add("a", text(1))
    seen.twin_or_add("b", text(1)[:-20])
    far = text(1)[:-45]
    expected = jaccard(ngrams(far, 5), ngrams(text(1), 5)) >= MIN_JACCARD
    assert (seen.twin_or_add("c", far) is not None) == expected


def test_banding_finds_nearly_all_twins_and_exactness_spares_all_others():
    found = expected = 0
    for seed in range(60):
        one, other = text(seed), changed(text(seed), every=40)
        similarity = jaccard(ngrams(one, 5), ngrams(other, 5))
        assert similarity == pytest.approx(0.83, abs=0.03)
        seen = NearDuplicates()
        seen.twin_or_add("one", one)
        found += seen.twin_or_add("other", other) is not None
        expected += 1
        assert NearDuplicates().twin_or_add("alone", other) is None
    assert found >= 0.95 * expected


def test_texts_below_the_threshold_are_kept_even_as_candidates():
    for seed in range(40):
        seen = NearDuplicates()
        seen.twin_or_add("one", text(seed))
        assert seen.twin_or_add("other", changed(text(seed), every=15)) is None


def test_the_same_order_gives_the_same_twins():
    def twins() -> list[object]:
        seen = NearDuplicates()
        rng = random.Random(3)
        given = [changed(text(rng.randrange(5)), rng.choice([20, 60, 200])) for _ in range(60)]
        return [seen.twin_or_add(str(n), tokens) for n, tokens in enumerate(given)]

    assert twins() == twins()
