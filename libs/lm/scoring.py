"""log P(option | stem) under a causal language model, with each stem computed once.

A batch of stems is padded on the left and run once; its key-value cache is repeated for every
option, and the options, padded on the right, run on top of it. Questions are cut into batches in
the order given and nothing is sorted, so the same questions give the same bits. Torch and the
standard library only: a server that sees nothing of Athanor's tree carries a copy of this file.

Shapes: B questions of a batch, O their options in all, S the longest stem, T the longest option
less its last token, V the vocabulary.
"""

# ruff: noqa: N803, N806 - tensors carry their shape in capitals

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

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


class Encoded(NamedTuple):
    """One question as token ids; the stem has at least one, so has every option."""

    stem: list[int]
    options: list[list[int]]
    num_stem_tokens_cut: int


class UnscorableError(ValueError):
    """A question that no batch could hold: no options, or an option beyond the context."""


def score(
    model: Any, tokenizer: Any, questions: Sequence[tuple[str, Sequence[str]]], batch_size: int
) -> Iterator[Scores]:
    """Yield the scores of each (stem, options) pair, in the order given.

    Args:
        model: a transformers causal LM in `eval` mode; log-probabilities are taken in float32 and
            summed in float64.
        tokenizer: its tokenizer. A stem is given the special tokens that it puts before a text.
        batch_size: questions in a batch; another one may change the last bits.

    Raises:
        UnscorableError: a question without options, an empty option, or one longer than the
            context. Raised before anything is computed.
    """
    limit = context_length(model)
    prefix = _prefix(tokenizer)
    encoded = [_encode(tokenizer, prefix, stem, options, limit) for stem, options in questions]
    batched = _has_attention_cache(model)
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
        sequence = torch.tensor([question.stem + option], device=model.device)
        with torch.inference_mode():
            logits_TV = model(input_ids=sequence[:, :-1], use_cache=False).logits[0]
        log_probs = _log_probs(logits_TV[len(question.stem) - 1 :], option)
        scores.append(Score(sum(log_probs), len(option)))
    return Scores(scores, question.num_stem_tokens_cut)


def context_length(model: Any) -> int:
    """Return the positions that the model was made for; a large number when it names none."""
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    return limit if limit and limit > 0 else 1 << 30


def encode(model: Any, tokenizer: Any, stem: str, options: Sequence[str]) -> Encoded:
    """Turn one question into token ids, its stem cut on the left. Raises as `score`."""
    return _encode(tokenizer, _prefix(tokenizer), stem, options, context_length(model))


def _prefix(tokenizer: Any) -> list[int]:
    """Return the tokens before every text: the tokenizer's own."""
    return list(tokenizer("")["input_ids"])


def _encode(
    tokenizer: Any, prefix: list[int], stem: str, options: Sequence[str], limit: int
) -> Encoded:
    if not options:
        raise UnscorableError(f"a question needs options, got none after {stem[:40]!r}")
    option_ids = [_tokens(tokenizer, option) for option in options]
    for option, ids in zip(options, option_ids, strict=True):
        if not 0 < len(ids) <= limit:
            raise UnscorableError(
                f"an option must have 1 to {limit} tokens, got {len(ids)} in {option[:40]!r}"
            )
    stem_ids = _tokens(tokenizer, stem)
    # The last token of an option is predicted but never read, so it needs no position.
    room = limit - max(map(len, option_ids)) + 1
    kept_prefix = prefix[:room]
    num_cut = max(0, len(stem_ids) - (room - len(kept_prefix)))
    start = (kept_prefix + stem_ids[num_cut:]) or [_separator(tokenizer)]
    return Encoded(start, option_ids, num_cut)


def _tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _separator(tokenizer: Any) -> int:
    """Return what stands before a text where nothing does: a beginning, or an end of another."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise UnscorableError("an empty stem needs a tokenizer with a bos or eos token, got none")


def _has_attention_cache(model: Any) -> bool:
    """Tell whether the model's whole state is keys and values, which can be padded and repeated."""
    if getattr(model, "_is_stateful", False):
        return False
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or []
    return all(kind in ("full_attention", "sliding_attention") for kind in kinds)


def _score_batch(model: Any, batch: Sequence[Encoded]) -> list[Scores]:
    rows = [row for row, question in enumerate(batch) for _ in question.options]
    options = [option for question in batch for option in question.options]
    with torch.inference_mode():
        first_BV, cache, mask_BS = _run_stems(model, [question.stem for question in batch])
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
    return [
        Scores([next(scores) for _ in question.options], question.num_stem_tokens_cut)
        for question in batch
    ]


def _run_stems(model: Any, stems: Sequence[list[int]]) -> tuple[torch.Tensor, Any, torch.Tensor]:
    """Return logits after each stem (B, V), the cache, and the mask of real tokens (B, S)."""
    width = max(map(len, stems))
    ids_BS = torch.tensor([[0] * (width - len(stem)) + stem for stem in stems])
    mask_BS = torch.tensor([[0] * (width - len(stem)) + [1] * len(stem) for stem in stems])
    positions_BS = (mask_BS.cumsum(1) - 1).clamp(min=0)
    output = _forward(model, ids_BS, mask_BS, positions_BS, logits_to_keep=1)
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
    logits_OTV: torch.Tensor = _forward(
        model, ids_OT, mask, positions_OT, past_key_values=cache
    ).logits
    return logits_OTV


def _forward(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, **more: Any
) -> Any:
    takes = inspect.signature(model.forward).parameters
    wished = more | {"position_ids": positions.to(model.device)}
    given = {name: value for name, value in wished.items() if name in takes}
    return model(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        use_cache=True,
        **given,
    )


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
