"""Run the lm host: `python -m libs.lm`."""

import os

from libs.config import read
from libs.lm.config import Config
from libs.profile import Adapters


def main() -> None:
    """Serve until a signal comes."""
    # Read by OpenMP when torch loads it: threads that spin while they wait take the cores that
    # other services need, and a busy machine answers two to four times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from libs.lm.app import build

    config = read(Config, "lm", os.environ)
    at = Adapters(config, os.environ)
    build(config, blobs=at.blobs, bus=at.bus, clock=at.clock).run()


if __name__ == "__main__":
    main()
