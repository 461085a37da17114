"""The real servers, for tests that must pass on them too."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from deploy.local.stack import Run, up
from deploy.local.stack.obtain import absent
from deploy.local.stack.servers import SERVERS


def run() -> Run:
    """Return the folders of the stack that tests share."""
    return Run.of(os.environ)


def folder() -> Path:
    """Return where `make stack` keeps what it built."""
    return run().cache


def settings() -> Mapping[str, str]:
    """Return the settings of the stack, `ATHANOR_<SERVER>` by name; start what does not run.

    Skips the test where a server was never obtained; fails it where `ATHANOR_REQUIRE_STACK` is set,
    as in CI. The servers run on after the tests: `make stack-down`.
    """
    shared = run()
    if shared.is_foreign:
        return shared.settings()
    if missing := absent(list(SERVERS.values()), shared.cache):
        refuse(f"{', '.join(missing)} absent from {shared.cache}: make stack")
    return up(shared)


def refuse(reason: str) -> NoReturn:
    """Skip the test, or fail it where the stack is required."""
    if os.environ.get("ATHANOR_REQUIRE_STACK"):
        pytest.fail(reason)
    pytest.skip(reason)
