"""Buses for tests: on either adapter, the real one in a namespace that goes with it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from libs.bus.kafka import KafkaBus
from libs.bus.port import Bus
from libs.bus.sqlite import SqliteBus

ADAPTERS = ("sqlite", "kafka")
Opener = Callable[..., Bus]


@contextmanager
def opener(
    adapter: str, request: pytest.FixtureRequest, folder: Path, *, session_s: float
) -> Iterator[Opener]:
    """Give a function that opens one bus, here or in another process.

    Skips the test of `kafka` where no stack runs.
    """
    if adapter == "sqlite":
        yield partial(SqliteBus, folder / "bus.sqlite", session_s=session_s)
        return
    servers = request.getfixturevalue("stack")["ATHANOR_KAFKA"]
    open_bus = partial(KafkaBus, servers, namespace=f"t{uuid4().hex[:10]}-", session_s=session_s)
    yield open_bus
    cleaner = open_bus()
    cleaner.topics.delete(cleaner.topics.existing())
    cleaner.close()
