"""Join the parts of the corpus. Adapters come in as arguments; `__main__` chooses them."""

from functools import partial

from athanor.corpus.v1 import corpus_pb2_grpc

from libs.artifacts import Artifacts
from libs.blobs.port import Blobs
from libs.bus.port import Bus
from libs.clock import Clock
from libs.operations.servicer import LongCalls
from libs.search.port import Search
from libs.service import Service, build_service
from services.corpus.config import Config
from services.corpus.forgetting import Forgetting
from services.corpus.ports import Fetchers
from services.corpus.servicer import CorpusServicer
from services.corpus.shelf import Shelf
from services.corpus.topics import TOPICS
from services.corpus.worker import steps


def build(
    config: Config, *, blobs: Blobs, bus: Bus, clock: Clock, search: Search, fetchers: Fetchers
) -> Service:
    """Return the service, bound and not started.

    Raises:
        Conflict: the port is in use.
    """
    shelf = Shelf(search, max_indexes=config.max_indexes)
    forgetting = Forgetting(blobs, Artifacts(blobs, now=clock.now), shelf.drop)
    long_calls = steps(bus, fetchers=fetchers, shelf=shelf, forgetting=forgetting)
    calls = LongCalls("corpus", steps=long_calls, blobs=blobs, bus=bus, clock=clock)
    servicer = CorpusServicer(calls, calls.artifacts, shelf)
    return build_service(
        config,
        calls,
        topics=TOPICS,
        register=partial(corpus_pb2_grpc.add_CorpusServiceServicer_to_server, servicer),
        service_names=["athanor.corpus.v1.CorpusService"],
    )
