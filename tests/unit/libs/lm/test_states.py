import numpy as np
import pytest
import torch

from libs.lm import states
from libs.lm.folder import load_model, load_tokenizer
from libs.lm.prompts import UnusableError

TEXTS = ["the quick brown fox", "seven", "", "a lazy dog while wizards box a judge"]
CONFIGS = [
    {"model_type": "llama"},
    {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 48},
    {"model_type": "mamba", "state_size": 4},
]


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda config: config["model_type"])
def held(request, tmp_path_factory, make_checkpoint):
    folder = make_checkpoint(tmp_path_factory.mktemp("model"), **request.param)
    return load_model(folder), load_tokenizer(folder)


def theirs(held, text):
    """Return all states of one text alone, (L, T, D), as transformers gives them."""
    model, tokenizer = held
    ids = torch.tensor([tokenizer(text)["input_ids"] or [0]])
    with torch.no_grad():
        found = model(ids, output_hidden_states=True).hidden_states
    return torch.stack(found)[:, 0].numpy()


def shown(held, *, layers, batch_size=3, texts=TEXTS, **more):
    found = states.hidden_states(*held, texts, layers=layers, batch_size=batch_size, **more)
    return [each.values.numpy() for each in found]


def test_states_are_those_of_transformers(held):
    for text, found in zip(TEXTS, shown(held, layers=[0, 1, 2]), strict=True):
        assert found == pytest.approx(theirs(held, text), abs=1e-4)


def test_layers_come_in_the_order_asked_and_may_count_from_the_end(held):
    for text, found in zip(TEXTS, shown(held, layers=[-1, 0, -2]), strict=True):
        assert found == pytest.approx(theirs(held, text)[[2, 0, 1]], abs=1e-4)


def test_the_last_token_alone_is_the_last_of_all(held):
    for text, found in zip(TEXTS, shown(held, layers=[1, 2], last_only=True), strict=True):
        assert found == pytest.approx(theirs(held, text)[1:, -1:], abs=1e-4)


def test_an_embedding_is_the_mean_over_the_tokens_of_the_last_layer(held):
    found = list(states.embed(*held, TEXTS, batch_size=3))
    for text, each in zip(TEXTS, found, strict=True):
        assert each.values.numpy() == pytest.approx(theirs(held, text)[-1].mean(0), abs=1e-4)
        assert each.values.dtype is torch.float32
        assert each.num_tokens == theirs(held, text).shape[1]


def test_a_normalized_embedding_points_the_same_way_and_has_length_1(held):
    plain = [each.values.numpy() for each in states.embed(*held, TEXTS, batch_size=3)]
    unit = states.embed(*held, TEXTS, batch_size=3, normalize=True)
    for long, each in zip(plain, unit, strict=True):
        assert np.linalg.norm(each.values.numpy()) == pytest.approx(1, abs=1e-5)
        assert each.values.numpy() == pytest.approx(long / np.linalg.norm(long), abs=1e-5)


def test_repeated_texts_get_the_same_bits(held):
    one, other = (list(states.embed(*held, TEXTS, batch_size=2)) for _ in range(2))
    for each, again in zip(one, other, strict=True):
        assert torch.equal(each.values, again.values)


@pytest.mark.parametrize("layers", [[], [3], [-4], [0, 9]])
def test_a_layer_that_is_not_there_is_refused(held, layers):
    with pytest.raises(UnusableError, match=r"\[-3, 3\)"):
        shown(held, layers=layers)


def test_a_text_beyond_the_context_is_refused_with_its_length(tmp_path, make_checkpoint):
    folder = make_checkpoint(tmp_path / "model")
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    long = "the quick fox " * 40
    number = len(tokenizer(long)["input_ids"])
    with pytest.raises(UnusableError, match=f"at most 48 tokens, got {number}"):
        next(states.embed(model, tokenizer, ["the", long], batch_size=1))
