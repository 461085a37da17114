"""The port `GenerativeLm` met by an lm host over gRPC.

Questions travel in pieces, so that no call outlives its deadline and a long exam can be stopped
between two; the pieces are whole batches, so cutting changes no bit of an answer.
"""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from athanor.lm.v1 import lm_pb2, lm_pb2_grpc

from libs import rpc, telemetry
from libs.errors import Corrupt
from libs.lm.port import BATCH_SIZE, PIECE, OptionScore, Question
from libs.lm.prompts import Generated, Prompt, Sampling
from libs.lm.wire import from_piece, from_tensor, to_prompt, to_sampling, to_tensor
from libs.tls import Tls


class GrpcLm:
    """A `GenerativeLm`; for use by any thread."""

    def __init__(self, address: str, *, timeout_s: float = 120.0, tls: Tls | None = None) -> None:
        """Talk to the host at `host:port`; `timeout_s` is for one piece, or one load.

        A piece is 64 questions or texts to embed, else 32 prompts or texts.
        """
        self._channel = rpc.connect(address, tls=tls)
        self._stub = lm_pb2_grpc.LmServiceStub(self._channel)
        self._timeout_s = timeout_s

    def load(self, weights_digest: str) -> None:
        """Hold the weights ready; see `Lm.load`."""
        request = lm_pb2.LoadWeightsRequest(weights_digest=weights_digest)
        response = self._stub.LoadWeights(request, timeout=self._timeout_s)
        _check(weights_digest, response.weights_digest)

    def log_likelihood(
        self, weights_digest: str, questions: Sequence[Question], *, prompt: Any = None
    ) -> list[list[OptionScore]]:
        """Score every option of every question; see `GenerativeLm.log_likelihood`."""
        answers: list[list[OptionScore]] = []
        for first in range(0, len(questions), PIECE):
            answers += self._piece(weights_digest, questions[first : first + PIECE], prompt)
        return answers

    def generate(
        self, weights_digest: str, prompts: Sequence[Prompt], sampling: Sampling
    ) -> Iterator[Generated]:
        """Write on after prompts; see `GenerativeLm.generate`."""
        for first in range(0, len(prompts), BATCH_SIZE):
            request = lm_pb2.GenerateRequest(
                weights_digest=weights_digest,
                prompts=map(to_prompt, prompts[first : first + BATCH_SIZE]),
                sampling=to_sampling(sampling),
                batch_size=BATCH_SIZE,
            )
            yield from self._written(request, first)

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
            request = lm_pb2.ReadHiddenStatesRequest(
                weights_digest=weights_digest,
                texts=texts[first : first + BATCH_SIZE],
                layers=layers,
                last_only=last_only,
                batch_size=BATCH_SIZE,
            )
            found += self._read(request)
        return found

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _piece(
        self, digest: str, questions: Sequence[Question], prompt: Any
    ) -> list[list[OptionScore]]:
        request = lm_pb2.ScoreOptionsRequest(
            weights_digest=digest,
            questions=[lm_pb2.Question(stem=each.stem, options=each.options) for each in questions],
            batch_size=BATCH_SIZE,
            prompt=None if prompt is None else to_tensor(prompt),
        )
        response = self._stub.ScoreOptions(request, timeout=self._timeout_s)
        _check(digest, response.weights_digest)
        if len(response.answers) != len(questions):
            raise Corrupt(f"expected {len(questions)} answers, got {len(response.answers)}")
        return [_scores(answer) for answer in response.answers]

    def _written(self, request: lm_pb2.GenerateRequest, first: int) -> Iterator[Generated]:
        num_open = len(request.prompts)
        call = self._stub.Generate(request, timeout=self._timeout_s)
        try:
            for response in call:
                _check(request.weights_digest, response.weights_digest)
                pieces = [from_piece(piece, first=first) for piece in response.pieces]
                num_open -= sum(piece.finish is not None for piece in pieces)
                yield from pieces
        finally:
            call.cancel()  # the caller may have left before the end
        if num_open:
            raise Corrupt(f"expected {len(request.prompts)} prompts to end, {num_open} did not")

    def _embedded(self, digest: str, texts: Sequence[str], normalize: bool) -> Any:
        request = lm_pb2.EmbedRequest(
            weights_digest=digest, texts=texts, normalize=normalize, batch_size=BATCH_SIZE
        )
        response = self._stub.Embed(request, timeout=self._timeout_s)
        _check(digest, response.weights_digest)
        found = from_tensor(response.embeddings)
        if len(found) != len(texts):
            raise Corrupt(f"expected {len(texts)} embeddings, got {len(found)}")
        return found

    def _read(self, request: lm_pb2.ReadHiddenStatesRequest) -> list[Any]:
        layers: list[Any] = []
        parts: list[Any] = []
        for response in self._stub.ReadHiddenStates(request, timeout=self._timeout_s):
            _check(request.weights_digest, response.weights_digest)
            parts.append(from_tensor(response.states))
            if response.num_tokens_left == 0:
                layers.append(np.concatenate(parts))
                parts.clear()
        expected = len(request.texts) * len(request.layers)
        if parts or len(layers) != expected:
            raise Corrupt(f"expected the states of {expected} layers, got {len(layers)}")
        size = len(request.layers)
        return [np.stack(layers[first : first + size]) for first in range(0, expected, size)]


def _check(expected: str, actual: str) -> None:
    if actual != expected:
        telemetry.WEIGHTS_MISMATCHES.inc()
        raise Corrupt(f"expected an answer of weights {expected}, got one of {actual or 'none'}")


def _scores(answer: lm_pb2.Answer) -> list[OptionScore]:
    cut = answer.num_stem_tokens_cut
    pairs = zip(answer.log_likelihoods, answer.num_tokens, strict=True)
    return [OptionScore(value, count, cut) for value, count in pairs]
