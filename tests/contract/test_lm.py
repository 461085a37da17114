"""What every host of language models must do: in-process behind gRPC, and Triton."""

import pytest

from libs.errors import Corrupt, InvalidInput, NotFound
from libs.lm import scoring
from libs.lm.folder import load_model, load_tokenizer
from libs.lm.port import BATCH_SIZE, PIECE, Question
from tests import hosts

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "seven",
    "wizards",
    "box",
]
TOLERANCE = 1e-4
"""Nats, of an option's log-likelihood."""


def questions(number):
    """Return questions with stems and options of changing lengths."""
    return [
        Question(
            " ".join(WORDS[index % 5 : index % 5 + 1 + index % 8]),
            tuple(" " + " ".join(WORDS[start : start + 1 + index % 4]) for start in (1, 4, 7)),
        )
        for index in range(number)
    ]


@pytest.fixture(scope="module", params=hosts.ADAPTERS)
def world(request, tmp_path_factory, make_checkpoint):
    home = tmp_path_factory.mktemp("home")
    with hosts.opened(request.param, request, home, make_checkpoint) as world:
        yield world


@pytest.fixture
def digest(world):
    return next(iter(world.folders))


def test_scores_equal_a_plain_loop(world):
    for digest, folder in world.folders.items():
        model, tokenizer = load_model(folder), load_tokenizer(folder)
        asked = questions(BATCH_SIZE + 3)
        answers = world.lm.log_likelihood(digest, asked)
        for question, scores in zip(scoring.encode(model, tokenizer, asked), answers, strict=True):
            plain = scoring.score_plainly(model, question)
            for score, expected in zip(scores, plain.options, strict=True):
                assert abs(score.log_likelihood - expected.log_likelihood) < TOLERANCE
                assert score.num_tokens == expected.num_tokens


def test_repeated_questions_get_the_same_bits(world, digest):
    asked = questions(PIECE + 5)
    assert world.lm.log_likelihood(digest, asked) == world.lm.log_likelihood(digest, asked)


def test_asking_in_whole_batches_changes_no_bit(world, digest):
    asked = questions(3 * BATCH_SIZE)
    pieces = [asked[:BATCH_SIZE], asked[BATCH_SIZE:]]
    answers = [each for piece in pieces for each in world.lm.log_likelihood(digest, piece)]
    assert answers == world.lm.log_likelihood(digest, asked)


def test_two_models_do_not_answer_for_each_other(world):
    first, second = (world.lm.log_likelihood(digest, questions(4)) for digest in world.folders)
    assert first != second


def test_no_questions_have_no_answers(world, digest):
    assert world.lm.log_likelihood(digest, []) == []


def test_a_stem_beyond_the_context_is_cut_and_the_cut_is_told(world, digest):
    long = Question(" ".join(WORDS * 9), (" lazy dog", " fox"))
    short = Question("the quick", (" lazy dog",))
    cut, whole = world.lm.log_likelihood(digest, [long, short])
    assert {score.num_stem_tokens_cut for score in cut} != {0}
    assert [score.num_stem_tokens_cut for score in whole] == [0]


@pytest.mark.parametrize("options", [(), (" " + " ".join(WORDS * 9),)])
def test_a_question_that_cannot_be_scored_is_invalid(world, digest, options):
    with pytest.raises(InvalidInput, match="option"):
        world.lm.log_likelihood(digest, [Question("the", options)])


@pytest.mark.parametrize("name", ["live", "latest", "c0ffee"])
def test_an_alias_is_not_taken_for_weights(world, name):
    with pytest.raises(InvalidInput, match="64 hexadecimal"):
        world.lm.load(name)


def test_unknown_weights_are_not_found(world):
    with pytest.raises(NotFound):
        world.lm.load("0" * 64)
    with pytest.raises(NotFound):
        world.lm.log_likelihood("0" * 64, questions(1))


def test_weights_of_another_digest_are_corrupt(world):
    with pytest.raises(Corrupt):
        world.lm.load(world.corrupt)
    with pytest.raises(Corrupt):
        world.lm.log_likelihood(world.corrupt, questions(1))
