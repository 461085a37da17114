"""Run the sampler: `python -m services.sampler`."""

import os

from libs.config import read
from libs.profile import Adapters
from services.sampler.app import build
from services.sampler.config import Config


def main() -> None:
    """Serve until a signal comes."""
    config = read(Config, "sampler", os.environ)
    at = Adapters(config, os.environ)
    build(config, blobs=at.blobs, bus=at.bus, clock=at.clock).run()


if __name__ == "__main__":
    main()
