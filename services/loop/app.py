"""Join the loop's parts. Adapters come in as arguments; `__main__` chooses them."""

import time
from functools import partial

import grpc
from athanor.common.v1 import artifacts_pb2_grpc, dead_letters_pb2_grpc
from athanor.loop.v1 import loop_pb2_grpc

from libs.artifacts import Artifacts
from libs.blobs.port import Blobs
from libs.bus.dead_letters import DeadLetters
from libs.bus.port import Bus
from libs.bus.servicer import SERVICE_NAME, DeadLettersServicer
from libs.clock import Clock
from libs.errors import NotFound
from libs.lm.port import Lm
from libs.operations.servicer import LongCalls
from libs.operations.store import Operations
from libs.service import Service, build_service
from services.loop.collection import Collector
from services.loop.config import Config
from services.loop.drive import World
from services.loop.garbage import Survey
from services.loop.intake import Intake
from services.loop.lineage import Lineage
from services.loop.pins import Pins
from services.loop.ports import Catalogue, Front, Library, Services
from services.loop.registry import Models
from services.loop.rounds import Rounds
from services.loop.servicer import ArtifactsServicer, LoopServicer
from services.loop.serving import Serving
from services.loop.store_age import StoreAge
from services.loop.topics import TOPICS
from services.loop.worker import Steps, collection, tell


def build(
    config: Config,
    *,
    blobs: Blobs,
    bus: Bus,
    clock: Clock,
    lm: Lm,
    front: Front,
    services: Services,
    catalogue: Catalogue,
    library: Library,
) -> Service:
    """Return the loop, bound to its port and not started.

    A round calls the loop itself too: `services` must reach it at the returned service's address.
    """
    artifacts = Artifacts(blobs, now=clock.now)
    rounds, models = Rounds(blobs), Models(blobs)
    operations = Operations("loop", blobs=blobs, bus=bus, clock=clock)
    intake = Intake(
        rounds,
        library=library,
        catalogue=catalogue,
        services=services,
        artifacts=artifacts,
        clock=clock,
        operation=operations.get,
    )
    world = World(
        rounds=rounds,
        services=services,
        artifacts=artifacts,
        clock=clock,
        pause=time.sleep,
        patience_s=config.patience_s,
    )
    serving = Serving(
        models, lm=lm, front=front, artifacts=artifacts, clock=clock, tell=partial(tell, bus)
    )
    steps = Steps(world=world, intake=intake, serving=serving, blobs=blobs, bus=bus)
    survey = Survey(blobs, clock=clock, age=StoreAge(blobs), grace_s=config.garbage_grace_h * 3600)
    collector = Collector(blobs, survey, clock=clock, is_over=partial(_is_over, operations))
    long_calls = (*steps.all(), collection(collector))
    calls = LongCalls("loop", steps=long_calls, blobs=blobs, bus=bus, clock=clock)
    servicer = LoopServicer(
        calls, intake=intake, rounds=rounds, models=models, serving=serving, blobs=blobs
    )
    keeping = ArtifactsServicer(
        calls, Lineage(artifacts), survey=survey, pins=Pins(blobs, artifacts), clock=clock
    )
    letters = DeadLettersServicer(DeadLetters(bus, blobs), bus)

    def register(server: grpc.Server) -> None:
        loop_pb2_grpc.add_LoopServiceServicer_to_server(servicer, server)
        artifacts_pb2_grpc.add_ArtifactsServiceServicer_to_server(keeping, server)
        dead_letters_pb2_grpc.add_DeadLettersServiceServicer_to_server(letters, server)

    return build_service(
        config,
        calls,
        topics=TOPICS,
        register=register,
        service_names=[
            "athanor.loop.v1.LoopService",
            "athanor.common.v1.ArtifactsService",
            SERVICE_NAME,
        ],
        tend=collector.tend,
    )


def _is_over(operations: Operations, name: str) -> bool:
    try:
        return operations.get(name).ended
    except NotFound:
        return True
