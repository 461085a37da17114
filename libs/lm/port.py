"""A host of language models as Athanor sees it: weights are named by digest, never by alias.

Every answer carries the digest of the weights that made it, so a drift of weights is an error
and never a number.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from libs.lm.prompts import Generated, Prompt, Sampling

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


class GenerativeLm(Lm, Protocol):
    """An `Lm` that also writes, and shows what it computes inside.

    Beside its own, every call raises what `Lm.log_likelihood` raises for weights.
    """

    def log_likelihood(
        self, weights_digest: str, questions: Sequence[Question], *, prompt: Any = None
    ) -> list[list[OptionScore]]:
        """Score as `Lm` does, after prompt embeddings: float32 (P, D), one array for all questions.

        Raises:
            InvalidInput: also for a prompt that is no such array.
        """
        ...

    def generate(
        self, weights_digest: str, prompts: Sequence[Prompt], sampling: Sampling
    ) -> Iterator[Generated]:
        """Yield what is made for each prompt as it is made; `prompts.joined` puts it together.

        In fixed batches in the order given; the same prompts in the same order give the same bits
        on the same kind of machine. Nothing is computed before the first piece is asked for;
        closing the iterator stops the host within a token.

        Raises:
            InvalidInput: a prompt longer than the model's context, or a sampling that cannot be.
        """
        ...

    def embed(self, weights_digest: str, texts: Sequence[str], *, normalize: bool = False) -> Any:
        """Return float32 (N, D): the mean over each text's tokens of the last layer's states.

        After the final norm; with `normalize` each is scaled to length 1; in fixed batches.

        Raises:
            InvalidInput: a text longer than the model's context.
        """
        ...

    def hidden_states(
        self,
        weights_digest: str,
        texts: Sequence[str],
        *,
        layers: Sequence[int],
        last_only: bool = False,
    ) -> list[Any]:
        """Return float32 (L, T, D) for each text, with `last_only` of its last token (L, 1, D).

        Layers as transformers numbers them: 0 is what the first one reads, -1 the last one after
        the final norm; in fixed batches.

        Raises:
            InvalidInput: a text longer than the model's context, or no such layer.
        """
        ...
