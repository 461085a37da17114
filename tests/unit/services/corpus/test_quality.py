"""The rules, each with a text that breaks only it."""

import pytest

from libs.words import words
from services.corpus.quality import fault
from services.corpus.refusals import Reason


def broken(text: str) -> Reason | None:
    found = fault(text, words(text))
    return found[0] if found else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A plain sentence about how a file is opened, read and closed again.", None),
        ("open(file, mode='r', buffering=-1, encoding=None): Open file and return a stream.", None),
        ("深度学习模型需要大量的训练数据", None),
        ("a == 1; b += 2; {c: [3, 4]} >>= (5) && ((6)) || 7 ** 8 %% 9", Reason.SYMBOLS),
        ("spam and eggs " * 20, Reason.REPETITIVE),
        (" ".join(["the"] * 10 + [f"word{n}" for n in range(20)]), Reason.REPETITIVE),
        (" ".join(f"{letter * 18}" for letter in "abcdefghijklmnop"), Reason.LONG_WORDS),
    ],
)
def test_a_text_breaks_the_rule_it_should(text, expected):
    assert broken(text) is expected


def test_a_fault_says_its_figure():
    found = fault("spam " * 30, words("spam " * 30))
    assert found == (Reason.REPETITIVE, "3% of its words are distinct")
