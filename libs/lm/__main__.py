"""Run the lm host: `python -m libs.lm`."""

import os

from libs.blobs.folder import FolderBlobs
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.config import read
from libs.lm.config import Config


def main() -> None:
    """Serve until a signal comes."""
    # Read by OpenMP when torch loads it: threads that spin while they wait take the cores that
    # other services need, and a busy machine answers two to four times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from libs.lm.app import build

    config = read(Config, "lm", os.environ)
    build(
        config,
        blobs=FolderBlobs(config.home / "blobs"),
        bus=SqliteBus(config.home / "bus.sqlite", session_s=config.lease_s),
        clock=Clock(config.clock_shift_file),
    ).run()


if __name__ == "__main__":
    main()
