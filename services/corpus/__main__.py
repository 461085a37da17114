"""Run the corpus: `python -m services.corpus`."""

import os
from functools import partial

from libs.config import read
from libs.profile import Adapters
from services.corpus.adapters import HttpFetcher
from services.corpus.app import build
from services.corpus.config import Config


def main() -> None:
    """Serve until a signal comes."""
    config = read(Config, "corpus", os.environ)
    at = Adapters(config, os.environ)
    build(
        config,
        blobs=at.blobs,
        bus=at.bus,
        clock=at.clock,
        search=at.search,
        fetchers=partial(HttpFetcher, hosts=config.addresses_by_host),
    ).run()


if __name__ == "__main__":
    main()
