"""Run the evaluator: `python -m services.evaluator`."""

import os

from libs.blobs.folder import FolderBlobs
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.config import read
from libs.lm.client import GrpcLm
from services.evaluator.app import build
from services.evaluator.config import Config


def main() -> None:
    """Read the environment, choose the embedded adapters, and serve until a signal comes."""
    config = read(Config, "evaluator", os.environ)
    blobs = FolderBlobs(config.home / "blobs")
    bus = SqliteBus(config.home / "bus.sqlite", session_s=config.lease_s)
    with GrpcLm(config.lm_address, tls=config.tls) as lm:
        build(config, blobs=blobs, bus=bus, clock=Clock(config.clock_shift_file), lm=lm).run()


if __name__ == "__main__":
    main()
