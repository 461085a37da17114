"""The folder where all state lies; imports the standard library only, for `doctor`."""

import os
from pathlib import Path

DEFAULT = Path(".athanor")
CLUSTER = Path(".athanor-cluster")


def home_folder() -> Path:
    """Return where all state of this profile lies, or on a cluster what is not in its servers."""
    on_cluster = os.environ.get("ATHANOR_PROFILE") == "cluster"
    return Path(os.environ.get("ATHANOR_HOME") or (CLUSTER if on_cluster else DEFAULT))
