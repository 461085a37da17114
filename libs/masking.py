"""Secrets of this process, masked wherever it speaks.

`libs.config` hides what it reads of secrets; log lines, errors that are kept or sent, spans and the
traceback of a crash are masked. Not protected against: code that writes a secret into a file by
itself, an encoded or shortened form of one, and whoever may read the process's memory.
"""

import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

MASK = "***"
_SHORTEST = 4
"""Masking shorter ones would cut up every text, and they hide nothing."""
_hidden: set[str] = set()
_Kind = type[BaseException]


def hide(text: str) -> None:
    """Mask the text from now on, in the traceback of a crash, too."""
    if len(text) < _SHORTEST:
        return
    if not _hidden:
        sys.excepthook = _Crash(sys.excepthook)
        threading.excepthook = _CrashOfThread(threading.excepthook)
    _hidden.add(text)


def masked(text: str) -> str:
    """Return the text without the secrets of this process."""
    # The longest first: one secret may be part of another.
    for each in sorted(_hidden, key=len, reverse=True):
        text = text.replace(each, MASK)
    return text


class _Crash:
    """An `excepthook` that prints what holds a secret itself, and leaves the rest to the former."""

    def __init__(self, former: Callable[[_Kind, BaseException, TracebackType | None], Any]) -> None:
        self._former = former

    def __call__(self, kind: _Kind, error: BaseException, trace: TracebackType | None) -> None:
        if not _printed_masked(kind, error, trace):
            self._former(kind, error, trace)


class _CrashOfThread:
    """The same of `threading`."""

    def __init__(self, former: Callable[[threading.ExceptHookArgs], Any]) -> None:
        self._former = former

    def __call__(self, given: threading.ExceptHookArgs) -> None:
        if not _printed_masked(given.exc_type, given.exc_value, given.exc_traceback):
            self._former(given)


def _printed_masked(kind: _Kind, error: BaseException | None, trace: TracebackType | None) -> bool:
    """Print an error that holds a secret without it; return False if it holds none."""
    told = "".join(traceback.format_exception(kind, error, trace))
    if (shown := masked(told)) == told:
        return False
    sys.stderr.write(shown)
    return True
