import random

import pytest
import torch

from libs.lm import scoring
from libs.lm.folder import load_model, load_tokenizer
from libs.lm.prompts import UnusableError

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


def questions(number, *, seed=1, longest_stem=18):
    """Return pairs of stem and options, of all lengths, with 1 to 4 options."""
    chance = random.Random(seed)

    def text(longest):
        return " ".join(chance.choices(WORDS, k=chance.randint(1, longest)))

    return [
        (text(longest_stem), [" " + text(6) for _ in range(chance.randint(1, 4))])
        for _ in range(number)
    ]


@pytest.fixture(scope="module")
def held(tmp_path_factory, make_checkpoint):
    folder = make_checkpoint(tmp_path_factory.mktemp("model"))
    return load_model(folder), load_tokenizer(folder)


def worst(model, tokenizer, asked, *, batch_size):
    """Return the largest difference to a plain loop, in nats."""
    answers = list(scoring.score(model, tokenizer, asked, batch_size))
    plain = [scoring.score_plainly(model, q) for q in scoring.encode(model, tokenizer, asked)]
    assert [len(each.options) for each in answers] == [len(options) for _, options in asked]
    return max(
        abs(one.log_likelihood - other.log_likelihood)
        for answer, expected in zip(answers, plain, strict=True)
        for one, other in zip(answer.options, expected.options, strict=True)
    )


@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_batches_score_like_a_plain_loop(held, batch_size):
    assert worst(*held, questions(40), batch_size=batch_size) < 1e-4


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 48},
        {"model_type": "mistral", "sliding_window": 8},
        {"model_type": "gpt_neox"},
        {"model_type": "mamba", "state_size": 4},
    ],
    ids=lambda config: config["model_type"],
)
def test_other_architectures_score_like_a_plain_loop(tmp_path, make_checkpoint, config):
    folder = make_checkpoint(tmp_path / "model", **config)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    assert worst(model, tokenizer, questions(12), batch_size=8) < 1e-4


def test_a_plain_score_is_the_sum_of_log_probabilities(held):
    model, tokenizer = held
    stem, option = tokenizer("the quick")["input_ids"], tokenizer(" brown fox")["input_ids"]
    with torch.no_grad():
        log_probs = model(torch.tensor([stem + option])).logits.log_softmax(-1)[0]
    by_hand = sum(float(log_probs[len(stem) - 1 + i, token]) for i, token in enumerate(option))
    (answer,) = scoring.score(model, tokenizer, [("the quick", [" brown fox"])], 1)
    assert answer.options[0].log_likelihood == pytest.approx(by_hand, abs=1e-5)
    assert answer.options[0].num_tokens == len(option)


def test_repeated_questions_get_the_same_bits(held):
    asked = questions(40, seed=3)
    assert list(scoring.score(*held, asked, 32)) == list(scoring.score(*held, asked, 32))


def test_pieces_of_whole_batches_give_the_bits_of_one_call(held):
    asked = questions(40, seed=4)
    whole = list(scoring.score(*held, asked, 8))
    pieces = [*scoring.score(*held, asked[:16], 8), *scoring.score(*held, asked[16:], 8)]
    assert pieces == whole


def test_a_long_stem_is_cut_on_its_left(held):
    model, tokenizer = held
    stem, option = " ".join(WORDS * 5), " lazy dog"
    option_ids = tokenizer(option)["input_ids"]
    stem_ids = tokenizer(stem)["input_ids"]
    room = 48 - len(option_ids) + 1
    (answer,) = scoring.score(model, tokenizer, [(stem, [option])], 1)
    assert answer.num_stem_tokens_cut == len(stem_ids) - room
    kept = scoring.Encoded(stem_ids[-room:], [option_ids], 0)
    expected = scoring.score_plainly(model, kept).options[0].log_likelihood
    assert answer.options[0].log_likelihood == pytest.approx(expected, abs=1e-4)


def test_long_stems_beside_short_ones_ask_for_no_position_beyond_the_context(
    tmp_path, make_checkpoint
):
    folder = make_checkpoint(
        tmp_path / "m", model_type="gpt2", n_embd=16, n_layer=1, n_head=2, n_positions=48
    )
    asked = [(" ".join(WORDS * 5), [" fox"]), ("the", [" " + " ".join(WORDS[:6]), " dog"])]
    assert worst(load_model(folder), load_tokenizer(folder), asked, batch_size=2) < 1e-4


def test_an_empty_stem_begins_after_the_token_that_separates_texts(held):
    model, tokenizer = held
    (answer,) = scoring.score(model, tokenizer, [("", [" fox"])], 1)
    after = scoring.Encoded([0], [tokenizer(" fox")["input_ids"]], 0)
    expected = scoring.score_plainly(model, after).options[0].log_likelihood
    assert answer.options[0].log_likelihood == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("options", [[], [""], [" " + " ".join(WORDS * 5)]])
def test_what_cannot_be_scored_is_refused_before_anything_is_computed(held, options):
    with pytest.raises(UnusableError, match="option"):
        next(scoring.score(*held, [("the quick", [" fox"]), ("the", options)], 1))
