"""A host of language models as Athanor sees it: weights are named by digest, never by alias.

Every answer carries the digest of the weights that made it, so a drift of weights is an error
and never a number.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

BATCH_SIZE = 32
"""Questions in a batch. A caller that asks in pieces whose lengths are multiples of it gets the
bits that one call gives; other lengths may change the last ones."""

PIECE = 2 * BATCH_SIZE
"""Questions in a call: a multiple of the batch size, or cutting would change batches."""


class Question(NamedTuple):
    """A stem and the texts that may follow it; options carry their own leading space."""

    stem: str
    options: tuple[str, ...]


class OptionScore(NamedTuple):
    """log P(option | stem), natural logarithm, summed over the option's tokens."""

    log_likelihood: float
    num_tokens: int
    num_stem_tokens_cut: int = 0
    """Tokens cut off the stem's left so that it and its longest option fit the context."""


class Lm(Protocol):
    """Every call may raise `Unavailable`, `Busy` or `DeadlineExceeded`."""

    def load(self, weights_digest: str) -> None:
        """Hold the weights ready and check that they have this digest.

        Raises:
            NotFound: no registered checkpoint has this digest.
            Corrupt: the stored weights have another digest than they are registered under.
        """
        ...

    def log_likelihood(
        self, weights_digest: str, questions: Sequence[Question]
    ) -> list[list[OptionScore]]:
        """Score every option of every question, in fixed batches in the order given.

        A stem too long for the model's context is cut on its left.
        The same questions in the same order give the same bits on the same kind of machine.

        Raises:
            NotFound: no registered checkpoint has this digest.
            Corrupt: the reply was made with other weights than were asked for.
            InvalidInput: a question without options, or an option that alone is longer than the
                model's context.
        """
        ...
