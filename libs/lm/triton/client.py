"""The port `Lm` met by Triton: one model for each digest, on one or several replicas.

A call names the weights by digest, goes to the model `lm-<12 digits>` of the next replica, and is
answered with the digest that the model computed of its tensors. A replica that does not hold the
model, or holds other weights, is told to load and is not asked for them before it has; questions
travel in pieces as to the lm host, so the bits are the same.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, Self

import numpy as np

from libs.blobs.port import Blobs
from libs.errors import Corrupt
from libs.lm.port import BATCH_SIZE, PIECE, OptionScore, Question
from libs.lm.prompts import Generated, Prompt, Sampling
from libs.lm.publish import Published, Publisher
from libs.lm.triton import wire
from libs.lm.triton.fleet import Fleet
from libs.lm.triton.replica import Replica, Tensors
from libs.lm.triton.repository import LIVE


class TritonLm:
    """A `GenerativeLm`; for use by any thread."""

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
        live: str = LIVE,
        tell: Callable[[Published], None] = lambda _: None,
    ) -> None:
        """Talk to the replicas at `addresses`, `host:port` each.

        Args:
            blobs: where checkpoints are registered and stored.
            models: where the replicas' model repository lies.
            key: opens their repository endpoint.
            num_threads: of a model's arithmetic; other numbers give other last bits.
            timeout_s: for one piece, or one load.
            max_models: candidates that a replica holds; the one asked longest ago leaves first.
            live: what `live` is called there; several may share one repository.
            tell: hears of each version that is published.
        """
        self.publisher = Publisher(
            [Replica(address, key=key) for address in addresses],
            blobs=blobs,
            models=models,
            timeout_s=timeout_s,
            max_models=max_models,
            num_threads=num_threads,
            live=live,
            tell=tell,
        )
        self._fleet = Fleet(self.publisher, timeout_s=timeout_s)

    def load(self, weights_digest: str) -> None:
        """Hold the weights ready on every replica; see `Lm.load`."""
        self._fleet.hold(weights_digest)

    def log_likelihood(
        self, weights_digest: str, questions: Sequence[Question], *, prompt: Any = None
    ) -> list[list[OptionScore]]:
        """Score every option of every question; see `GenerativeLm.log_likelihood`."""
        answers: list[list[OptionScore]] = []
        for first in range(0, len(questions), PIECE):
            piece = questions[first : first + PIECE]
            answer = self._fleet.answer(weights_digest, wire.to_score(piece, prompt))
            answers += wire.from_score(answer, piece)
        return answers

    def generate(
        self, weights_digest: str, prompts: Sequence[Prompt], sampling: Sampling
    ) -> Iterator[Generated]:
        """Write on after prompts; see `GenerativeLm.generate`."""
        for first in range(0, len(prompts), BATCH_SIZE):
            batch = prompts[first : first + BATCH_SIZE]
            asked = wire.to_generate(batch, sampling)
            num_open = len(batch)
            with closing(self._fleet.answers(weights_digest, asked)) as answers:
                for answer in answers:
                    pieces = wire.from_generate(answer, first=first)
                    num_open -= sum(piece.finish is not None for piece in pieces)
                    yield from pieces
            if num_open:
                raise Corrupt(f"expected {len(batch)} prompts to end, {num_open} did not")

    def embed(self, weights_digest: str, texts: Sequence[str], *, normalize: bool = False) -> Any:
        """Embed texts; see `GenerativeLm.embed`."""
        found = [
            self._embedded(weights_digest, texts[first : first + PIECE], normalize)
            for first in range(0, len(texts), PIECE)
        ]
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
            asked = wire.to_hidden_states(batch, layers, last_only=last_only)
            whole = self._layers(weights_digest, asked)
            if len(whole) != len(batch) * len(layers):
                raise Corrupt(f"expected {len(batch) * len(layers)} layers, got {len(whole)}")
            size = len(layers)
            found += [np.stack(whole[at : at + size]) for at in range(0, len(whole), size)]
        return found

    def close(self) -> None:
        """Close the channels."""
        self.publisher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _embedded(self, digest: str, texts: Sequence[str], normalize: bool) -> Any:
        answer = self._fleet.answer(digest, wire.to_embed(texts, normalize=normalize))
        found = wire.from_values(answer)
        if len(found) != len(texts):
            raise Corrupt(f"expected {len(texts)} embeddings, got {len(found)}")
        return found

    def _layers(self, digest: str, asked: Tensors) -> list[Any]:
        """Return each layer of each text, put together from its parts."""
        layers: list[Any] = []
        parts: list[Any] = []
        with closing(self._fleet.answers(digest, asked)) as answers:
            for answer in answers:
                parts.append(wire.from_values(answer))
                if not answer["num_tokens_left"].any():
                    layers.append(np.concatenate(parts))
                    parts.clear()
        return layers
