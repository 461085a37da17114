"""What all arithmetic on a causal language model shares: its limits, its tokens, one forward.

Rows of a batch are padded on their left, with positions that count real tokens only, so a row's
last token is the batch's last column. Runs in a foreign server too: see `arithmetic`.

Shapes: B rows of a batch, S the longest row with its prompt, P a prompt's embeddings, D the width
of the model.
"""

# ruff: noqa: N806 - tensors carry their shape in capitals

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from libs.lm.prompts import UnusableError


class Row(NamedTuple):
    """Token ids, after prompt embeddings (P, D) if there are any; at least one of both."""

    token_ids: list[int]
    prompt: torch.Tensor | None = None

    @property
    def num_tokens(self) -> int:
        """Positions that the row takes."""
        return len(self.token_ids) + (0 if self.prompt is None else len(self.prompt))


def context_length(model: Any) -> int:
    """Return the positions that the model was made for; a large number when it names none."""
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    return limit if limit and limit > 0 else 1 << 30


def has_attention_cache(model: Any) -> bool:
    """Tell whether the model's whole state is keys and values, which can be padded and repeated."""
    if getattr(model, "_is_stateful", False):
        return False
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or []
    return all(kind in ("full_attention", "sliding_attention") for kind in kinds)


def tokens_before(tokenizer: Any) -> list[int]:
    """Return the tokens before every text: the tokenizer's own."""
    return list(tokenizer("")["input_ids"])


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a text alone."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def separator(tokenizer: Any) -> int:
    """Return what stands before a text where nothing does: a beginning, or an end of another.

    Raises:
        UnusableError: the tokenizer has neither.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise UnusableError("an empty text needs a tokenizer with a bos or eos token, got none")


def row_of(model: Any, tokenizer: Any, text: str, prompt: torch.Tensor | None = None) -> Row:
    """Return a whole text as a row: the tokenizer's own tokens before it, and never empty.

    Raises:
        UnusableError: it is longer than the model's context.
    """
    ids = tokens_before(tokenizer) + tokens_of(tokenizer, text)
    if not ids and prompt is None:
        ids = [separator(tokenizer)]
    return fitting(model, Row(ids, prompt))


def fitting(model: Any, row: Row) -> Row:
    """Return the row. Raises `UnusableError` if the model's context does not hold it."""
    limit = context_length(model)
    if row.num_tokens > limit:
        raise UnusableError(f"expected at most {limit} tokens, got {row.num_tokens}")
    return row


def prompt_of(model: Any, embeddings: Any) -> torch.Tensor | None:
    """Return prompt embeddings (P, D) as a tensor of the model's device; None for none.

    Raises:
        UnusableError: another shape, or a value that is no finite number.
    """
    if embeddings is None:
        return None
    width = model.get_input_embeddings().weight.shape[1]
    values = np.array(embeddings, dtype=np.float32)
    if values.ndim != 2 or values.shape[1] != width or not len(values):
        raise UnusableError(
            f"prompt embeddings must have the shape (1 or more, {width}), got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise UnusableError("prompt embeddings must be finite numbers, got others")
    return torch.from_numpy(values).to(model.device)


def run_rows(model: Any, rows: Sequence[Row], **more: Any) -> tuple[Any, torch.Tensor]:
    """Run rows padded on the left; return the output, and the mask of real tokens (B, S)."""
    width = max(row.num_tokens for row in rows)
    mask_BS = torch.tensor([[0] * (width - row.num_tokens) + [1] * row.num_tokens for row in rows])
    positions_BS = (mask_BS.cumsum(1) - 1).clamp(min=0)
    return run(model, _inputs(model, rows, width), mask_BS, positions_BS, **more), mask_BS


def run(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    mask: torch.Tensor,
    positions: torch.Tensor,
    **more: Any,
) -> Any:
    """Run the model once, with those of the wished arguments that its `forward` takes."""
    takes = _arguments(model.__class__)
    wished = {"use_cache": True, **more, "position_ids": positions.to(model.device)}
    given = {name: value for name, value in wished.items() if name in takes}
    moved = {name: tensor.to(model.device) for name, tensor in inputs.items()}
    return model(**moved, attention_mask=mask.to(model.device), **given)


@cache
def _arguments(kind: Any) -> frozenset[str]:
    # Every model gives hidden states when asked, though few name it among their arguments.
    return frozenset({*inspect.signature(kind.forward).parameters, "output_hidden_states"})


def plain_inputs(model: Any, row: Row) -> dict[str, torch.Tensor]:
    """Return the one input of a batch of one row, for a forward without mask and padding."""
    inputs = _inputs(model, [row], row.num_tokens)
    return {name: tensor.to(model.device) for name, tensor in inputs.items()}


def _inputs(model: Any, rows: Sequence[Row], width: int) -> dict[str, torch.Tensor]:
    ids_BS = torch.tensor([[0] * (width - len(row.token_ids)) + row.token_ids for row in rows])
    if all(row.prompt is None for row in rows):
        return {"input_ids": ids_BS}
    with torch.inference_mode():
        embeddings_BSD = model.get_input_embeddings()(ids_BS.to(model.device)).clone()
        for place, row in enumerate(rows):
            if row.prompt is not None:
                start = width - row.num_tokens
                embeddings_BSD[place, start : start + len(row.prompt)] = row.prompt
    return {"inputs_embeds": embeddings_BSD}
