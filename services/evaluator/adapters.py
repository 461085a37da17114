"""The fake of the one thing that the evaluator needs from outside: a host of language models.

The real one is `libs.lm.client.GrpcLm`.
"""

from collections.abc import Callable, Mapping, Sequence

from libs.errors import NotFound
from libs.lm.port import OptionScore, Question

Answer = Callable[[Question], int]
"""Chooses an option of a question, by its index."""


class FakeLm:
    """An `Lm` that answers as told: the chosen option is the likeliest per token."""

    def __init__(self, answer_by_digest: Mapping[str, Answer]) -> None:
        """Know a model for each digest."""
        self._answer_by_digest = answer_by_digest
        self.batches: list[int] = []
        """Questions of every call so far."""

    def load(self, weights_digest: str) -> None:
        """Do nothing for known weights. Raises `NotFound` for others."""
        self._answer(weights_digest)

    def log_likelihood(
        self, weights_digest: str, questions: Sequence[Question]
    ) -> list[list[OptionScore]]:
        """Give the chosen option -1 nat a character and the others -2. Raises `NotFound`."""
        answer = self._answer(weights_digest)
        self.batches.append(len(questions))
        return [_scores(question, answer(question)) for question in questions]

    def _answer(self, weights_digest: str) -> Answer:
        if weights_digest not in self._answer_by_digest:
            raise NotFound(f"no checkpoint is registered with weights {weights_digest}")
        return self._answer_by_digest[weights_digest]


def _scores(question: Question, chosen: int) -> list[OptionScore]:
    lengths = [len(option) for option in question.options]
    return [
        OptionScore(-length * (1.0 if place == chosen else 2.0), length)
        for place, length in enumerate(lengths)
    ]
