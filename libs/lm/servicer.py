"""gRPC in, gRPC out, for the lm host."""

import logging
import time

import grpc
from athanor.lm.v1 import lm_pb2, lm_pb2_grpc

from libs.errors import InvalidInput
from libs.lm import metrics
from libs.lm.host import Host
from libs.lm.port import BATCH_SIZE, OptionScore, Question

_log = logging.getLogger(__name__)


class LmServicer(lm_pb2_grpc.LmServiceServicer):
    """Failures leave as `ServiceError`; `libs.rpc` gives them their status."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def LoadWeights(
        self, request: lm_pb2.LoadWeightsRequest, context: grpc.ServicerContext
    ) -> lm_pb2.LoadWeightsResponse:
        held = self._host.load(request.weights_digest, timeout_s=context.time_remaining())
        metrics.MODELS_HELD.set(len(self._host.digests()))
        _log.info("weights %s are held", request.weights_digest[:12])
        return lm_pb2.LoadWeightsResponse(
            weights_digest=request.weights_digest, num_parameters=held.num_parameters
        )

    def ScoreOptions(
        self, request: lm_pb2.ScoreOptionsRequest, context: grpc.ServicerContext
    ) -> lm_pb2.ScoreOptionsResponse:
        if not request.questions:
            raise InvalidInput("expected questions, got none")
        started = time.perf_counter()
        with metrics.SCORING_SECONDS.time():
            answers = self._host.log_likelihood(
                request.weights_digest,
                [Question(each.stem, tuple(each.options)) for each in request.questions],
                batch_size=request.batch_size or BATCH_SIZE,
                timeout_s=context.time_remaining(),
                is_wanted=context.is_active,
            )
        metrics.MODELS_HELD.set(len(self._host.digests()))
        _count(answers, time.perf_counter() - started)
        return lm_pb2.ScoreOptionsResponse(
            weights_digest=request.weights_digest, answers=map(_answer, answers)
        )

    def ListWeights(
        self, request: lm_pb2.ListWeightsRequest, context: grpc.ServicerContext
    ) -> lm_pb2.ListWeightsResponse:
        return lm_pb2.ListWeightsResponse(weights_digests=self._host.digests())


def _count(answers: list[list[OptionScore]], took_s: float) -> None:
    num_tokens = sum(score.num_tokens for scores in answers for score in scores)
    metrics.OPTIONS_SCORED.inc(sum(map(len, answers)))
    metrics.TOKENS.labels("ScoreOptions").inc(num_tokens)
    metrics.TOKENS_PER_SECOND.labels("ScoreOptions").set(num_tokens / took_s)


def _answer(scores: list[OptionScore]) -> lm_pb2.Answer:
    return lm_pb2.Answer(
        log_likelihoods=[score.log_likelihood for score in scores],
        num_tokens=[score.num_tokens for score in scores],
        num_stem_tokens_cut=scores[0].num_stem_tokens_cut,
    )
