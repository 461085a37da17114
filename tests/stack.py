"""The real servers that `make stack` started, for tests that must pass on them too."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

_CACHE = Path.home() / ".cache" / "athanor" / "stack"


def folder() -> Path:
    """Return where `make stack` keeps what it built."""
    return Path(os.environ.get("ATHANOR_STACK") or _CACHE)


def settings() -> Mapping[str, str]:
    """Return the settings of the running stack, `ATHANOR_<SERVER>` by name.

    Skips the test where no stack runs; fails it where `ATHANOR_REQUIRE_STACK` is set, as in CI.
    """
    file = folder() / "run" / "stack.env"
    if not file.exists():
        refuse = pytest.fail if os.environ.get("ATHANOR_REQUIRE_STACK") else pytest.skip
        refuse(f"no stack runs ({file} is absent): make stack")
    lines = [line for line in file.read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)
