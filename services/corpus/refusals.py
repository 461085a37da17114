"""Why something was refused: a closed set of reasons, each in the table of refusals by its name.

Refusals are outcomes, not errors: a crawl with a thousand of them has succeeded.
"""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Of an address, of a file, or of a passage."""

    ROBOTS = "robots"
    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    SERVER_ERROR = "server_error"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    TOO_LARGE = "too_large"
    REDIRECT_LOOP = "redirect_loop"
    OFF_SITE = "off_site"
    PRIVATE_ADDRESS = "private_address"
    NOT_TEXT = "not_text"
    UNDECODABLE = "undecodable"
    EMPTY = "empty"
    TOO_SHORT = "too_short"
    DUPLICATE = "duplicate"
    HELD_OUT = "held_out"
    CONTAMINATED = "contaminated"
    SYMBOLS = "symbols"
    REPETITIVE = "repetitive"
    LONG_WORDS = "long_words"
    NEAR_DUPLICATE = "near_duplicate"
    OVER_LIMIT = "over_limit"


class Refusal(NamedTuple):
    """One row of `refusals.parquet`."""

    id: str
    """Address, or passage id."""
    reason: Reason
    detail: str = ""
    """One sentence, without anything that differs from machine to machine."""

    def row(self) -> dict[str, str]:
        """Return the row as `libs.formats.REFUSALS` has it."""
        return {"id": self.id, "reason": self.reason.value, "detail": self.detail}


def counted(refusals: Iterable[Refusal]) -> dict[str, int]:
    """Return the number of refusals by reason, most first."""
    counts = Counter(refusal.reason.value for refusal in refusals)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
