"""The one segmenter: what a word is, for decontamination, near-duplicates, filters and search.

Words are Unicode UAX 29 word boundaries after NFKC and case folding, unseen format characters left
out, kept when they hold a letter or a digit; each Han, Kana or Thai character is a word of its own,
since by white space a Chinese passage would be one word and an overlap check of 13 words blind to
it.
`VERSION` stands in every certificate; it rises when any text could be segmented differently.
Search has its own, looser view of the same words, `terms`, under `TERMS_VERSION`.
"""

import re
import unicodedata
from functools import lru_cache

import regex

VERSION = 2
TERMS_VERSION = 2
MAX_TERM_CHARACTERS = 128
"""Search engines drop or split longer terms, each in its own way; here they are cut."""
_EACH = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}"
_RUN = regex.compile(rf"[{_EACH}]\p{{M}}*|(?:(?![{_EACH}]).)+", flags=regex.DOTALL)
_BOUNDARY = regex.compile(r"\b", flags=regex.WORD | regex.VERSION1)
_UNSEEN = regex.compile(r"\p{Cf}")
_WORDLIKE = regex.compile(r"[\p{L}\p{N}]")
_ASCII_RUN = re.compile(r"(?:[a-z0-9_]|(?<=[a-z])[.:'](?=[a-z])|(?<=[0-9])[.,;'](?=[0-9]))+")
_ASCII_WORDLIKE = re.compile(r"[a-z0-9]")
_JOINT = re.compile(r"(?<![0-9])[._:]+|[._:]+(?![0-9])")


def words(text: str) -> list[str]:
    """Split text into normalised words, in order, punctuation left out."""
    return [word for line in text.split("\n") for word in _line_words(line)]


def _line_words(line: str) -> list[str]:
    """Split one line; plain ASCII goes by the same rules in one pattern, four times as fast."""
    if line.isascii():
        return [run for run in _ASCII_RUN.findall(line.lower()) if _ASCII_WORDLIKE.search(run)]
    # Soft hyphens and zero width spaces show nothing, and would hide an exam's text within.
    normal = unicodedata.normalize("NFKC", _UNSEEN.sub("", line)).casefold()
    pieces = (piece for run in _RUN.findall(normal) for piece in _BOUNDARY.split(run))
    # regex keeps an opening apostrophe at a vowel: 'apple' must be the word that apple is.
    return [piece.strip("'\u2019") for piece in pieces if piece and _WORDLIKE.search(piece)]


def ngrams(tokens: list[str], size: int) -> set[str]:
    """Return the set of runs of `size` words; a text shorter than that gives its whole self."""
    if not tokens:
        return set()
    last = max(len(tokens) - size, 0)
    return {" ".join(tokens[start : start + size]) for start in range(last + 1)}


def terms(text: str) -> list[str]:
    """Split text into search terms, in order: words cut at joints, English plurals taken off.

    `os.path` gives `os` and `path`; the plural rule is Harman's S-stemmer (1991), light enough
    to do no harm in other languages. No stop words: their inverse document frequency is small.
    """
    return [term for word in words(text) for term in _terms(word)]


@lru_cache(maxsize=1 << 16)
def _terms(word: str) -> tuple[str, ...]:
    parts = (part.removesuffix("'s").removesuffix("\u2019s") for part in _JOINT.split(word))
    return tuple(_singular(part)[:MAX_TERM_CHARACTERS] for part in parts if part)


def _singular(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(("us", "ss")):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    return word[:-1]
