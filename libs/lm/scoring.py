"""log P(option | stem) under a causal language model, with each stem computed once.

A batch of stems is padded on the left and run once; its key-value cache is repeated for every
option, and the options, padded on the right, run on top of it. Questions are cut into batches in
the order given and nothing is sorted, so the same questions give the same bits. Runs in a foreign
server too: see `arithmetic`.

Shapes: B questions of a batch, O their options in all, S the longest stem, T the longest option
less its last token, V the vocabulary.
"""

# ruff: noqa: N803, N806 - tensors carry their shape in capitals

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from libs.lm.forward import (
    Row,
    context_length,
    has_attention_cache,
    plain_inputs,
    prompt_of,
    run,
    run_rows,
    separator,
    tokens_before,
    tokens_of,
)
from libs.lm.prompts import UnusableError

_ROWS = 128
"""Log-softmax rows at once: 2 MB of a vocabulary of 4,096. A whole batch at once leaves the cache
and takes four times as long; `logsumexp`, made of five operations, twice as long."""


class Score(NamedTuple):
    """One option: nats summed over its tokens, and how many those are."""

    log_likelihood: float
    num_tokens: int


class Scores(NamedTuple):
    """One question."""

    options: list[Score]
    num_stem_tokens_cut: int
    num_stem_tokens: int
    """Read before the options: those kept of the stem, prompt embeddings included."""


class Encoded(NamedTuple):
    """One question as token ids; every option has at least one, so has stem or prompt."""

    stem: list[int]
    options: list[list[int]]
    num_stem_tokens_cut: int
    prompt: torch.Tensor | None = None

    @property
    def start(self) -> Row:
        """What stands before every option."""
        return Row(self.stem, self.prompt)


def score(
    model: Any,
    tokenizer: Any,
    questions: Sequence[tuple[str, Sequence[str]]],
    batch_size: int,
    prompt: Any = None,
) -> Iterator[Scores]:
    """Yield the scores of each (stem, options) pair, in the order given.

    Args:
        model: a transformers causal LM in `eval` mode; log-probabilities are taken in float32 and
            summed in float64.
        tokenizer: its tokenizer. A stem is given the special tokens that it puts before a text.
        batch_size: questions in a batch; another one may change the last bits.
        prompt: embeddings (P, D) that stand before every stem, as in Black-Box Tuning.

    Raises:
        UnusableError: a question without options, an empty option, one longer than the context
            that the prompt leaves, or a prompt of another shape; before anything is computed.
    """
    encoded = encode(model, tokenizer, questions, prompt)
    batched = has_attention_cache(model)
    for first in range(0, len(encoded), batch_size):
        batch = encoded[first : first + batch_size]
        if batched:
            yield from _score_batch(model, batch)
        else:
            yield from (score_plainly(model, question) for question in batch)


def score_plainly(model: Any, question: Encoded) -> Scores:
    """Score one question by one whole forward per option, without cache and padding.

    What `score` must equal to 1e-4; used for models whose state cannot be repeated (recurrent
    and hybrid ones).
    """
    scores = []
    for option in question.options:
        whole = question.start._replace(token_ids=question.stem + option[:-1])
        with torch.inference_mode():
            logits_TV = model(**plain_inputs(model, whole), use_cache=False).logits[0]
        log_probs = _log_probs(logits_TV[question.start.num_tokens - 1 :], option)
        scores.append(Score(sum(log_probs), len(option)))
    return _scores(question, scores)


def encode(
    model: Any,
    tokenizer: Any,
    questions: Sequence[tuple[str, Sequence[str]]],
    prompt: Any = None,
) -> list[Encoded]:
    """Turn questions into token ids, stems cut on the left. Raises as `score`."""
    soft = prompt_of(model, prompt)
    limit = context_length(model) - (0 if soft is None else len(soft))
    before = tokens_before(tokenizer)
    encoded = [_encode(tokenizer, before, stem, options, limit) for stem, options in questions]
    if soft is not None:
        return [question._replace(prompt=soft) for question in encoded]
    return [each if each.stem else each._replace(stem=[separator(tokenizer)]) for each in encoded]


