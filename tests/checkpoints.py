"""Tiny checkpoints in the Hugging Face layout, made on the fly."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from services.trainer import tokenizer

_TEXT = "the quick brown fox jumps over the lazy dog while seven wizards box a judge " * 4


def make(folder: Path, *, seed: int = 0, model_type: str = "llama", **config: Any) -> Path:
    """Write a tiny model to the folder, and return it."""
    logging.disable_progress_bar()
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
