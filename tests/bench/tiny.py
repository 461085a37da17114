"""The model of the benchmarks: the size that the demonstration trains, weights drawn by a seed."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

VOCABULARY, CONTEXT = 4096, 128


def model() -> Any:
    """Return a Llama of 4 layers, 192 wide, in float32."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def num_multiplied(made: Any) -> int:
    """Return the parameters that a token is multiplied with: all, the tied embedding once."""
    return sum(each.numel() for each in made.parameters())
