"""The fake keeps the promises of the port that the real host keeps."""

import pytest

from libs.errors import NotFound
from libs.lm.port import Lm, Question
from services.evaluator.adapters import FakeLm
from services.evaluator.score import choose


def fake() -> Lm:
    return FakeLm({"digest": lambda question: question.stem.count("x")})


def test_the_fake_finds_the_option_likeliest_that_it_was_told():
    questions = [Question(stem, (" long option", " b", " cc")) for stem in ("", "x", "xx")]
    assert [choose(each) for each in fake().log_likelihood("digest", questions)] == [0, 1, 2]


def test_the_fake_knows_no_other_weights():
    for call in (fake().load, lambda digest: fake().log_likelihood(digest, [])):
        with pytest.raises(NotFound, match="other"):
            call("other")
