"""Run the sampler on the embedded profile: `python -m services.sampler`."""

import os

from libs.blobs.folder import FolderBlobs
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.config import read
from services.sampler.app import build
from services.sampler.config import Config


def main() -> None:
    """Serve until a signal comes."""
    config = read(Config, "sampler", os.environ)
    build(
        config,
        blobs=FolderBlobs(config.home / "blobs"),
        bus=SqliteBus(config.home / "bus.sqlite", session_s=config.lease_s),
        clock=Clock(config.clock_shift_file),
    ).run()


if __name__ == "__main__":
    main()
