"""Keep exams out of training: find passages that share a run of words with an exam's text.

Thirteen words in a row, as GPT-3 (Brown et al. 2020, appendix C) looked for; an exam text shorter
than that counts where the whole of it stands in a passage. Words are those of `libs.words`.
Not protected against: paraphrase, translation, and short answers that are spelled differently.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from libs.formats import Certificate, ids_sha256
from libs.words import VERSION, words
from services.corpus.addresses import sha256

NGRAM_WORDS = 13
Tokens = tuple[str, ...]


class Exams:
    """The texts of a frozen set of exams, ready to be looked for."""

    def __init__(self, texts: Iterable[Mapping[str, Any]]) -> None:
        """Take rows of `libs.formats.EXAM_TEXTS`."""
        self._item_by_gram: dict[str, str] = {}
        self._short: dict[Tokens, list[tuple[Tokens, str]]] = defaultdict(list)
        items, digests, seen = set(), set(), set()
        for row in texts:
            items.add(row["item_id"])
            digests.add(sha256(row["text"]))
            tokens = tuple(words(row["text"]))
            if tokens and tokens not in seen:
                self._add(tokens, row["item_id"])
            seen.add(tokens)
        self.num_items = len(items)
        self.texts_sha256 = ids_sha256(digests)

    def _add(self, tokens: Tokens, item_id: str) -> None:
        if len(tokens) < NGRAM_WORDS:
            # Found by its first two words: a passage has few places where those begin.
            self._short[tokens[:2]].append((tokens, item_id))
            return
        for start in range(len(tokens) - NGRAM_WORDS + 1):
            gram = " ".join(tokens[start : start + NGRAM_WORDS])
            self._item_by_gram.setdefault(gram, item_id)

    def overlap(self, tokens: Sequence[str]) -> str | None:
        """Return the id of an item whose text stands in a passage of these words, or None."""
        for start in range(len(tokens) - NGRAM_WORDS + 1):
            item = self._item_by_gram.get(" ".join(tokens[start : start + NGRAM_WORDS]))
            if item is not None:
                return item
        return self._short_overlap(tuple(tokens))

    def _short_overlap(self, tokens: Tokens) -> str | None:
        for start in range(len(tokens)):
            for width in (1, 2):
                for text, item in self._short.get(tokens[start : start + width], ()):
                    if tokens[start : start + len(text)] == text:
                        return item
        return None

    def certificate(
        self, exam_set_id: str, passage_ids: Iterable[str], *, num_dropped: int
    ) -> Certificate:
        """Return what certifies that exactly these passages were checked and kept."""
        kept = list(passage_ids)
        return Certificate(
            exam_set_id=exam_set_id,
            passages_sha256=ids_sha256(kept),
            texts_sha256=self.texts_sha256,
            num_passages=len(kept),
            num_items=self.num_items,
            num_dropped=num_dropped,
            ngram_words=NGRAM_WORDS,
            segmenter_version=VERSION,
        )
