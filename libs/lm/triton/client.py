"""The port `Lm` met by Triton: one model for each digest, on one or several replicas.

A call names the weights by digest, goes to the model `lm-<12 digits>` of the next replica, and is
answered with the digest that the model computed of its tensors. A replica that does not hold the
model, or holds other weights, is told to load and is not asked for them before it has.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any

from libs.blobs.port import Blobs
from libs.lm.pieces import Part, Pieces
from libs.lm.port import OptionScore, Question
from libs.lm.prompts import Generated, Prompt, Sampling
from libs.lm.publish import Published, Publisher
from libs.lm.triton import wire
from libs.lm.triton.fleet import Fleet
from libs.lm.triton.replica import Replica
from libs.lm.triton.repository import LIVE


class TritonLm(Pieces):
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

    def close(self) -> None:
        """Close the channels."""
        self.publisher.close()

    def _scores(
        self, digest: str, questions: Sequence[Question], prompt: Any
    ) -> list[list[OptionScore]]:
        answer = self._fleet.answer(digest, wire.to_score(questions, prompt))
        return wire.from_score(answer, questions)

    def _written(
        self, digest: str, prompts: Sequence[Prompt], sampling: Sampling, first: int
    ) -> Generator[Sequence[Generated], None, None]:
        asked = wire.to_generate(prompts, sampling)
        with closing(self._fleet.answers(digest, asked)) as answers:
            for answer in answers:
                yield wire.from_generate(answer, first=first)

    def _embedded(self, digest: str, texts: Sequence[str], normalize: bool) -> Any:
        answer = self._fleet.answer(digest, wire.to_embed(texts, normalize=normalize))
        return wire.from_values(answer)

    def _states(
        self, digest: str, texts: Sequence[str], layers: Sequence[int], last_only: bool
    ) -> Generator[Part, None, None]:
        asked = wire.to_hidden_states(texts, layers, last_only=last_only)
        with closing(self._fleet.answers(digest, asked)) as answers:
            for answer in answers:
                yield Part(wire.from_values(answer), not answer["num_tokens_left"].any())
