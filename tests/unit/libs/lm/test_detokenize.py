import pytest

from libs.lm.detokenize import Detokenizer
from libs.lm.folder import load_tokenizer

TEXT = "the naïve 狐 jumps 🦊🦊 over ﬁ the dog"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory, make_checkpoint):
    return load_tokenizer(make_checkpoint(tmp_path_factory.mktemp("model")))


class Words:
    """A tokenizer in the manner of sentencepiece: a word has a space before it, the first none."""

    def __init__(self, *words):
        self.words = words

    def decode(self, ids, **_):
        return "".join(self.words[each] for each in ids).removeprefix(" ")


def given(tokenizer, ids, *, before=(), stop=()):
    text = Detokenizer(tokenizer, list(before), stop)
    parts = []
    for token in ids:
        parts.append(text.add(token))
        if text.has_stopped:
            break
    return [*parts, text.end()]


def ids_of(tokenizer, text):
    return tokenizer(text)["input_ids"]


def test_parts_are_whole_characters_and_join_to_the_text(tokenizer):
    ids = ids_of(tokenizer, TEXT)
    parts = given(tokenizer, ids)
    assert "".join(parts) == TEXT
    assert not any("\ufffd" in part for part in parts)
    assert len(ids) > len(TEXT) / 2 and parts.count("") > 5  # characters do lie across tokens


def test_bytes_that_are_no_character_come_out_in_the_end(tokenizer):
    broken = [*ids_of(tokenizer, "dog"), ids_of(tokenizer, "🦊")[0]]
    assert given(tokenizer, broken)[-1] == "\ufffd"
    assert "".join(given(tokenizer, [*broken, *ids_of(tokenizer, " the")])) == "dog\ufffd the"


def test_special_tokens_are_no_text(tokenizer):
    assert "".join(given(tokenizer, [*ids_of(tokenizer, "dog"), 0])) == "dog"


def test_the_first_new_word_keeps_its_space_behind_a_prompt():
    words = Words(" the", " quick", " fox")
    assert "".join(given(words, [1, 2], before=[0])) == " quick fox"
    assert "".join(given(words, [1, 2])) == "quick fox"


@pytest.mark.parametrize("stop", ["x j", "fox jumps", "ox", "s", "f"])
def test_a_stop_ends_the_text_before_it_wherever_it_lies(tokenizer, stop):
    text = "the quick fox jumps over"
    parts = given(tokenizer, ids_of(tokenizer, text), stop=(stop,))
    assert "".join(parts) == text[: text.index(stop)]


def test_nothing_of_a_stop_is_given_out_before_it_is_known_not_to_be_one():
    letters = Words(*"abcd")
    assert given(letters, [0, 1, 2, 0, 1, 3], stop=("abd",)) == ["", "", "abc", "", "", "", ""]
    assert given(letters, [0, 1], stop=("abd",)) == ["", "", "ab"]


def test_the_first_of_several_stops_counts():
    letters = Words("a", "bcd", "e")
    assert "".join(given(letters, [0, 1, 2], stop=("cd", "bc", "e"))) == "a"
