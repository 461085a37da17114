"""Tokens to text as they come: whole characters only, and nothing of a stop.

A token may hold part of a character, or depend on the one before it for its leading space; a stop
may lie across tokens. What is given out is never taken back. Runs in a foreign server too: see
`arithmetic`.
"""

from collections.abc import Sequence
from typing import Any

_UNKNOWN = "\ufffd"
"""What decoders put for bytes that are no whole character (yet)."""
_BEFORE = 4
"""Tokens of the prompt that decide how the first new one reads: a character has four bytes."""


class Detokenizer:
    """The text of one prompt's new tokens, its special tokens left out."""

    def __init__(self, tokenizer: Any, before: Sequence[int], stop: Sequence[str]) -> None:
        """Continue the tokens `before`; end at the first of the texts `stop`."""
        self._tokenizer = tokenizer
        self._stop = stop
        self._beginnings = {each[:size] for each in stop for size in range(1, len(each))}
        self.has_stopped = False
        """Whether one of the stops has come; nothing more is given out then."""
        # Decoded anew each time: the tokens since the last but one that ended with a character.
        self._window = list(before[-_BEFORE:])
        self._num_old = len(self._window)
        self._num_read = len(self._decoded().rstrip(_UNKNOWN))
        self._held = ""

    def add(self, token: int) -> str:
        """Return what is certain now."""
        self._window.append(token)
        text = self._decoded()
        whole = text.rstrip(_UNKNOWN)
        self._read(whole)
        if whole == text:
            self._window = self._window[self._num_old :]
            self._num_old = len(self._window)
            self._num_read = len(self._decoded())
        return self._given(len(self._held) - self._num_awaited())

    def end(self) -> str:
        """Return what was held back: no token follows."""
        self._read(self._decoded())
        return self._given(len(self._held))

    def _decoded(self) -> str:
        text: str = self._tokenizer.decode(
            self._window, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _read(self, text: str) -> None:
        """Take what a longer decoding of the window adds, and look for a stop."""
        if self.has_stopped:
            return
        self._held += text[self._num_read :]
        self._num_read = max(self._num_read, len(text))
        found = [place for stop in self._stop if (place := self._held.find(stop)) >= 0]
        if found:
            self.has_stopped = True
            self._held = self._held[: min(found)]

    def _num_awaited(self) -> int:
        """Return how many of the last characters held may be the beginning of a stop."""
        if self.has_stopped:
            return 0
        found = (len(each) for each in self._beginnings if self._held.endswith(each))
        return max(found, default=0)

    def _given(self, size: int) -> str:
        given, self._held = self._held[:size], self._held[size:]
        return given
