"""Join the trainer's parts. Adapters come in as arguments; `__main__` chooses them."""

from functools import partial

from athanor.trainer.v1 import trainer_pb2_grpc

from libs.artifacts import Artifacts
from libs.blobs.port import Blobs
from libs.bus.port import Bus
from libs.clock import Clock
from libs.operations.servicer import LongCalls
from libs.service import Service, build_service
from services.trainer.config import Config
from services.trainer.ports import Batches
from services.trainer.servicer import TrainerServicer
from services.trainer.topics import TOPICS
from services.trainer.worker import steps


def build(config: Config, *, blobs: Blobs, bus: Bus, clock: Clock, batches: Batches) -> Service:
    """Return a service that is bound but not started."""
    made = steps(
        blobs=blobs,
        artifacts=Artifacts(blobs, now=clock.now),
        bus=bus,
        batches=batches,
        snapshot_s=config.snapshot_s,
    )
    calls = LongCalls("trainer", steps=made, blobs=blobs, bus=bus, clock=clock)
    return build_service(
        config,
        calls,
        topics=TOPICS,
        register=partial(
            trainer_pb2_grpc.add_TrainerServiceServicer_to_server, TrainerServicer(calls)
        ),
        service_names=["athanor.trainer.v1.TrainerService"],
    )
