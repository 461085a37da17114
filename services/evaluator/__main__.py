"""Run the evaluator: `python -m services.evaluator`."""

import os

from libs.config import read
from libs.profile import Adapters
from services.evaluator.app import build
from services.evaluator.config import Config


def main() -> None:
    """Serve until a signal comes."""
    config = read(Config, "evaluator", os.environ)
    at = Adapters(config, os.environ)
    with at.lm(config.lm_address) as lm:
        build(config, blobs=at.blobs, bus=at.bus, clock=at.clock, lm=lm).run()


if __name__ == "__main__":
    main()
