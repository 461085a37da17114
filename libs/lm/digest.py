"""The digest of a model's weights, taken over the state dict and not over files.

So shards, file formats and servers can be compared: whoever holds the same tensors under the same
names gets the same digest. Torch and the standard library only: a server that sees nothing of
Athanor's tree carries a copy of this file.
"""

import ctypes
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch


def weights_digest(model: torch.nn.Module) -> str:
    """Digest an instantiated model, after tying: 64 hexadecimal digits.

    sha256 over, for each tensor of the state dict by sorted name, a line of JSON with its name,
    dtype and shape, then its little-endian bytes. A tensor that several names share counts once,
    under the first of its names.
    """
    digest = hashlib.sha256()
    seen: set[tuple[int, int, torch.Size, tuple[int, ...], torch.dtype]] = set()
    for name, tensor in sorted(model.state_dict().items()):
        place = (
            tensor.untyped_storage().data_ptr(),
            tensor.storage_offset(),
            tensor.shape,
            tensor.stride(),
            tensor.dtype,
        )
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        header = [name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        digest.update(json.dumps(header).encode() + b"\n")
        _update(digest, tensor)
    return digest.hexdigest()


def folder_digest(folder: Path) -> str:
    """Digest a folder in the Hugging Face layout by loading it, in the dtype it is stored in.

    Raises what `from_pretrained` raises for a folder it cannot read.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False, dtype="auto"
    )
    return weights_digest(model)


def _update(digest: Any, tensor: torch.Tensor) -> None:
    plain = tensor.detach().cpu().contiguous()
    if sys.byteorder == "big":
        plain = plain.reshape(-1).view(torch.uint8).reshape(-1, plain.element_size()).flip(1)
        plain = plain.contiguous()
    size_bytes = plain.numel() * plain.element_size()
    if size_bytes:  # a view, not a copy: weights are large
        digest.update((ctypes.c_char * size_bytes).from_address(plain.data_ptr()))
