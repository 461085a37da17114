"""What every client of models does alike: cuts calls into pieces, and counts what comes back.

Calls travel in pieces, so that none outlives its deadline and a long exam can be stopped between
two. Pieces are whole batches and the same for every adapter, so cutting changes no bit of an
answer, whoever gives it.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from libs import telemetry
from libs.errors import Corrupt
from libs.lm.port import BATCH_SIZE, PIECE, OptionScore, Question
from libs.lm.prompts import Generated, Prompt, Sampling


class Part(NamedTuple):
    """Some tokens' states of one layer of one text."""

    states: Any
    """float32 (T, D)."""
    is_last: bool
    """Whether the layer ends with them."""


class Pieces(ABC):
    """A `GenerativeLm` but for `load`: an adapter says how one piece is asked.

    A piece is 64 questions or texts to embed, else 32 prompts or texts. Leaving the block closes.
    """

    def log_likelihood(
        self, weights_digest: str, questions: Sequence[Question], *, prompt: Any = None
    ) -> list[list[OptionScore]]:
        """Score every option of every question; see `GenerativeLm.log_likelihood`."""
        answers: list[list[OptionScore]] = []
        for first in range(0, len(questions), PIECE):
            answers += self._scores(weights_digest, questions[first : first + PIECE], prompt)
        return answers

    def generate(
        self, weights_digest: str, prompts: Sequence[Prompt], sampling: Sampling
    ) -> Iterator[Generated]:
        """Write on after prompts; see `GenerativeLm.generate`."""
        for first in range(0, len(prompts), BATCH_SIZE):
            batch = prompts[first : first + BATCH_SIZE]
            num_open = len(batch)
            with closing(self._written(weights_digest, batch, sampling, first)) as answers:
                for pieces in answers:
                    num_open -= sum(piece.finish is not None for piece in pieces)
                    yield from pieces
            if num_open:
                raise Corrupt(f"expected {len(batch)} prompts to end, {num_open} did not")

    def embed(self, weights_digest: str, texts: Sequence[str], *, normalize: bool = False) -> Any:
        """Embed texts; see `GenerativeLm.embed`."""
        found = []
        for first in range(0, len(texts), PIECE):
            piece = texts[first : first + PIECE]
            found.append(self._embedded(weights_digest, piece, normalize))
            if len(found[-1]) != len(piece):
                raise Corrupt(f"expected {len(piece)} embeddings, got {len(found[-1])}")
        return np.concatenate(found) if found else np.empty((0, 0), dtype=np.float32)

    def hidden_states(
        self,
        weights_digest: str,
        texts: Sequence[str],
        *,
        layers: Sequence[int],
        last_only: bool = False,
    ) -> list[Any]:
        """Show the states of layers; see `GenerativeLm.hidden_states`."""
        found: list[Any] = []
        for first in range(0, len(texts), BATCH_SIZE):
            batch = texts[first : first + BATCH_SIZE]
            with closing(self._states(weights_digest, batch, layers, last_only)) as parts:
                whole = _layers(parts, expected=len(batch) * len(layers))
            size = len(layers)
            found += [np.stack(whole[at : at + size]) for at in range(0, len(whole), size)]
        return found

    @abstractmethod
    def close(self) -> None:
        """Let go of the connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def _scores(
        self, digest: str, questions: Sequence[Question], prompt: Any
    ) -> list[list[OptionScore]]:
        """Score one piece; the answer's digest is checked."""

    @abstractmethod
    def _written(
        self, digest: str, prompts: Sequence[Prompt], sampling: Sampling, first: int
    ) -> Generator[Sequence[Generated], None, None]:
        """Write on after one piece, whose prompts come `first` prompts later than in their call.

        Digests are checked; closing it ends the call.
        """

    @abstractmethod
    def _embedded(self, digest: str, texts: Sequence[str], normalize: bool) -> Any:
        """Embed one piece; the answer's digest is checked."""

    @abstractmethod
    def _states(
        self, digest: str, texts: Sequence[str], layers: Sequence[int], last_only: bool
    ) -> Generator[Part, None, None]:
        """Show one piece, layer after layer of text after text; digests are checked."""


def check_digest(expected: str, actual: str) -> None:
    """Raise `Corrupt` unless an answer is of the weights that were asked for."""
    if actual != expected:
        telemetry.WEIGHTS_MISMATCHES.inc()
        raise Corrupt(f"expected an answer of weights {expected}, got one of {actual or 'none'}")


def _layers(parts: Iterator[Part], *, expected: int) -> list[Any]:
    """Put layers together from their parts. Raises `Corrupt` if they are not as many, and whole."""
    layers: list[Any] = []
    begun: list[Any] = []
    for part in parts:
        begun.append(part.states)
        if part.is_last:
            layers.append(np.concatenate(begun))
            begun.clear()
    if begun or len(layers) != expected:
        raise Corrupt(f"expected the states of {expected} layers, got {len(layers)}")
    return layers
