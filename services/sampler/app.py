"""Join the sampler's parts. Adapters come in as arguments; `__main__` chooses them."""

from functools import partial

from athanor.sampler.v1 import sampler_pb2_grpc

from libs.blobs.port import Blobs
from libs.bus.port import Bus
from libs.clock import Clock
from libs.operations.servicer import LongCalls
from libs.service import Service, build_service
from services.sampler.config import Config
from services.sampler.readers import Readers
from services.sampler.servicer import SamplerServicer
from services.sampler.shelf import Shelf
from services.sampler.topics import TOPICS
from services.sampler.worker import steps


def build(config: Config, *, blobs: Blobs, bus: Bus, clock: Clock) -> Service:
    """Return the service, bound and not started.

    Raises:
        Conflict: the port is in use.
    """
    calls = LongCalls("sampler", steps=steps(bus), blobs=blobs, bus=bus, clock=clock)
    readers = Readers(limit=config.max_streams, stall_s=config.stall_s)
    servicer = SamplerServicer(calls, Shelf(calls.artifacts), readers)
    return build_service(
        config,
        calls,
        topics=TOPICS,
        register=partial(sampler_pb2_grpc.add_SamplerServiceServicer_to_server, servicer),
        service_names=["athanor.sampler.v1.SamplerService"],
    )
