"""Run the loop: `python -m services.loop`."""

import os

from libs.config import read
from libs.profile import Adapters
from services.loop.adapters import FolderLibrary, GrpcServices, ProtoCatalogue
from services.loop.app import build
from services.loop.config import Config


def main() -> None:
    """Serve until a signal comes."""
    config = read(Config, "loop", os.environ)
    addresses = config.addresses()
    at = Adapters(config, os.environ)
    with at.lm(config.lm_address) as lm:
        service = build(
            config,
            blobs=at.blobs,
            bus=at.bus,
            clock=at.clock,
            lm=lm,
            services=GrpcServices(addresses, tls=config.tls),
            catalogue=ProtoCatalogue(),
            library=FolderLibrary(config.recipes),
        )
        addresses["loop"] = service.address  # known once its port is bound
        service.run()


if __name__ == "__main__":
    main()
