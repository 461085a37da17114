"""Run the lm host: `python -m libs.lm`."""

import os

from libs.blobs.folder import FolderBlobs
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.config import read
from libs.lm.app import build
from libs.lm.config import Config


def main() -> None:
    """Serve until a signal comes."""
    config = read(Config, "lm", os.environ)
    build(
        config,
        blobs=FolderBlobs(config.home / "blobs"),
        bus=SqliteBus(config.home / "bus.sqlite", session_s=config.lease_s),
        clock=Clock(config.clock_shift_file),
    ).run()


if __name__ == "__main__":
    main()
