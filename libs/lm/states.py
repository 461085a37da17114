"""What a causal language model makes of a text inside: embeddings, and states of its layers.

Runs in a foreign server too: see `arithmetic`.

Shapes: B texts of a batch, T the tokens of one, L the layers asked for, D the width of the model.
"""

# ruff: noqa: N806 - tensors carry their shape in capitals

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from libs.lm.forward import Row, has_attention_cache, row_of, run_rows
from libs.lm.prompts import UnusableError


class States(NamedTuple):
    """Of one text: float32 on the CPU, and how many tokens were read for it."""

    values: torch.Tensor
    num_tokens: int


def embed(
    model: Any, tokenizer: Any, texts: Sequence[str], *, batch_size: int, normalize: bool = False
) -> Iterator[States]:
    """Yield the mean (D) over a text's tokens of the last layer's states, after the final norm.

    With `normalize` it is scaled to length 1. Raises as `hidden_states`.
    """
    for states_LTD, num_tokens in hidden_states(
        model, tokenizer, texts, layers=[-1], batch_size=batch_size
    ):
        mean_D = states_LTD[0].mean(0)
        yield States(
            torch.nn.functional.normalize(mean_D, dim=0) if normalize else mean_D, num_tokens
        )


def hidden_states(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    layers: Sequence[int],
    batch_size: int,
    last_only: bool = False,
) -> Iterator[States]:
    """Yield the states (L, T, D) of each text, with `last_only` of its last token (L, 1, D).

    Args:
        model: a transformers causal LM in `eval` mode.
        tokenizer: its tokenizer; a text gets the special tokens that it puts before one.
        texts: cut into batches in this order.
        layers: as transformers numbers them: 0 is what the first layer reads, n what the n-th one
            gives, the last one after the final norm; negative ones count from the end.
        batch_size: texts in a batch; another one may change the last bits.
        last_only: leave out all tokens but the last.

    Raises:
        UnusableError: no such layer, or a text longer than the context. Raised before anything is
            computed.
    """
    chosen = check_layers(model, layers)
    rows = [row_of(model, tokenizer, text) for text in texts]
    size = batch_size if has_attention_cache(model) else 1
    for first in range(0, len(rows), size):
        yield from _states(model, rows[first : first + size], chosen, last_only)


def check_layers(model: Any, layers: Sequence[int]) -> list[int]:
    """Return the numbers of the layers counted from the start.

    Raises:
        UnusableError: none is asked for, or one that the model has not.
    """
    count = int(model.config.get_text_config().num_hidden_layers) + 1
    if not layers or not all(-count <= layer < count for layer in layers):
        raise UnusableError(f"layers must lie in [{-count}, {count}), got {list(layers)}")
    return [layer % count for layer in layers]


def _states(
    model: Any, rows: Sequence[Row], layers: Sequence[int], last_only: bool
) -> list[States]:
    with torch.inference_mode():
        # Without the head: nobody asks for logits.
        output, _ = run_rows(model.base_model, rows, use_cache=False, output_hidden_states=True)
        states_LBSD = torch.stack([output.hidden_states[layer] for layer in layers])
    sizes = [1 if last_only else row.num_tokens for row in rows]
    return [
        States(states_LBSD[:, place, -size:].float().cpu(), row.num_tokens)
        for place, (row, size) in enumerate(zip(rows, sizes, strict=True))
    ]
