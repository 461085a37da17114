"""The port `Lm` met by an lm host over gRPC.

Questions travel in pieces, so that no call outlives its deadline and a long exam can be stopped
between two; the pieces are whole batches, so cutting changes no bit of an answer.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from athanor.lm.v1 import lm_pb2, lm_pb2_grpc

from libs import rpc, telemetry
from libs.errors import Corrupt
from libs.lm.port import BATCH_SIZE, PIECE, OptionScore, Question
from libs.tls import Tls


class GrpcLm:
    """An `Lm`; for use by any thread."""

    def __init__(self, address: str, *, timeout_s: float = 120.0, tls: Tls | None = None) -> None:
        """Talk to the host at `host:port`; `timeout_s` is for one piece, or one load."""
        self._channel = rpc.connect(address, tls=tls)
        self._stub = lm_pb2_grpc.LmServiceStub(self._channel)
        self._timeout_s = timeout_s

    def load(self, weights_digest: str) -> None:
        """Hold the weights ready; see `Lm.load`."""
        request = lm_pb2.LoadWeightsRequest(weights_digest=weights_digest)
        response = self._stub.LoadWeights(request, timeout=self._timeout_s)
        _check(weights_digest, response.weights_digest)

    def log_likelihood(
        self, weights_digest: str, questions: Sequence[Question]
    ) -> list[list[OptionScore]]:
        """Score every option of every question; see `Lm.log_likelihood`."""
        answers: list[list[OptionScore]] = []
        for first in range(0, len(questions), PIECE):
            answers += self._piece(weights_digest, questions[first : first + PIECE])
        return answers

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

    def _piece(self, digest: str, questions: Sequence[Question]) -> list[list[OptionScore]]:
        request = lm_pb2.ScoreOptionsRequest(
            weights_digest=digest,
            questions=[lm_pb2.Question(stem=each.stem, options=each.options) for each in questions],
            batch_size=BATCH_SIZE,
        )
        response = self._stub.ScoreOptions(request, timeout=self._timeout_s)
        _check(digest, response.weights_digest)
        if len(response.answers) != len(questions):
            raise Corrupt(f"expected {len(questions)} answers, got {len(response.answers)}")
        return [_scores(answer) for answer in response.answers]


def _check(expected: str, actual: str) -> None:
    if actual != expected:
        telemetry.WEIGHTS_MISMATCHES.inc()
        raise Corrupt(f"expected an answer of weights {expected}, got one of {actual or 'none'}")


def _scores(answer: lm_pb2.Answer) -> list[OptionScore]:
    cut = answer.num_stem_tokens_cut
    pairs = zip(answer.log_likelihoods, answer.num_tokens, strict=True)
    return [OptionScore(value, count, cut) for value, count in pairs]
