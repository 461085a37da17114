"""Run the loop: `python -m services.loop`."""

import os

from libs.blobs.folder import FolderBlobs
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.config import read
from libs.lm.client import GrpcLm
from services.loop.adapters import FolderLibrary, GrpcServices, ProtoCatalogue
from services.loop.app import build
from services.loop.config import Config


def main() -> None:
    """Read the environment, choose the embedded adapters, and serve until a signal comes."""
    config = read(Config, "loop", os.environ)
    addresses = config.addresses()
    with GrpcLm(config.lm_address, tls=config.tls) as lm:
        service = build(
            config,
            blobs=FolderBlobs(config.home / "blobs"),
            bus=SqliteBus(config.home / "bus.sqlite", session_s=config.lease_s),
            clock=Clock(config.clock_shift_file),
            lm=lm,
            services=GrpcServices(addresses, tls=config.tls),
            catalogue=ProtoCatalogue(),
            library=FolderLibrary(config.recipes),
        )
        addresses["loop"] = service.address  # known once its port is bound
        service.run()


if __name__ == "__main__":
    main()
