"""Cut a text into passages: the unit that is indexed, held out, decontaminated and trained on.

Paragraphs are joined until they have enough words, and what has too many is cut near its middle, at
the best place there is: between paragraphs, lines, sentences, words. No text is lost except that of
a document with fewer words than a passage needs.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import regex

from libs.errors import InvalidInput
from libs.words import words

DEFAULT_MIN_WORDS = 40
DEFAULT_MAX_WORDS = 160
_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
_PLACES = (
    regex.compile(r"\n[^\S\n]*\n\s*"),
    regex.compile(r"\n"),
    regex.compile(r"(?<=[.!?])\s+|(?<=[。！？])"),  # noqa: RUF001
    regex.compile(r"\s+"),
    regex.compile(r"(?<=\W)|(?<=[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}])"),
)
"""Where a text may be cut, best first."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Words of a passage, at least and at most."""

    min_words: int = DEFAULT_MIN_WORDS
    max_words: int = DEFAULT_MAX_WORDS

    def __post_init__(self) -> None:
        """Raise `InvalidInput` unless every text of enough words can be cut."""
        if not 1 <= self.min_words <= self.max_words // 2:
            raise InvalidInput(
                "passage_max_words must be at least twice passage_min_words, and that at least 1,"
                f" got {self.max_words} and {self.min_words}"
            )


def passages(text: str, lengths: Lengths) -> list[str]:
    """Return the passages of a text, in order; none when it has too few words."""
    # Extractors give a line to each paragraph; plain text has blank lines between them.
    separator = "\n\n" if _BLANK.search(text.strip()) else "\n"
    found = list(_joined(text, separator, lengths))
    if len(found) > 1 and len(words(found[-1])) < lengths.min_words:
        found[-2:] = [found[-2] + separator + found[-1]]
    whole = [part for each in found for part in _cut(each, lengths)]
    return [part for part in whole if len(found) > 1 or len(words(part)) >= lengths.min_words]


def _joined(text: str, separator: str, lengths: Lengths) -> Iterator[str]:
    """Yield paragraphs joined up to the least length; the last may fall short of it."""
    held: list[str] = []
    num_words = 0
    paragraphs = _BLANK.split(text) if separator == "\n\n" else text.split("\n")
    for paragraph in (each.strip("\n").rstrip() for each in paragraphs):
        if not paragraph:
            continue
        held.append(paragraph)
        num_words += len(words(paragraph))
        if num_words >= lengths.min_words:
            yield separator.join(held)
            held, num_words = [], 0
    if held:
        yield separator.join(held)


def _cut(text: str, lengths: Lengths) -> list[str]:
    if len(words(text)) <= lengths.max_words:
        return [text]
    for place in _PLACES:
        halves = _halves(text, place, lengths.min_words)
        if halves is not None:
            return [part for half in halves for part in _cut(half, lengths)]
    return [text]


def _halves(text: str, place: regex.Pattern[str], min_words: int) -> tuple[str, str] | None:
    """Cut at the match of `place` nearest to the middle that leaves enough words on both sides."""
    spans = [match.span() for match in place.finditer(text)]
    starts = [0, *(end for _, end in spans)]
    ends = [*(start for start, _ in spans), len(text)]
    counts = [len(words(text[start:end])) for start, end in zip(starts, ends, strict=True)]
    total, before = sum(counts), 0
    best: tuple[int, int] | None = None
    for number, count in enumerate(counts[:-1]):
        before += count
        if min_words <= before <= total - min_words:
            best = min(best or (total, 0), (abs(total - 2 * before), number))
    if best is None:
        return None
    start, end = spans[best[1]]
    return text[:start], text[end:]
