"""Run the trainer: `python -m services.trainer`."""

import os

from libs.blobs.folder import FolderBlobs
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.config import read
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
    build(
        config,
        blobs=FolderBlobs(config.home / "blobs"),
        bus=SqliteBus(config.home / "bus.sqlite", session_s=config.lease_s),
        clock=Clock(config.clock_shift_file),
        batches=GrpcBatches(config.sampler_address, stall_s=config.stall_s, tls=config.tls),
    ).run()


if __name__ == "__main__":
    main()
