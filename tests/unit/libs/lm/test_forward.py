import numpy as np
import pytest
import torch

from libs.lm import forward
from libs.lm.folder import load_model, load_tokenizer
from libs.lm.forward import Row
from libs.lm.prompts import UnusableError


@pytest.fixture(scope="module")
def held(tmp_path_factory, make_checkpoint):
    folder = make_checkpoint(tmp_path_factory.mktemp("model"))
    return load_model(folder), load_tokenizer(folder)


def test_rows_end_in_the_last_column_and_are_read_as_if_alone(held):
    model, _ = held
    soft = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    rows = [Row([5, 6, 7, 8]), Row([9]), Row([5, 6], soft), Row([], soft)]
    with torch.inference_mode():
        output, mask = forward.run_rows(model, rows)
    assert mask.sum(1).tolist() == [4, 1, 5, 3]
    for place, row in enumerate(rows):
        with torch.inference_mode():
            alone = model(**forward.plain_inputs(model, row)).logits[0, -1]
        assert output.logits[place, -1].numpy() == pytest.approx(alone.numpy(), abs=1e-4)


def test_a_model_is_given_only_arguments_that_it_takes(held):
    _, mask = forward.run_rows(held[0], [Row([5, 6])], logits_to_keep=1, no_such_argument=1)
    assert mask.tolist() == [[1, 1]]


def test_an_empty_text_is_the_separator_unless_a_prompt_stands_before_it(held):
    assert forward.row_of(*held, "").token_ids == [0]
    assert forward.row_of(*held, "", torch.zeros(2, 16)).token_ids == []


def test_a_row_fits_to_the_last_position(held):
    assert forward.fitting(held[0], Row([5] * 48)).num_tokens == 48
    with pytest.raises(UnusableError, match="at most 48 tokens, got 49"):
        forward.fitting(held[0], Row([5] * 46, torch.zeros(3, 16)))


def test_prompt_embeddings_become_float32_of_their_own(held):
    given = np.ones((2, 16), dtype=np.float64)
    made = forward.prompt_of(held[0], given)
    given[:] = 0
    assert made.dtype is torch.float32 and bool((made == 1).all())
    assert forward.prompt_of(held[0], None) is None
