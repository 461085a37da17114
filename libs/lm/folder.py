"""Reads a local folder in the Hugging Face layout, and says what is wrong with it in our errors.

Only safetensors, only code that transformers ships, and never the network: a checkpoint is data,
and loading it runs nothing that came with it.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from libs.errors import Corrupt, InvalidInput


def load_config(folder: Path) -> Any:
    """Return the transformers configuration of the folder.

    Raises:
        InvalidInput: there is none, or it is of no architecture that transformers ships.
    """
    if not (folder / "config.json").is_file():
        raise InvalidInput(f"a checkpoint needs config.json, {folder.name} has none")
    try:
        return AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise InvalidInput(f"config.json must name a known architecture, got: {error}") from error


def load_model(folder: Path, *, dtype: torch.dtype | None = None) -> Any:
    """Return the model in `eval` mode, in `dtype` or, without one, as it is stored.

    Raises:
        Corrupt: a file is truncated, or tensors are missing or of another shape than the
            configuration asks for.
        InvalidInput: no configuration, no safetensors, or no causal model.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    config = load_config(folder)
    check_safetensors(folder)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(folder),
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype or "auto",
            output_loading_info=True,
        )
    except (SafetensorError, RuntimeError, OSError) as error:
        raise Corrupt(f"weights must fit config.json, got: {error}") from error
    except ValueError as error:
        raise InvalidInput(f"expected a causal language model, got: {error}") from error
    model, loading = loaded
    if missing := sorted(loading["missing_keys"]):
        raise Corrupt(f"weights lack {len(missing)} tensors, the first {missing[0]}")
    return model.eval()


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer. Raises `InvalidInput` when the folder has none that loads."""
    try:
        return AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise InvalidInput(f"{folder.name} needs a tokenizer, got: {error}") from error


def check_safetensors(folder: Path) -> None:
    """Check that every weights file is whole: its header, and as many bytes as that names.

    Raises:
        InvalidInput: there is no `*.safetensors`.
        Corrupt: a file is truncated, or the index names a file that is absent.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InvalidInput(f"a checkpoint needs *.safetensors, {folder.name} has none")
    for file in files:
        try:
            with safe_open(str(file), framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise Corrupt(f"{file.name} is truncated or no safetensors: {error}") from error
    for index in folder.glob("*.safetensors.index.json"):
        try:
            named = set(json.loads(index.read_bytes())["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise Corrupt(f"{index.name} is no index of weights: {error}") from error
        if absent := sorted(named - {file.name for file in files}):
            raise Corrupt(f"{index.name} names {absent[0]}, which is absent")
