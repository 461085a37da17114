"""The port `GenerativeLm` met by an lm host over gRPC."""

from collections.abc import Generator, Sequence
from typing import Any

from athanor.lm.v1 import lm_pb2, lm_pb2_grpc

from libs import rpc
from libs.errors import Corrupt
from libs.lm.pieces import Part, Pieces, check_digest
from libs.lm.port import BATCH_SIZE, OptionScore, Question
from libs.lm.prompts import Generated, Prompt, Sampling
from libs.lm.wire import from_piece, from_tensor, to_prompt, to_sampling, to_tensor
from libs.tls import Tls


class GrpcLm(Pieces):
    """A `GenerativeLm`; for use by any thread."""

    def __init__(self, address: str, *, timeout_s: float = 120.0, tls: Tls | None = None) -> None:
        """Talk to the host at `host:port`; `timeout_s` is for one piece, or one load."""
        self._channel = rpc.connect(address, tls=tls)
        self._stub = lm_pb2_grpc.LmServiceStub(self._channel)
        self._timeout_s = timeout_s

    def load(self, weights_digest: str) -> None:
        """Hold the weights ready; see `Lm.load`."""
        request = lm_pb2.LoadWeightsRequest(weights_digest=weights_digest)
        response = self._stub.LoadWeights(request, timeout=self._timeout_s)
        check_digest(weights_digest, response.weights_digest)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _scores(
        self, digest: str, questions: Sequence[Question], prompt: Any
    ) -> list[list[OptionScore]]:
        request = lm_pb2.ScoreOptionsRequest(
            weights_digest=digest,
            questions=[lm_pb2.Question(stem=each.stem, options=each.options) for each in questions],
            batch_size=BATCH_SIZE,
            prompt=None if prompt is None else to_tensor(prompt),
        )
        response = self._stub.ScoreOptions(request, timeout=self._timeout_s)
        check_digest(digest, response.weights_digest)
        if len(response.answers) != len(questions):
            raise Corrupt(f"expected {len(questions)} answers, got {len(response.answers)}")
        return [_answer(answer) for answer in response.answers]

    def _written(
        self, digest: str, prompts: Sequence[Prompt], sampling: Sampling, first: int
    ) -> Generator[Sequence[Generated], None, None]:
        request = lm_pb2.GenerateRequest(
            weights_digest=digest,
            prompts=map(to_prompt, prompts),
            sampling=to_sampling(sampling),
            batch_size=BATCH_SIZE,
        )
        call = self._stub.Generate(request, timeout=self._timeout_s)
        try:
            for response in call:
                check_digest(digest, response.weights_digest)
                yield [from_piece(piece, first=first) for piece in response.pieces]
        finally:
            call.cancel()  # the caller may have left before the end

    def _embedded(self, digest: str, texts: Sequence[str], normalize: bool) -> Any:
        request = lm_pb2.EmbedRequest(
            weights_digest=digest, texts=texts, normalize=normalize, batch_size=BATCH_SIZE
        )
        response = self._stub.Embed(request, timeout=self._timeout_s)
        check_digest(digest, response.weights_digest)
        return from_tensor(response.embeddings)

    def _states(
        self, digest: str, texts: Sequence[str], layers: Sequence[int], last_only: bool
    ) -> Generator[Part, None, None]:
        request = lm_pb2.ReadHiddenStatesRequest(
            weights_digest=digest,
            texts=texts,
            layers=layers,
            last_only=last_only,
            batch_size=BATCH_SIZE,
        )
        for response in self._stub.ReadHiddenStates(request, timeout=self._timeout_s):
            check_digest(digest, response.weights_digest)
            yield Part(from_tensor(response.states), response.num_tokens_left == 0)


def _answer(answer: lm_pb2.Answer) -> list[OptionScore]:
    cut = answer.num_stem_tokens_cut
    pairs = zip(answer.log_likelihoods, answer.num_tokens, strict=True)
    return [OptionScore(value, count, cut) for value, count in pairs]
