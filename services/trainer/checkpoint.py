"""Makes, reads and writes models as Hugging Face folders. Loads torch: for the child alone."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from libs.errors import InvalidInput
from libs.lm.digest import weights_digest
from libs.lm.folder import load_model, load_tokenizer
from services.trainer import configuration, tokenizer
from services.trainer.running import Weights


def new_model(config_json: str, tokenizer_folder: Path) -> Any:
    """Return a model with weights drawn by torch's global generator, in float32.

    The vocabulary's size and the ids of the special tokens are those of the tokenizer.

    Raises:
        InvalidInput: the JSON is no configuration of a causal model that transformers ships.
    """
    end = tokenizer.end_of_text_id(tokenizer_folder)
    fields = configuration.parse(config_json) | {
        "vocab_size": tokenizer.size(tokenizer_folder),
        "eos_token_id": end,
        "bos_token_id": end,
        "pad_token_id": None,
    }
    try:
        config = AutoConfig.for_model(fields.pop("model_type"), **fields)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    except (ValueError, KeyError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise InvalidInput(f"config_json must configure a causal model, got: {error}") from error


def stored_model(folder: Path) -> Any:
    """Return a checkpoint's model in float32. Raises as `libs.lm.folder.load_model`."""
    return load_model(folder, dtype=torch.float32)


def save(model: Any, folder: Path) -> Weights:
    """Write `config.json` and `model.safetensors`, and say what they hold."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model.eval().save_pretrained(str(folder))
    return _weights(model)


def inspect(folder: Path) -> Weights:
    """Load a folder and say what it holds. Raises as `running.inspect`."""
    model = load_model(folder)
    load_tokenizer(folder)
    num_ids, num_rows = tokenizer.size(folder), model.get_input_embeddings().num_embeddings
    if num_ids > num_rows:
        raise InvalidInput(f"the tokenizer has {num_ids} ids, the model knows {num_rows}")
    return _weights(model)


def _weights(model: Any) -> Weights:
    num_parameters = sum(each.numel() for each in model.parameters())
    return Weights(digest=weights_digest(model), num_parameters=num_parameters)
