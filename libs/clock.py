"""The two clocks: wall time for people and audit, monotonic time for every wait.

One place reads the wall clock, so that a drill can shift it while a process runs and show that no
lease is stolen and no deadline moves.
"""

import time
from pathlib import Path

from libs.errors import InvalidInput

_MAX_DOUBLINGS = 30
"""Of a pause: 2 to the number of a night's failures is no float."""


def pause_s(failures: int, *, first_s: float, longest_s: float) -> float:
    """Return how long to wait after so many failures in a row, from 1: doubled each, capped."""
    return min(longest_s, first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS))


class Clock:
    """Reads both clocks of the machine; the wall clock shifted by a file, where one is given."""

    def __init__(self, shift_file: Path | None = None) -> None:
        self._shift_file = shift_file

    def now(self) -> float:
        """Return wall time in seconds since 1970, for showing and audit only.

        Raises:
            InvalidInput: the shift file holds something other than a number of seconds.
        """
        return time.time() + self._shift_s()

    def monotonic(self) -> float:
        """Return seconds since an unknown moment; never shifted, never runs backwards."""
        return time.monotonic()

    def _shift_s(self) -> float:
        if self._shift_file is None:
            return 0.0
        try:
            text = self._shift_file.read_text()
        except FileNotFoundError:
            return 0.0
        try:
            # Empty for an instant while somebody writes it in place.
            return float(text.strip() or 0)
        except ValueError:
            raise InvalidInput(
                f"{self._shift_file.name} must hold a number of seconds, got {text[:40]!r}"
            ) from None
