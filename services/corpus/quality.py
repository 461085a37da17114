"""Rules that a passage must pass to be trained on: few, named, each with its figure.

After Gopher's rules for documents (Rae et al. 2021, appendix A), loosened to passages and to prose
about programs, where signatures and operators are part of the subject.
"""

import re
from collections import Counter
from collections.abc import Sequence

from services.corpus.refusals import Reason

MIN_LETTER_SHARE = 0.5
"""Of the characters that are no white space; Gopher asks 0.8 of the words to hold a letter."""
MIN_DISTINCT_SHARE = 0.3
"""Distinct words among all of a passage."""
MAX_COMMONEST_SHARE = 0.25
"""The commonest word among all of a passage."""
MAX_MEAN_WORD_CHARACTERS = 14
_SPACE = re.compile(r"\s+")


def fault(text: str, tokens: Sequence[str]) -> tuple[Reason, str] | None:
    """Return the first rule that a passage breaks and the figure that broke it, or None."""
    solid = _SPACE.sub("", text)
    letters = sum(map(str.isalpha, solid)) / max(len(solid), 1)
    if letters < MIN_LETTER_SHARE:
        return Reason.SYMBOLS, f"{letters:.0%} of its characters are letters"
    distinct = len(set(tokens)) / len(tokens)
    commonest = Counter(tokens).most_common(1)[0][1] / len(tokens)
    if distinct < MIN_DISTINCT_SHARE or commonest > MAX_COMMONEST_SHARE:
        return Reason.REPETITIVE, f"{distinct:.0%} of its words are distinct"
    mean = sum(map(len, tokens)) / len(tokens)
    if mean > MAX_MEAN_WORD_CHARACTERS:
        return Reason.LONG_WORDS, f"its words have {mean:.1f} characters on average"
    return None
