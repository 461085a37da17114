import math
from itertools import product

import pytest
import torch

from libs.lm import generation
from libs.lm.folder import load_model, load_tokenizer
from libs.lm.prompts import Finish, Prompt, Sampling, UnusableError, joined

TEXTS = ["the quick brown fox", "seven", "", "a lazy dog while wizards box a judge"]
GREEDY = Sampling(max_new_tokens=12)
SAMPLED = Sampling(max_new_tokens=12, temperature=0.8, top_k=50, top_p=0.95)
ARCHITECTURES = [
    {"model_type": "llama"},
    {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 48},
    {"model_type": "mistral", "sliding_window": 8},
    {"model_type": "gpt_neox"},
    {"model_type": "mamba", "state_size": 4},
]


@pytest.fixture(scope="module")
def held(tmp_path_factory, make_checkpoint):
    folder = make_checkpoint(tmp_path_factory.mktemp("model"), seed=3)
    return load_model(folder), load_tokenizer(folder)


def pieces(held, prompts, sampling=GREEDY, *, batch_size=32, **more):
    prompts = [Prompt(text=each) if isinstance(each, str) else each for each in prompts]
    return list(generation.generate(*held, prompts, sampling, batch_size=batch_size, **more))


def generated(*given, **named):
    return joined(pieces(*given, **named))


def rows(held, text):
    """Return the embeddings of a text's tokens, (P, D)."""
    model, tokenizer = held
    ids = torch.tensor(tokenizer(text)["input_ids"])
    return model.get_input_embeddings()(ids).detach().numpy()


@pytest.mark.parametrize("config", ARCHITECTURES, ids=lambda config: config["model_type"])
def test_greedy_tokens_are_those_of_transformers(tmp_path, make_checkpoint, config):
    folder = make_checkpoint(tmp_path / "model", **config)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    for text, made in zip(TEXTS, generated((model, tokenizer), TEXTS), strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"] or [0]])
        theirs = model.generate(ids, do_sample=False, max_new_tokens=12, pad_token_id=0)
        assert list(made.token_ids) == theirs[0, ids.shape[1] :].tolist()


def test_log_probabilities_are_those_of_one_forward_over_the_whole(held):
    model, tokenizer = held
    for text, made in zip(TEXTS, generated(held, TEXTS, SAMPLED), strict=True):
        before = tokenizer(text)["input_ids"] or [0]
        with torch.no_grad():
            logits = model(torch.tensor([before + list(made.token_ids)])).logits[0]
        log_probs = logits.log_softmax(-1)[len(before) - 1 : -1]
        expected = [float(row[token]) for row, token in zip(log_probs, made.token_ids, strict=True)]
        assert made.log_probs == pytest.approx(expected, abs=1e-4)
        assert made.num_prompt_tokens == len(before)


def test_the_same_seeds_give_the_same_bits_and_others_other_tokens(held):
    prompts = [Prompt(text="the quick", seed=seed) for seed in (1, 2, 1)]
    first, other, same = generated(held, prompts, SAMPLED)
    assert first.token_ids == same.token_ids != other.token_ids
    assert generated(held, prompts, SAMPLED) == [first, other, same]


def test_neighbours_change_no_random_number_of_a_prompt(held):
    asked = Prompt(text="the quick", seed=7)
    alone = generated(held, [asked], SAMPLED)[0]
    for neighbours in (["seven"], TEXTS):
        beside = generated(held, [*neighbours, asked], SAMPLED)[-1]
        assert beside.token_ids == alone.token_ids
        assert beside.log_probs == pytest.approx(alone.log_probs, abs=1e-4)


def test_batches_give_what_one_prompt_at_a_time_gives(held):
    alone = generated(held, TEXTS, SAMPLED, batch_size=1)
    for batch_size in (2, 3):
        made = generated(held, TEXTS, SAMPLED, batch_size=batch_size)
        assert [each.token_ids for each in made] == [each.token_ids for each in alone]


def test_a_prompt_of_a_texts_own_embeddings_is_that_text(held):
    plain = generated(held, ["the quick brown fox", "the quick", "seven"])
    soft = [
        Prompt(embeddings=rows(held, "the quick"), text=" brown fox"),
        Prompt(embeddings=rows(held, "the quick")),
        "seven",
    ]
    assert [each.token_ids for each in generated(held, soft)] == [each.token_ids for each in plain]
    assert [each.num_prompt_tokens for each in generated(held, soft)] == [
        each.num_prompt_tokens for each in plain
    ]


def test_token_ids_are_taken_as_they_are(held):
    ids = tuple(held[1]("the quick")["input_ids"])
    assert generated(held, [Prompt(token_ids=ids)]) == generated(held, ["the quick"])


def test_it_ends_with_the_end_of_text_and_leaves_it_out_of_the_text(held):
    model, _ = held
    usual = generated(held, ["the quick"])[0]
    model.generation_config.eos_token_id = [usual.token_ids[3]]
    try:
        ended = generated(held, ["the quick"])[0]
    finally:
        model.generation_config.eos_token_id = 0
    place = usual.token_ids.index(usual.token_ids[3])
    assert ended.token_ids == usual.token_ids[: place + 1]
    assert (ended.finish, usual.finish) == (Finish.STOP, Finish.LENGTH)


def test_a_stop_across_tokens_ends_it_and_is_no_part_of_the_text(held):
    usual = generated(held, ["seven wizards"], Sampling(max_new_tokens=24))[0]
    middle = len(usual.text) // 2
    stop = usual.text[middle - 2 : middle + 3]
    made = generated(held, ["seven wizards"], Sampling(max_new_tokens=24, stop=(stop,)))[0]
    assert made.text == usual.text[: usual.text.index(stop)]
    assert made.finish is Finish.STOP
    assert made.token_ids == usual.token_ids[: len(made.token_ids)]


def test_no_more_is_made_than_the_context_holds(held):
    made = generated(held, ["the quick"], Sampling(max_new_tokens=1000))[0]
    # The last one is made and never read.
    assert made.num_prompt_tokens + len(made.token_ids) == 48 + 1
    assert made.finish is Finish.LENGTH


def test_one_that_ended_beside_a_longer_one_asks_for_no_position_beyond_the_context(
    tmp_path, make_checkpoint
):
    config = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 48}
    folder = make_checkpoint(tmp_path / "m", **config)
    held = load_model(folder), load_tokenizer(folder)
    long = Prompt(token_ids=tuple(range(5, 50)))
    both = generated(held, [long, "the"], Sampling(max_new_tokens=40))
    alone = [generated(held, [each], Sampling(max_new_tokens=40))[0] for each in (long, "the")]
    assert [each.token_ids for each in both] == [each.token_ids for each in alone]