def _encode(
    tokenizer: Any, before: list[int], stem: str, options: Sequence[str], limit: int
) -> Encoded:
    if not options:
        raise UnusableError(f"a question needs options, got none after {stem[:40]!r}")
    option_ids = [tokens_of(tokenizer, option) for option in options]
    for option, ids in zip(options, option_ids, strict=True):
        if not 0 < len(ids) <= limit:
            raise UnusableError(
                f"an option must have 1 to {limit} tokens, got {len(ids)} in {option[:40]!r}"
            )
    stem_ids = tokens_of(tokenizer, stem)
    # The last token of an option is predicted but never read, so it needs no position.
    room = limit - max(map(len, option_ids)) + 1
    kept_before = before[:room]
    num_cut = max(0, len(stem_ids) - (room - len(kept_before)))
    return Encoded(kept_before + stem_ids[num_cut:], option_ids, num_cut)


def _score_batch(model: Any, batch: Sequence[Encoded]) -> list[Scores]:
    rows = [row for row, question in enumerate(batch) for _ in question.options]
    options = [option for question in batch for option in question.options]
    with torch.inference_mode():
        first_BV, cache, mask_BS = _run_starts(model, batch)
        firsts = [option[0] for option in options]
        sums = _log_probs(first_BV[torch.tensor(rows, device=first_BV.device)], firsts)
        if max(map(len, options)) > 1:
            rest_OTV = _run_options(model, rows, options, cache, mask_BS)
            width = rest_OTV.shape[1]
            padded = [option[1:] + [0] * (width + 1 - len(option)) for option in options]
            flat = _log_probs(rest_OTV.flatten(0, 1), [token for row in padded for token in row])
            for index, option in enumerate(options):
                sums[index] += sum(flat[index * width : index * width + len(option) - 1])
    scores = iter([Score(total, len(option)) for total, option in zip(sums, options, strict=True)])
    return [_scores(each, [next(scores) for _ in each.options]) for each in batch]


def _scores(question: Encoded, options: list[Score]) -> Scores:
    return Scores(options, question.num_stem_tokens_cut, question.start.num_tokens)


def _run_starts(model: Any, batch: Sequence[Encoded]) -> tuple[torch.Tensor, Any, torch.Tensor]:
    """Return logits before the options (B, V), the cache, and the mask of real tokens (B, S)."""
    rows = [question.start for question in batch]
    output, mask_BS = run_rows(model, rows, logits_to_keep=1)
    return output.logits[:, -1], output.past_key_values, mask_BS


def _run_options(
    model: Any, rows: list[int], options: Sequence[list[int]], cache: Any, mask_BS: torch.Tensor
) -> torch.Tensor:
    """Return logits after each token of each option but its last, shape (O, T, V)."""
    width = max(map(len, options)) - 1
    inputs = [option[:-1] for option in options]
    ids_OT = torch.tensor([ids + [0] * (width - len(ids)) for ids in inputs])
    real_OT = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in inputs])
    row_O = torch.tensor(rows)
    mask = torch.cat([mask_BS[row_O], real_OT], dim=1)
    # Padding repeats the last real position, so it asks for none beyond the context.
    positions_OT = mask.cumsum(1)[:, -width:] - 1
    cache.batch_select_indices(row_O.to(model.device))
    logits_OTV: torch.Tensor = run(
        model, {"input_ids": ids_OT}, mask, positions_OT, past_key_values=cache
    ).logits
    return logits_OTV


def _log_probs(logits_TV: torch.Tensor, tokens: list[int]) -> list[float]:
    """Return log P of `tokens`, one for each of the first rows of the logits."""
    tokens_T1 = torch.tensor(tokens, dtype=torch.long, device=logits_TV.device)[:, None]
    blocks = zip(
        torch.split(logits_TV[: len(tokens)], _ROWS), torch.split(tokens_T1, _ROWS), strict=True
    )
    picked = [
        logits_RV.log_softmax(-1, dtype=torch.float32).gather(1, tokens_R1)
        for logits_RV, tokens_R1 in blocks
    ]
    log_probs_T: list[float] = torch.cat(picked)[:, 0].double().tolist()
    return log_probs_T
