"""Texts into passages."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import InvalidInput
from libs.words import words
from services.corpus.passages import Lengths, passages

SMALL = Lengths(min_words=4, max_words=10)


def test_paragraphs_are_joined_until_they_are_long_enough():
    assert passages("a b\n\nc d e\n\nf g h i", SMALL) == ["a b\n\nc d e", "f g h i"]


def test_a_line_is_a_paragraph_where_no_line_is_blank():
    assert passages("a b\nc d e\nf g h i\n", SMALL) == ["a b\nc d e", "f g h i"]


def test_lines_of_a_paragraph_stay_together_where_there_are_blank_ones():
    assert passages("a b c d\ne f\n\ng h i j", SMALL) == ["a b c d\ne f", "g h i j"]


def test_a_rest_that_is_too_short_joins_the_passage_before_it():
    assert passages("a b c d\n\ne f", SMALL) == ["a b c d\n\ne f"]


def test_a_document_that_is_too_short_gives_none():
    assert passages("a b c", SMALL) == []
    assert passages("  \n \n", SMALL) == []


def test_what_is_too_long_is_cut_at_the_best_place_near_its_middle():
    assert passages("a b c d e. f g h i j k l.", SMALL) == ["a b c d e.", "f g h i j k l."]
    assert passages("a b c d e\nf g. h i j k l m", SMALL) == ["a b c d e", "f g. h i j k l m"]


def test_a_text_without_spaces_is_cut_too():
    cut = passages("深度学习模型需要大量的数据。" * 3, SMALL)
    assert all(4 <= len(words(each)) <= 10 for each in cut)
    assert "".join(cut) == "深度学习模型需要大量的数据。" * 3


@pytest.mark.parametrize("seed", range(8))
def test_every_word_is_in_one_passage_and_every_passage_has_its_length(seed):
    rng = random.Random(seed)
    text = "".join(
        f"w{number}{rng.choice([' '] * 12 + [chr(10), '. ', chr(10) * 2])}" for number in range(900)
    )
    lengths = Lengths(min_words=rng.randint(1, 20), max_words=rng.randint(40, 80))
    cut = passages(text, lengths)
    assert [word for each in cut for word in words(each)] == words(text)
    assert all(lengths.min_words <= len(words(each)) <= lengths.max_words for each in cut)


@given(st.text(max_size=200))
def test_no_text_is_too_strange(text):
    assert all(passages(text, SMALL))


@pytest.mark.parametrize(("low", "high"), [(0, 10), (6, 11), (40, 40)])
def test_lengths_that_cannot_be_kept_are_refused(low, high):
    with pytest.raises(InvalidInput, match="twice"):
        Lengths(min_words=low, max_words=high)
