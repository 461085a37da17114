"""Which texts share a run of words with another, by hash and by sets."""

import random

import pytest

from libs.words import ngrams, words
from services.evaluator.unrepeated import unrepeated


def test_a_shared_run_marks_both_texts():
    assert unrepeated(["a b c d", "x a b c", "p q r s"], size=3).tolist() == [False, False, True]


def test_a_run_across_two_texts_is_no_run():
    assert unrepeated(["a b c", "d e f", "c d e"], size=3).tolist() == [True, True, True]


def test_a_run_repeated_within_one_text_is_its_own():
    assert unrepeated(["a b c a b c", "d e f"], size=3).tolist() == [True, True]


def test_equal_texts_repeat_each_other_also_in_other_case_and_punctuation():
    assert unrepeated(["One, two three!", "one TWO (three)", "four five six"], size=3).tolist() == [
        False,
        False,
        True,
    ]


def test_order_of_words_matters():
    assert unrepeated(["a b c", "c b a"], size=3).tolist() == [True, True]


@pytest.mark.parametrize("texts", [[], [""], ["a b", "c"], ["", "a b c", ""]])
def test_a_text_shorter_than_a_run_is_not_known_to_be_alone(texts):
    assert unrepeated(texts, size=3).tolist() == [len(text.split()) >= 3 for text in texts]


def test_hashes_agree_with_sets_on_random_texts():
    rng = random.Random(5)
    texts = [" ".join(rng.choices("abcdefgh", k=rng.randrange(0, 12))) for _ in range(300)]
    sets = [ngrams(words(text), 5) if len(words(text)) >= 5 else set() for text in texts]
    expected = [
        bool(own) and not any(own & other for place, other in enumerate(sets) if place != index)
        for index, own in enumerate(sets)
    ]
    assert unrepeated(texts, size=5).tolist() == expected
    assert 20 < sum(expected) < 280
