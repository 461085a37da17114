"""Join the evaluator's parts. Adapters come in as arguments; `__main__` chooses them."""

from functools import partial

from athanor.evaluator.v1 import evaluator_pb2_grpc

from libs.blobs.port import Blobs
from libs.bus.port import Bus
from libs.clock import Clock
from libs.lm.port import Lm
from libs.operations.servicer import LongCalls
from libs.service import Service, build_service
from services.evaluator.config import Config
from services.evaluator.servicer import EvaluatorServicer
from services.evaluator.topics import TOPICS
from services.evaluator.worker import steps


def build(config: Config, *, blobs: Blobs, bus: Bus, clock: Clock, lm: Lm) -> Service:
    """Return the evaluator, bound to its port and not started."""
    calls = LongCalls(
        "evaluator", steps=steps(blobs=blobs, bus=bus, lm=lm), blobs=blobs, bus=bus, clock=clock
    )
    servicer = EvaluatorServicer(calls, blobs)
    return build_service(
        config,
        calls,
        topics=TOPICS,
        register=partial(evaluator_pb2_grpc.add_EvaluatorServiceServicer_to_server, servicer),
        service_names=["athanor.evaluator.v1.EvaluatorService"],
    )
