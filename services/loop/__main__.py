"""Run the loop: `python -m services.loop`."""

import os
from functools import partial

from libs.config import read
from libs.profile import Adapters
from services.loop.adapters import FolderLibrary, GrpcServices, NoFront, ProtoCatalogue
from services.loop.app import build
from services.loop.config import Config
from services.loop.keeper import Keeper
from services.loop.registry import Models
from services.loop.worker import tell_published


def main() -> None:
    """Serve until a signal comes."""
    config = read(Config, "loop", os.environ)
    at, addresses = Adapters(config, os.environ), config.addresses()
    published = partial(tell_published, at.bus)
    with at.lm_and_publisher(config.lm_address, published) as (lm, publisher):
        service = build(
            config,
            blobs=at.blobs,
            bus=at.bus,
            clock=at.clock,
            lm=lm,
            front=(front := publisher or NoFront()),
            services=GrpcServices(addresses, tls=config.tls),
            catalogue=ProtoCatalogue(),
            library=FolderLibrary(config.recipes),
        )
        addresses["loop"] = service.address  # known once its port is bound
        with Keeper(front, Models(at.blobs)):
            service.run()


if __name__ == "__main__":
    main()
