"""Join the lm host's parts. It has no long calls: weights are held, answers are given at once."""

from functools import partial

from athanor.lm.v1 import lm_pb2_grpc

from libs.artifacts import Artifacts
from libs.blobs.port import Blobs
from libs.bus.port import Bus, Topic
from libs.clock import Clock
from libs.lm.config import Config
from libs.lm.host import Host
from libs.lm.servicer import LmServicer
from libs.operations.servicer import LongCalls
from libs.service import Service, build_service

TOPICS = (Topic(name="lm.commands.v1", key="operation name", partitions=1),)
"""Nothing is published on it: every service listens for commands."""


def build(config: Config, *, blobs: Blobs, bus: Bus, clock: Clock) -> Service:
    """Return a service that is bound but not started."""
    host = Host(
        blobs,
        Artifacts(blobs, now=clock.now),
        num_threads=config.num_threads,
        max_models=config.max_models,
    )
    return build_service(
        config,
        LongCalls("lm", steps=(), blobs=blobs, bus=bus, clock=clock),
        topics=TOPICS,
        register=partial(lm_pb2_grpc.add_LmServiceServicer_to_server, LmServicer(host)),
        service_names=["athanor.lm.v1.LmService"],
    )
