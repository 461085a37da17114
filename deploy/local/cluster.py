"""Enter the cluster profile: the servers' settings become those of this process and its children.

What the environment says stands; the rest is taken from the `stack.env` of `make stack`.
"""

import os
from typing import Annotated

import typer

from libs.errors import NotFound
from libs.profile import Profile, chosen

Where = Annotated[
    Profile | None,
    typer.Option("--profile", help="Where state lies; cluster: the servers of make stack."),
]


def enter(profile: Profile | None = None) -> Profile:
    """Use `profile`, or the one that `ATHANOR_PROFILE` names, from here on; return it.

    Raises:
        NotFound: it is the cluster's, and neither the environment nor a stack names its servers.
        InvalidInput: `ATHANOR_PROFILE` names no profile.
    """
    profile = profile or chosen(os.environ)
    os.environ["ATHANOR_PROFILE"] = profile
    if profile is Profile.CLUSTER:
        _take_settings()
    return profile


def _take_settings() -> None:
    from deploy.local.stack import Run  # costs time that the embedded profile need not pay

    run = Run.of(os.environ)
    if not (settings := run.settings()) and "ATHANOR_KAFKA" not in os.environ:
        raise NotFound(f"no stack runs in {run.folder}, and ATHANOR_KAFKA is not set: make stack")
    for name, value in settings.items():
        os.environ.setdefault(name, value)
