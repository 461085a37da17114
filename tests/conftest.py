"""What tests of several folders need: the real servers, and tiny models made on the fly."""

import pytest

from tests import stack as real

_TEXT = "the quick brown fox jumps over the lazy dog while seven wizards box a judge " * 4


@pytest.fixture(scope="session")
def stack():
    """Return where the real servers answer, `ATHANOR_KAFKA` and so on; skip without them."""
    return real.settings()


@pytest.fixture(scope="session")
def make_checkpoint():
    """Return `make(folder, seed=0, **config)`: a Hugging Face folder with a tiny Llama."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    from services.trainer import tokenizer

    logging.disable_progress_bar()

    def make(folder, *, seed=0, model_type="llama", **config):
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(tokenizer.train([_TEXT], 300), folder)
        sizes = {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 48,
            "vocab_size": tokenizer.size(folder),
            "bos_token_id": 0,
            "eos_token_id": 0,
        }
        torch.manual_seed(seed)
        made = AutoConfig.for_model(model_type, **sizes | config)
        model = AutoModelForCausalLM.from_config(made)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)  # far from uniform
        model.save_pretrained(str(folder))
        return folder

    return make
