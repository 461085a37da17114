"""Run the corpus on the embedded profile: `python -m services.corpus`."""

import os
from functools import partial

from libs.blobs.folder import FolderBlobs
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.config import read
from libs.search.tantivy import TantivySearch
from services.corpus.adapters import HttpFetcher
from services.corpus.app import build
from services.corpus.config import Config


def main() -> None:
    """Serve until a signal comes."""
    config = read(Config, "corpus", os.environ)
    build(
        config,
        blobs=FolderBlobs(config.home / "blobs"),
        bus=SqliteBus(config.home / "bus.sqlite", session_s=config.lease_s),
        clock=Clock(config.clock_shift_file),
        search=TantivySearch(config.home / "index"),
        fetchers=partial(HttpFetcher, hosts=config.addresses_by_host),
    ).run()


if __name__ == "__main__":
    main()
