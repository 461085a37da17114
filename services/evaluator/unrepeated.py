"""Finds the passages that nothing else on the site repeats.

Holding such a passage out leaves no copy of the answer in the index, so an exam made of them
asks for knowledge and not for memory of a duplicate.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from libs.words import words

NGRAM_WORDS = 13
"""The overlap that decontamination looks for; see `libs.formats.Certificate`."""


def unrepeated(texts: Sequence[str], size: int = NGRAM_WORDS) -> npt.NDArray[np.bool_]:
    """Say of each text whether it shares no run of `size` words with any other.

    Two equal texts repeat each other; a run that comes twice in one text only does not. A text
    shorter than `size` words has no such run, so nothing is known of it and it is False.

    Runs are compared by a 64-bit hash: for the two million runs of a site of 12 MB the chance of
    any collision is about 1e-7, and a collision only leaves a passage out.

    Returns:
        Shape (len(texts),).
    """
    ids, lengths = _word_ids(texts, size)
    owners = np.repeat(np.arange(len(texts)), lengths)
    runs = _run_hashes(ids, size)
    # A run must end in the passage that it begins in.
    inside = owners[: len(runs)] == owners[size - 1 :] if len(runs) else np.zeros(0, dtype=bool)
    runs, owners = runs[inside], owners[: len(runs)][inside]
    good = lengths >= size
    good[_owners_of_shared(runs, owners)] = False
    return good


def _word_ids(
    texts: Sequence[str], size: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return a random 64-bit number for every word, all texts in a row, and the texts' lengths."""
    vocabulary: dict[str, int] = {}
    lengths, numbers = [], []
    for text in texts:
        tokens = words(text)
        lengths.append(len(tokens))
        numbers += [vocabulary.setdefault(token, len(vocabulary)) for token in tokens]
    random = np.random.default_rng(size).integers(
        0, 2**64, size=max(len(vocabulary), 1), dtype=np.uint64
    )
    return random[np.array(numbers, dtype=np.int64)], np.array(lengths, dtype=np.int64)


def _run_hashes(ids: npt.NDArray[np.uint64], size: int) -> npt.NDArray[np.uint64]:
    """Hash every run of `size` words: sum of word times an odd number for its place, mod 2**64."""
    num_runs = max(len(ids) - size + 1, 0)
    places = np.random.default_rng(0).integers(0, 2**63, size=size, dtype=np.uint64) * 2 + 1
    runs = np.zeros(num_runs, dtype=np.uint64)
    for place, odd in enumerate(places):
        runs += ids[place : place + num_runs] * odd
    return runs


def _owners_of_shared(
    runs: npt.NDArray[np.uint64], owners: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the texts that have a run which another text has too, with repetitions."""
    order = np.lexsort((owners, runs))
    runs, owners = runs[order], owners[order]
    same = (runs[1:] == runs[:-1]) & (owners[1:] != owners[:-1])
    # Sorted by owner within a run, a run of several owners has a step in front of each but the
    # first; both sides of a step are shared, so every owner is seen.
    return np.concatenate([owners[1:][same], owners[:-1][same]])
