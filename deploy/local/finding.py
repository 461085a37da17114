"""One thing that `doctor` looked at; the standard library only."""

from typing import NamedTuple


class Finding(NamedTuple):
    """What was found; `remedy` is empty when it is well."""

    name: str
    found: str
    remedy: str = ""
    needed: bool = True
