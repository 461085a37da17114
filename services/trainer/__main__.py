"""Run the trainer: `python -m services.trainer`."""

import os

from libs.config import read
from libs.profile import Adapters
from services.trainer import child
from services.trainer.adapters import GrpcBatches
from services.trainer.app import build
from services.trainer.config import Config


def main() -> None:
    """Serve until a signal comes."""
    # Read by OpenMP when the fork server loads it. Threads that spin while they wait take the
    # cores that other services need: two to four times slower on a busy machine (`LOG.md`).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    child.warm_up()
    config = read(Config, "trainer", os.environ)
    at = Adapters(config, os.environ)
    build(
        config,
        blobs=at.blobs,
        bus=at.bus,
        clock=at.clock,
        batches=GrpcBatches(config.sampler_address, stall_s=config.stall_s, tls=config.tls),
    ).run()


if __name__ == "__main__":
    main()
