"""Decoding, token by token: greedy or sampled, several prompts at a time over one key-value cache.

A prompt that has ended stays in the batch until all have: so the shapes of the products, and with
them the bits of an answer, do not depend on when its neighbours end. They do depend on how many
those are and how long; the promise is about bits at a fixed batch. Runs in a foreign server too:
see `arithmetic`.

Shapes: B prompts of a batch, S the longest of them and what was made since, V the vocabulary.
"""

# ruff: noqa: N803, N806 - tensors carry their shape in capitals

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import torch

from libs.lm.detokenize import Detokenizer
from libs.lm.forward import (
    Row,
    context_length,
    fitting,
    has_attention_cache,
    plain_inputs,
    prompt_of,
    row_of,
    run,
    run_rows,
)
from libs.lm.prompts import Finish, Generated, Prompt, Sampling, UnusableError


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    batch_size: int,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Iterator[Generated]:
    """Yield one piece for each prompt of a batch and each token, in the order they are made.

    Args:
        model: a transformers causal LM in `eval` mode.
        tokenizer: its tokenizer.
        prompts: cut into batches in this order.
        sampling: for all of them.
        batch_size: prompts in a batch; another one may change the last bits.
        is_wanted: asked before every token; once it says no, every prompt that has not ended ends
            as `Finish.CANCELLED`.

    Raises:
        UnusableError: a sampling or a prompt that cannot be; raised before anything is computed.
    """
    check_sampling(sampling)
    writings = [
        _Writing(model, tokenizer, index, prompt, sampling) for index, prompt in enumerate(prompts)
    ]
    for first in range(0, len(writings), batch_size):
        yield from _write(model, writings[first : first + batch_size], is_wanted)


def check_sampling(sampling: Sampling) -> None:
    """Raise `UnusableError` for a number out of its range, or an empty stop."""
    if sampling.max_new_tokens < 1:
        raise UnusableError(f"max_new_tokens must be at least 1, got {sampling.max_new_tokens}")
    if not 0 <= sampling.temperature < float("inf"):
        raise UnusableError(f"temperature must be 0 or more, got {sampling.temperature}")
    if sampling.top_k < 0:
        raise UnusableError(f"top_k must be 0 or more, got {sampling.top_k}")
    if not 0 < sampling.top_p <= 1:
        raise UnusableError(f"top_p must lie in (0, 1], got {sampling.top_p}")
    if "" in sampling.stop:
        raise UnusableError("a stop must be a text, got an empty one")


def draw(logits_V: torch.Tensor, sampling: Sampling, chance: torch.Generator) -> int:
    """Choose a token: one random number for each, whatever it is; none when greedy.

    Temperature, then top_k, then top_p (Holtzman et al. 2020, arXiv:1904.09751), as transformers
    does; in float64, equals in the order of their ids.
    """
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    scaled_V = logits_V.cpu().double() / sampling.temperature
    probs_V, order_V = scaled_V.softmax(0).sort(descending=True, stable=True)
    sums = probs_V[: sampling.top_k or None].cumsum(0)
    num_kept = int((sums < sampling.top_p * sums[-1]).sum()) + 1
    sums = sums[:num_kept]
    point = torch.rand((), generator=chance, dtype=torch.float64) * sums[-1]
    # A point rounded up to the whole would lie behind the last token.
    return int(order_V[min(int((sums <= point).sum()), len(sums) - 1)])


class _Writing:
    """One prompt and what has been made for it."""

    def __init__(
        self, model: Any, tokenizer: Any, index: int, prompt: Prompt, sampling: Sampling
    ) -> None:
        self.row = _row(model, tokenizer, prompt)
        self.has_ended = False
        self._index = index
        self._sampling = sampling
        self._ends_of_text = _ends_of_text(model, tokenizer)
        self._chance = torch.Generator().manual_seed(prompt.seed)
        self._text = Detokenizer(tokenizer, self.row.token_ids, sampling.stop)
        # The last token is made but never read, so it needs no position.
        room = context_length(model) - self.row.num_tokens + 1
        self._num_left = min(sampling.max_new_tokens, room)

    def add(self, logits_V: torch.Tensor) -> Generated:
        """Choose the next token."""
        token = draw(logits_V, self._sampling, self._chance)
        log_prob = float(logits_V.log_softmax(0, dtype=torch.float32)[token].double())
        self._num_left -= 1
        text = self._text.add(token)
        finish = self._finish(token)
        if finish:
            text += self._text.end()
            # What was held back may have been a stop to its last letter.
            finish = Finish.STOP if self._text.has_stopped else finish
        return self._piece((token,), text, (log_prob,), finish)

    def cancel(self) -> Generated:
        """End here."""
        return self._piece((), self._text.end(), (), Finish.CANCELLED)

    def _finish(self, token: int) -> Finish | None:
        if self._text.has_stopped or token in self._ends_of_text:
            return Finish.STOP
        return Finish.LENGTH if self._num_left == 0 else None

    def _piece(
        self,
        tokens: tuple[int, ...],
        text: str,
        log_probs: tuple[float, ...],
        finish: Finish | None,
    ) -> Generated:
        self.has_ended = finish is not None
        return Generated(
            index=self._index,
            token_ids=tokens,
            text=text,
            log_probs=log_probs,
            finish=finish,
            num_prompt_tokens=self.row.num_tokens,
        )


