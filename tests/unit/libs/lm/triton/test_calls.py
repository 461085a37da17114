"""What is asked and answered survives the tensors, and means what the arithmetic does."""

from dataclasses import replace

import numpy as np
import pytest

from libs.errors import Corrupt, InvalidInput
from libs.lm import generation, scoring
from libs.lm.folder import load_model, load_tokenizer
from libs.lm.port import BATCH_SIZE, Question
from libs.lm.prompts import Prompt, Sampling, UnusableError, joined
from libs.lm.triton import calls, wire

QUESTIONS = [Question("the quick", (" fox", " lazy dog")), Question("seven", (" wizards",))]
SAMPLED = Sampling(max_new_tokens=6, temperature=0.8, top_k=50, top_p=0.9, stop=("zz", "the the"))


@pytest.fixture(scope="module")
def model_and_tokenizer(make_checkpoint, tmp_path_factory):
    folder = make_checkpoint(tmp_path_factory.mktemp("model"))
    return load_model(folder), load_tokenizer(folder)


@pytest.fixture
def ask(model_and_tokenizer):
    """Return `ask(tensors)`: every answer of a call, those of each item apart."""

    def answers(asked, *, is_wanted=lambda: True):
        call = calls.begin(*model_and_tokenizer, asked, is_wanted)
        items = list(call.items)
        cuts = [[each] for each in items] if call.is_streamed else [items]
        return [answer for cut in cuts for answer in call.answers(cut)]

    return answers


def test_scores_are_those_of_the_arithmetic_to_the_bit(ask, model_and_tokenizer):
    prompt = np.ones((2, 16), dtype=np.float32)
    for soft in (None, prompt):
        (answer,) = ask(wire.to_score(QUESTIONS, soft))
        expected = scoring.score(*model_and_tokenizer, QUESTIONS, BATCH_SIZE, soft)
        found = wire.from_score(answer, QUESTIONS)
        assert [[each[:2] for each in scores] for scores in found] == [
            [tuple(option) for option in each.options] for each in expected
        ]


def test_generated_pieces_are_those_of_the_arithmetic_to_the_bit(ask, model_and_tokenizer):
    prompts = [
        Prompt(text="the quick", seed=3),
        Prompt(token_ids=(5, 6, 7), embeddings=np.full((3, 16), 0.5, dtype=np.float32), seed=2**40),
        Prompt(embeddings=np.zeros((1, 16), dtype=np.float32), text="fox"),
    ]
    answers = ask(wire.to_generate(prompts, SAMPLED))
    found = joined(piece for each in answers for piece in wire.from_generate(each, first=10))
    expected = generation.generate(*model_and_tokenizer, prompts, SAMPLED, batch_size=BATCH_SIZE)
    assert found == [replace(each, index=10 + each.index) for each in joined(expected)]


def test_hidden_states_come_in_parts_that_fit_a_message(ask, monkeypatch):
    asked = wire.to_hidden_states(["the quick brown fox"], [0, -1], last_only=False)
    whole = [wire.from_values(each) for each in ask(asked)]
    monkeypatch.setattr(calls, "_PART_VALUES", 32)
    parts = ask(asked)
    assert len(parts) > len(whole) == 2
    assert np.array_equal(
        np.concatenate([wire.from_values(each) for each in parts]).reshape(-1),
        np.concatenate(whole).reshape(-1),
    )
    assert [bool(each["num_tokens_left"][0]) for each in parts].count(False) == 2


def test_embeddings_are_one_a_text(ask):
    (answer,) = ask(wire.to_embed(["the", "quick brown"], normalize=True))
    assert np.allclose(np.linalg.norm(wire.from_values(answer), axis=1), 1)


def test_nothing_more_is_computed_once_the_caller_has_left(ask):
    (answer,) = ask(wire.to_score(QUESTIONS, None), is_wanted=lambda: False)
    assert len(answer["num_stem_tokens_cut"]) == 1


def test_what_no_batch_could_hold_is_unusable(ask):
    with pytest.raises(UnusableError, match="option"):
        ask(wire.to_score([Question("the", ())], None))


@pytest.mark.parametrize(
    ("prompt", "sampling"),
    [
        (Prompt(token_ids=(2**31,)), Sampling()),
        (Prompt(seed=2**63), Sampling()),
        (Prompt(), Sampling(top_k=2**31)),
        (Prompt(embeddings=np.ones(3)), Sampling()),
    ],
)
def test_numbers_that_no_tensor_holds_are_invalid(prompt, sampling):
    with pytest.raises(InvalidInput, match=r"expected numbers|must have"):
        wire.to_generate([prompt], sampling)


def test_scores_of_other_questions_are_corrupt(ask):
    (answer,) = ask(wire.to_score(QUESTIONS[:1], None))
    with pytest.raises(Corrupt, match="3 options"):
        wire.from_score(answer, QUESTIONS)


def test_tensors_that_do_not_fit_together_are_refused(ask):
    asked = wire.to_score(QUESTIONS, None)
    with pytest.raises(ValueError, match="expected 3 values, got 2"):
        ask(asked | {"options": [" a", " b"]})
