"""The one segmenter: what a word is, for decontamination, near-duplicates, filters and search.

Words are Unicode UAX 29 word boundaries after NFKC and case folding, kept when they hold a letter
or a digit; each Han, Kana or Thai character is a word of its own, since by white space a Chinese
passage would be one word and an overlap check of 13 words blind to it.
`VERSION` stands in every certificate; it rises when any text could be segmented differently.
"""

import unicodedata

import regex

VERSION = 1
_EACH = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}"
_RUN = regex.compile(rf"[{_EACH}]\p{{M}}*|(?:(?![{_EACH}]).)+", flags=regex.DOTALL)
_BOUNDARY = regex.compile(r"\b", flags=regex.WORD | regex.VERSION1)
_WORDLIKE = regex.compile(r"[\p{L}\p{N}]")


def words(text: str) -> list[str]:
    """Split text into normalised words, in order, punctuation left out."""
    normal = unicodedata.normalize("NFKC", text).casefold()
    pieces = (piece for run in _RUN.findall(normal) for piece in _BOUNDARY.split(run))
    return [piece for piece in pieces if piece and _WORDLIKE.search(piece)]


def ngrams(tokens: list[str], size: int) -> set[str]:
    """Return the set of runs of `size` words; a text shorter than that gives its whole self."""
    if not tokens:
        return set()
    last = max(len(tokens) - size, 0)
    return {" ".join(tokens[start : start + size]) for start in range(last + 1)}
