"""Scoring of options beside a plain transformers loop over whole sequences.

The peer is what evaluation harnesses do: every option behind its whole stem, padded to the longest
of as many sequences as ours has in a batch, log-softmax over all positions. Ours runs a stem once
for its options; with stems of 60 tokens and four options of 20 that saves up to half of the work.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from libs.lm import scoring
from libs.lm.port import BATCH_SIZE
from tests.bench import environment, limits, tiny
from tests.bench.measure import interleaved, rate
from tests.bench.table import Row

_OPTIONS = 4
_CLOSE = 1e-4

Questions = list[tuple[str, list[str]]]


def run(quick: bool) -> list[Row]:
    num_questions, repeats = (64, 2) if quick else (256, 7)
    torch.set_num_threads(environment.num_threads())
    model, questions = tiny.model().eval(), _questions(num_questions)
    far = np.abs(np.subtract(_ours(model, questions), _peer(model, questions))).max()
    figures = interleaved(
        {
            "ours": rate(lambda: _ours(model, questions), num_questions),
            "peer": rate(lambda: _peer(model, questions), num_questions),
        },
        repeats=repeats,
    )
    ratio = figures["ours"].median / figures["peer"].median
    num_tokens = sum(_cost(stem, options) for stem, options in questions) / num_questions
    flops = 2 * tiny.num_multiplied(model) * num_tokens
    return [
        Row(
            benchmark="option scoring",
            unit="questions/s",
            peer_name="transformers, whole sequences, padded batches",
            limit=limits.exactly(limits.torch_flops() / flops),
            limit_name="its products of matrices alone",
            goal="1.5 times as fast, answers within 1e-4",
            met=bool(ratio >= 1.5 and far <= _CLOSE),
            threads=environment.num_threads(),
            notes=(
                f"{num_questions} questions, stems of 40 to 80 tokens, {_OPTIONS} options of 15 to "
                f"25; answers differ by {far:.1e} nats at most"
            ),
            **figures,
        )
    ]


def _ours(model: Any, questions: Questions) -> list[list[float]]:
    # As the host does: deterministic algorithms for ours, not for the peer.
    torch.use_deterministic_algorithms(True)
    answers = scoring.score(model, _Numbers(), questions, BATCH_SIZE)
    sums = [[option.log_likelihood for option in each.options] for each in answers]
    torch.use_deterministic_algorithms(False)
    return sums


def _peer(model: Any, questions: Questions) -> list[list[float]]:
    pairs = [(stem, option) for stem, options in questions for option in options]
    size = BATCH_SIZE * _OPTIONS
    batches = [pairs[first : first + size] for first in range(0, len(pairs), size)]
    sums = [total for batch in batches for total in _peer_batch(model, batch)]
    return np.reshape(sums, (-1, _OPTIONS)).tolist()


def _peer_batch(model: Any, pairs: Sequence[tuple[str, str]]) -> list[float]:
    stems, options = ([_ids(text) for text in texts] for texts in zip(*pairs, strict=True))
    whole = [torch.tensor(stem + option) for stem, option in zip(stems, options, strict=True)]
    ids = torch.nn.utils.rnn.pad_sequence(whole, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in whole], True)
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        log_probs = torch.log_softmax(logits[:, :-1], dim=-1)
        of_next = log_probs.gather(2, ids[:, 1:, None])[..., 0].double()
    return [
        float(row[len(stem) - 1 : len(stem) - 1 + len(option)].sum())
        for row, stem, option in zip(of_next, stems, options, strict=True)
    ]


def _cost(stem: str, options: Sequence[str]) -> int:
    """Count the tokens that must be run at least: the stem, and each option but its last."""
    return len(_ids(stem)) + sum(len(_ids(option)) - 1 for option in options)


def _questions(count: int) -> Questions:
    rng = np.random.default_rng(0)

    def text(low: int, high: int) -> str:
        return " ".join(map(str, rng.integers(tiny.VOCABULARY, size=rng.integers(low, high + 1))))

    return [(text(40, 80), [text(15, 25) for _ in range(_OPTIONS)]) for _ in range(count)]


def _ids(text: str) -> list[int]:
    return [int(word) for word in text.split()]


class _Numbers:
    """A tokenizer whose texts are token ids: both sides pay nothing for cutting text."""

    bos_token_id = eos_token_id = 0

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": _ids(text)}
