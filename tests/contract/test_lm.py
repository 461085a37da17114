"""What every host of language models must do: in-process behind gRPC, and Triton.

An adapter fixture gives a `World`: a port, the digests of two checkpoints that it can load, and one
that is registered for weights that are other ones.
"""

from contextlib import contextmanager
from typing import NamedTuple

import pytest

from libs.artifacts import Artifacts, Request
from libs.blobs.folder import FolderBlobs
from libs.blobs.minio import MinioBlobs
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.errors import Corrupt, InvalidInput, NotFound
from libs.lm import app, scoring, weights
from libs.lm.client import GrpcLm
from libs.lm.config import Config
from libs.lm.digest import folder_digest
from libs.lm.folder import load_model, load_tokenizer
from libs.lm.port import BATCH_SIZE, PIECE, Lm, Question
from libs.lm.triton.client import TritonLm

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


class World(NamedTuple):
    """A host and what it knows."""

    lm: Lm
    folders: dict[str, object]
    """Weights digest to the folder they came from."""
    corrupt: str
    """A digest under which other weights are stored."""


def questions(number):
    """Return questions with stems and options of changing lengths."""
    return [
        Question(
            " ".join(WORDS[index % 5 : index % 5 + 1 + index % 8]),
            tuple(" " + " ".join(WORDS[start : start + 1 + index % 4]) for start in (1, 4, 7)),
        )
        for index in range(number)
    ]


def register(artifacts, blobs, folder, digest):
    request = Request(kind="checkpoint", inputs={}, parameters={"of": digest}, recipe_version=1)
    weights.register(blobs, digest, artifacts.create(request, folder, run={}))


@pytest.fixture(scope="module", params=["lm host", "triton"])
def world(request, tmp_path_factory, make_checkpoint):
    home = tmp_path_factory.mktemp("home")
    blobs = FolderBlobs(home / "blobs")
    made = [make_checkpoint(home / f"model{seed}", seed=seed) for seed in (1, 2)]
    folders = {folder_digest(folder): folder for folder in made}
    for digest, folder in (*folders.items(), ("c" * 64, made[0])):
        register(Artifacts(blobs), blobs, folder, digest)
    if request.param == "triton":
        opened = triton(request.getfixturevalue("stack"), home, blobs)
    else:
        opened = lm_host(home, blobs)
    with opened as lm:
        yield World(lm, folders, "c" * 64)


@contextmanager
def lm_host(home, blobs):
    bus = SqliteBus(home / "bus.sqlite")
    service = app.build(Config(home=home, num_threads=1), blobs=blobs, bus=bus, clock=Clock())
    service.start()
    with GrpcLm(service.address) as lm:
        yield lm
    service.stop()
    bus.close()


def triton(stack, home, blobs):
    """A client of the running Triton; names follow from weights, so no model is in the way."""
    models = MinioBlobs(
        stack["ATHANOR_MINIO"],
        access_key=stack["ATHANOR_MINIO_ACCESS_KEY"],
        secret_key=stack["ATHANOR_MINIO_SECRET_KEY"],
        cache=home / "cache",
    )
    key = stack.get("ATHANOR_TRITON_KEY", "")
    return TritonLm([stack["ATHANOR_TRITON"]], blobs=blobs, models=models, key=key)


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