class _Decoder(Protocol):
    def start(self) -> torch.Tensor:
        """Return logits (B, V) after the prompts."""
        ...

    def step(self, tokens: Sequence[int | None]) -> torch.Tensor:
        """Return logits (B, V) after one token more for each prompt; None: it has ended."""
        ...


class _Cached:
    """Reads each token once, over the keys and values of those before."""

    def __init__(self, model: Any, rows: Sequence[Row]) -> None:
        self._model, self._rows = model, rows

    def start(self) -> torch.Tensor:
        with torch.inference_mode():
            output, self._mask_BS = run_rows(self._model, self._rows, logits_to_keep=1)
        return self._kept(output)

    def step(self, tokens: Sequence[int | None]) -> torch.Tensor:
        ids_B1 = torch.tensor([[token or 0] for token in tokens])
        real_B1 = torch.tensor([[int(token is not None)] for token in tokens])
        self._mask_BS = torch.cat([self._mask_BS, real_B1], dim=1)
        # One that has ended repeats its last position, so it asks for none beyond the context.
        positions_B1 = self._mask_BS.sum(1, keepdim=True) - 1
        inputs = {"input_ids": ids_B1}
        with torch.inference_mode():
            return self._kept(
                run(self._model, inputs, self._mask_BS, positions_B1, past_key_values=self._cache)
            )

    def _kept(self, output: Any) -> torch.Tensor:
        self._cache = output.past_key_values
        logits_BV: torch.Tensor = output.logits[:, -1]
        return logits_BV


class _Plain:
    """Reads everything again for each token; for models whose state cannot be padded."""

    def __init__(self, model: Any, rows: Sequence[Row]) -> None:
        self._model, self._rows = model, list(rows)
        self._logits: list[torch.Tensor] = []

    def start(self) -> torch.Tensor:
        self._logits = [self._read(row) for row in self._rows]
        return torch.stack(self._logits)

    def step(self, tokens: Sequence[int | None]) -> torch.Tensor:
        for place, token in enumerate(tokens):
            if token is not None:
                row = self._rows[place]
                self._rows[place] = row._replace(token_ids=[*row.token_ids, token])
                self._logits[place] = self._read(self._rows[place])
        return torch.stack(self._logits)

    def _read(self, row: Row) -> torch.Tensor:
        with torch.inference_mode():
            inputs = plain_inputs(self._model, row)
            logits_V: torch.Tensor = self._model(**inputs, use_cache=False).logits[0, -1]
        return logits_V


def _write(
    model: Any, batch: Sequence[_Writing], is_wanted: Callable[[], bool]
) -> Iterator[Generated]:
    kind = _Cached if has_attention_cache(model) else _Plain
    decoder: _Decoder = kind(model, [writing.row for writing in batch])
    read: Callable[[], torch.Tensor] = decoder.start
    while is_wanted():
        logits_BV = read()
        tokens: list[int | None] = [None] * len(batch)
        for place, writing in enumerate(batch):
            if not writing.has_ended:
                piece = writing.add(logits_BV[place])
                yield piece
                tokens[place] = None if piece.finish else piece.token_ids[0]
        if all(writing.has_ended for writing in batch):
            return
        read = partial(decoder.step, tokens)
    yield from (writing.cancel() for writing in batch if not writing.has_ended)


def _row(model: Any, tokenizer: Any, prompt: Prompt) -> Row:
    soft = prompt_of(model, prompt.embeddings)
    if not prompt.token_ids:
        return row_of(model, tokenizer, prompt.text, soft)
    if prompt.text:
        raise UnusableError("a prompt is a text or token ids, got both")
    size = model.get_input_embeddings().weight.shape[0]
    if not all(0 <= token < size for token in prompt.token_ids):
        raise UnusableError(f"token ids must lie in [0, {size}), got others")
    return fitting(model, Row(list(prompt.token_ids), soft))


def _ends_of_text(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end a text: those of the model's own settings, or the tokenizer's."""
    settings = getattr(model, "generation_config", None)
    found = getattr(settings, "eos_token_id", None)
    found = tokenizer.eos_token_id if found is None else found
    return frozenset(found if isinstance(found, list) else [found])