def test_pieces_come_token_by_token_and_end_once(held):
    made = pieces(held, TEXTS)
    assert all(len(piece.token_ids) == len(piece.log_probs) == 1 for piece in made)
    assert [piece.index for piece in made[:4]] == [0, 1, 2, 3]
    ends = [piece.index for piece in made if piece.finish]
    assert sorted(ends) == [0, 1, 2, 3]


def test_nobody_waiting_ends_it_before_the_next_token(held):
    answers = iter([True, True, False])
    made = generated(held, ["the", "seven"], is_wanted=lambda: next(answers))
    assert [(len(each.token_ids), each.finish) for each in made] == [(2, Finish.CANCELLED)] * 2


def test_a_batch_nobody_waits_for_is_not_begun(held):
    made = generated(held, ["the", "seven"], batch_size=1, is_wanted=lambda: False)
    assert [(each.token_ids, each.finish) for each in made] == [((), Finish.CANCELLED)] * 2


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(text="the " * 49),
        Prompt(token_ids=(5,) * 49),
        Prompt(text="the", token_ids=(5,)),
        Prompt(token_ids=(5, 100_000)),
        Prompt(embeddings=[[0.0] * 15]),
        Prompt(embeddings=[0.0] * 16),
        Prompt(embeddings=[[math.nan] * 16]),
        Prompt(embeddings=[[0.0] * 16] * 49),
    ],
)
def test_a_prompt_that_cannot_be_is_refused_before_anything_is_computed(held, prompt):
    with pytest.raises(UnusableError, match=r"expected at most 48 tokens|prompt|token ids"):
        pieces(held, ["the", prompt], is_wanted=lambda: pytest.fail("computed"))


@pytest.mark.parametrize(
    "change",
    [
        {"max_new_tokens": 0},
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"stop": ("x", "")},
    ],
)
def test_a_sampling_that_cannot_be_is_refused(change):
    with pytest.raises(UnusableError, match=next(iter(change))):
        generation.check_sampling(Sampling(**change))


def drawn(probs, *, number=4000, **filters):
    """Return how often each token is drawn."""
    chance = torch.Generator().manual_seed(5)
    logits = torch.tensor(probs).log()
    sampling = Sampling(**{"temperature": 1.0} | filters)
    tokens = [generation.draw(logits, sampling, chance) for _ in range(number)]
    return [tokens.count(token) / number for token in range(len(probs))]


def test_tokens_are_drawn_as_often_as_the_model_says():
    probs = [0.1, 0.6, 0.3]
    assert drawn(probs) == pytest.approx(probs, abs=0.03)
    hotter = [math.sqrt(each) for each in probs]
    assert drawn(probs, temperature=2.0) == pytest.approx(
        [each / sum(hotter) for each in hotter], abs=0.03
    )


def test_filters_keep_the_likeliest_in_their_order():
    probs = [0.1, 0.4, 0.3, 0.2]
    assert drawn(probs, top_k=2) == pytest.approx([0, 4 / 7, 3 / 7, 0], abs=0.03)
    assert drawn(probs, top_p=0.4) == [0, 1, 0, 0]
    assert drawn(probs, top_p=0.41) == pytest.approx([0, 4 / 7, 3 / 7, 0], abs=0.03)
    # Of what the first filter leaves, 4/7 and 3/7, the second keeps the share.
    assert drawn(probs, top_k=2, top_p=0.55) == [0, 1, 0, 0]


def test_one_random_number_is_drawn_for_each_token_whatever_the_filters():
    states = []
    for top_k, top_p in product((0, 1), (0.1, 1.0)):
        chance = torch.Generator().manual_seed(1)
        sampling = Sampling(temperature=1.0, top_k=top_k, top_p=top_p)
        generation.draw(torch.arange(9.0), sampling, chance)
        states.append(float(torch.rand((), generator=chance)))
    assert len(set(states)) == 1
