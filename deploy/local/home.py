"""The folder where all state lies; imports the standard library only, for `doctor`."""

import os
from pathlib import Path

DEFAULT = Path(".athanor")


def home_folder() -> Path:
    """Return where all state lies."""
    return Path(os.environ.get("ATHANOR_HOME") or DEFAULT)
