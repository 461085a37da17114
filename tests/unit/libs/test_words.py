"""What a word is, in every script, and what search makes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs import words as module
from libs.words import ngrams, terms, words

ASCII = st.text(st.sampled_from("aeBx19_.:;,' -\r\t\x1c\"/"), max_size=20)


@given(ASCII | st.text(st.characters(max_codepoint=127), max_size=40))
def test_the_ascii_pattern_splits_exactly_as_unicode_does(text):
    # A trailing letter beyond ASCII sends each line through the full rules.
    plain = [word for line in text.split("\n") for word in module._line_words(line)]
    full = [word for line in text.split("\n") for word in module._line_words(line + " é")[:-1]]
    assert plain == full


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop, 3.14!", ["don't", "stop", "3.14"]),
        ("'apple' and 'pear'", ["apple", "and", "pear"]),
        ("os.path __init__ a-b", ["os.path", "__init__", "a", "b"]),
        ("ＦＵＬＬ ﬁsh Straße", ["full", "fish", "strasse"]),  # noqa: RUF001
        ("深度学习 model", ["深", "度", "学", "习", "model"]),
        ("カタカナ ひら", ["カ", "タ", "カ", "ナ", "ひ", "ら"]),
        ("ที่", ["ที่"]),
        ("cafe\u0301", ["café"]),
        ("mea\u00adsure\u200bment \u2060of\ufeff", ["measurement", "of"]),
        ("... --- ***", []),
        ("", []),
    ],
)
def test_words_of(text, expected):
    assert words(text) == expected


@given(st.text(max_size=60))
def test_words_of_joined_words_are_the_same_words(text):
    once = words(text)
    assert words("\n".join(once)) == once


def test_a_short_text_is_its_own_only_ngram():
    assert ngrams(["a", "b"], 13) == {"a b"}
    assert ngrams(["a", "b", "c"], 2) == {"a b", "b c"}
    assert ngrams([], 2) == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Files in os.path", ["file", "in", "os", "path"]),
        ("libraries classes bus glass gas", ["library", "classe", "bus", "glass", "gas"]),
        ("the model's weights", ["the", "model", "weight"]),
        ("3.14 v3.11", ["3.14", "v3.11"]),
        ("__init__ ___", ["init"]),
        ("x" * 500, ["x" * module.MAX_TERM_CHARACTERS]),
    ],
)
def test_terms_of(text, expected):
    assert terms(text) == expected


@given(st.text(max_size=60))
def test_terms_survive_being_split_at_white_space(text):
    found = terms(text)
    assert " ".join(found).split() == found
