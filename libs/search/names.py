"""Which names an index may have: those that are one path segment and no hidden file."""

import re

from libs.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*")


def check(name: str) -> str:
    """Return the name. Raises `InvalidInput` when no index may have it."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"an index name must match {_NAME.pattern}, got {name!r}")
    return name
