"""The port `Lm` met by Triton: one model for each digest, on one or several replicas.

A call names the weights by digest, goes to the model `lm-<12 digits>` of the next replica, and is
answered with the digest that the model computed of its tensors. A replica that does not hold the
model, or holds other weights, is told to load and is not asked for them before it has; questions
travel in pieces as to the lm host, so the bits are the same.
"""

import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np

from libs.blobs.port import Blobs
from libs.errors import Corrupt
from libs.lm.port import BATCH_SIZE, PIECE, OptionScore, Question
from libs.lm.publish import Publisher
from libs.lm.triton.fleet import Fleet
from libs.lm.triton.replica import Replica, Tensors

_log = logging.getLogger(__name__)


class TritonLm:
    """An `Lm`; for use by any thread."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        blobs: Blobs,
        models: Blobs,
        key: str = "",
        num_threads: int = 2,
        timeout_s: float = 120.0,
        max_models: int = 4,
    ) -> None:
        """Talk to the replicas at `addresses`, `host:port` each.

        Args:
            blobs: where checkpoints are registered and stored.
            models: where the replicas' model repository lies.
            key: opens their repository endpoint.
            num_threads: of a model's arithmetic; other numbers give other last bits.
            timeout_s: for one piece, or one load.
            max_models: candidates that a replica holds; the one asked longest ago leaves first.
        """
        self._publisher = Publisher(
            [Replica(address, key=key) for address in addresses],
            blobs=blobs,
            models=models,
            timeout_s=timeout_s,
            max_models=max_models,
            num_threads=num_threads,
        )
        self._fleet = Fleet(self._publisher, timeout_s=timeout_s)

    def load(self, weights_digest: str) -> None:
        """Hold the weights ready on every replica; see `Lm.load`."""
        self._fleet.hold(weights_digest)

    def log_likelihood(
        self, weights_digest: str, questions: Sequence[Question]
    ) -> list[list[OptionScore]]:
        """Score every option of every question; see `Lm.log_likelihood`."""
        answers: list[list[OptionScore]] = []
        for first in range(0, len(questions), PIECE):
            piece = questions[first : first + PIECE]
            answers += _scores(self._fleet.answer(weights_digest, _asking(piece)), piece)
        return answers

    def close(self) -> None:
        """Close the channels."""
        self._publisher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _asking(questions: Sequence[Question]) -> Tensors:
    options = [option for question in questions for option in question.options]
    sizes = np.array([len(question.options) for question in questions], dtype=np.int32)
    asking = {
        "call": ["score"],
        "stems": [question.stem for question in questions],
        "num_options": sizes,
        "batch_size": np.array([BATCH_SIZE], dtype=np.int32),
    }
    # Triton takes no tensor of no elements.
    return asking | ({"options": options} if options else {})


def _scores(answer: Tensors, questions: Sequence[Question]) -> list[list[OptionScore]]:
    expected = sum(len(question.options) for question in questions)
    found = len(answer["log_likelihoods"])
    if found != expected or len(answer["num_stem_tokens_cut"]) != len(questions):
        raise Corrupt(f"expected the scores of {expected} options, got {found}")
    scores = zip(answer["log_likelihoods"].tolist(), answer["num_tokens"].tolist(), strict=True)
    return [
        [OptionScore(*next(scores), cut) for _ in question.options]
        for question, cut in zip(questions, answer["num_stem_tokens_cut"].tolist(), strict=True)
    ]
