"""gRPC in, gRPC out, for the lm host."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import numpy as np
from athanor.lm.v1 import lm_pb2, lm_pb2_grpc

from libs.errors import InvalidInput
from libs.lm import metrics
from libs.lm.host import Call, Host
from libs.lm.port import BATCH_SIZE, OptionScore, Question
from libs.lm.wire import (
    from_prompt,
    from_sampling,
    from_tensor,
    parts,
    to_piece,
    to_tensor,
)

_log = logging.getLogger(__name__)


class LmServicer(lm_pb2_grpc.LmServiceServicer):
    """Failures leave as `ServiceError`; `libs.rpc` gives them their status."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def LoadWeights(
        self, request: lm_pb2.LoadWeightsRequest, context: grpc.ServicerContext
    ) -> lm_pb2.LoadWeightsResponse:
        held = self._host.load(request.weights_digest, timeout_s=context.time_remaining())
        _log.info("weights %s are held", request.weights_digest[:12])
        return lm_pb2.LoadWeightsResponse(
            weights_digest=request.weights_digest, num_parameters=held.num_parameters
        )

    def ScoreOptions(
        self, request: lm_pb2.ScoreOptionsRequest, context: grpc.ServicerContext
    ) -> lm_pb2.ScoreOptionsResponse:
        _check(request.questions, "questions")
        with metrics.SCORING_SECONDS.time():
            answers = self._host.log_likelihood(
                request.weights_digest,
                [Question(each.stem, tuple(each.options)) for each in request.questions],
                _call(request.batch_size, context),
                prompt=from_tensor(request.prompt) if request.HasField("prompt") else None,
            )
        return lm_pb2.ScoreOptionsResponse(
            weights_digest=request.weights_digest, answers=map(_answer, answers)
        )

    def Generate(
        self, request: lm_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> Iterator[lm_pb2.GenerateResponse]:
        _check(request.prompts, "prompts")
        for pieces in self._host.generate(
            request.weights_digest,
            [from_prompt(each) for each in request.prompts],
            from_sampling(request.sampling),
            _call(request.batch_size, context),
        ):
            yield lm_pb2.GenerateResponse(
                weights_digest=request.weights_digest, pieces=map(to_piece, pieces)
            )

    def Embed(
        self, request: lm_pb2.EmbedRequest, context: grpc.ServicerContext
    ) -> lm_pb2.EmbedResponse:
        _check(request.texts, "texts")
        vectors = self._host.embed(
            request.weights_digest,
            request.texts,
            _call(request.batch_size, context),
            normalize=request.normalize,
        )
        return lm_pb2.EmbedResponse(
            weights_digest=request.weights_digest, embeddings=to_tensor(np.stack(vectors))
        )

    def ReadHiddenStates(
        self, request: lm_pb2.ReadHiddenStatesRequest, context: grpc.ServicerContext
    ) -> Iterator[lm_pb2.ReadHiddenStatesResponse]:
        _check(request.texts, "texts")
        for found in self._host.hidden_states(
            request.weights_digest,
            request.texts,
            _call(request.batch_size, context),
            layers=request.layers,
            last_only=request.last_only,
        ):
            for states in found:
                yield from _parts(states, request.weights_digest)

    def ListWeights(
        self, request: lm_pb2.ListWeightsRequest, context: grpc.ServicerContext
    ) -> lm_pb2.ListWeightsResponse:
        return lm_pb2.ListWeightsResponse(weights_digests=self._host.digests())


def _check(asked: Sequence[Any], what: str) -> None:
    if not asked:
        raise InvalidInput(f"expected {what}, got none")


def _call(batch_size: int, context: grpc.ServicerContext) -> Call:
    return Call(
        batch_size=batch_size or BATCH_SIZE,
        timeout_s=context.time_remaining(),
        is_wanted=context.is_active,
    )


def _answer(scores: list[OptionScore]) -> lm_pb2.Answer:
    return lm_pb2.Answer(
        log_likelihoods=[score.log_likelihood for score in scores],
        num_tokens=[score.num_tokens for score in scores],
        num_stem_tokens_cut=scores[0].num_stem_tokens_cut,
    )


def _parts(states: Any, digest: str) -> Iterator[lm_pb2.ReadHiddenStatesResponse]:
    for layer in states:
        num_left = len(layer)
        for part in parts(layer):
            num_left -= len(part)
            yield lm_pb2.ReadHiddenStatesResponse(
                weights_digest=digest, states=to_tensor(part), num_tokens_left=num_left
            )
