"""The real servers, for tests that must pass on them too."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from deploy.local.stack import Run, up
from deploy.local.stack.obtain import absent
from deploy.local.stack.servers import SERVERS, with_needs


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
    require(list(SERVERS))
    return up(shared)


def require(names: Sequence[str]) -> None:
    """Skip the test, or fail it as `refuse` does, where one of these servers was never obtained."""
    if missing := absent(with_needs(names), folder()):
        refuse(f"{', '.join(missing)} absent from {folder()}: make stack")


def refuse(reason: str) -> NoReturn:
    """Skip the test, or fail it where the stack is required."""
    if os.environ.get("ATHANOR_REQUIRE_STACK"):
        pytest.fail(reason)
    pytest.skip(reason)
