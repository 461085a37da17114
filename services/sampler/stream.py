"""Reads a plan as packed sequences, from any position, always the same ones.

The stream is the plan's draws one after the other, a separator after each passage. Position p of
length L holds the stream's tokens [p L, (p + 1) L); what is left at the end is dropped. Any
position is found by a binary search over the draws' ends, so to resume is to name a position:
there is no state to save.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from libs.errors import Conflict, Corrupt, InvalidInput
from libs.formats import read_json
from services.sampler.tokens import TOKEN_TYPE, Folder, Tokens

MAX_BATCH_BYTES = 8 << 20
"""Of tokens in one batch; a gRPC message holds 16 MiB."""


class Batch(NamedTuple):
    """Sequences that follow one another."""

    position: int
    """Global position of the first."""
    tokens: NDArray[np.uint32]
    """Shape (num_sequences, sequence_length)."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which part of a stream, cut how. Raises `InvalidInput` when it cannot be."""

    sequence_length: int
    batch_size: int
    from_position: int = 0
    every: int = 1
    """Only each so many-th batch, the first included: one reader's share of several."""

    def __post_init__(self) -> None:
        if min(self.sequence_length, self.batch_size, self.every) < 1:
            raise InvalidInput(
                "sequence_length, batch_size and every must be at least 1, got "
                f"{self.sequence_length}, {self.batch_size} and {self.every}"
            )
        size_bytes = self.sequence_length * self.batch_size * TOKEN_TYPE.itemsize
        if size_bytes > MAX_BATCH_BYTES:
            raise InvalidInput(
                f"a batch may have {MAX_BATCH_BYTES:,} bytes of tokens, "
                f"{self.batch_size} sequences of {self.sequence_length} have {size_bytes:,}"
            )


class _Drawn(NamedTuple):
    """Draws that follow one another, each of shape (M,); places count from the window's start."""

    passages: NDArray[np.int64]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]

    def only(self, chosen: NDArray[np.bool_], *, offset: int = 0) -> "_Drawn":
        """Return the chosen draws, `offset` taken off their passages."""
        return _Drawn(self.passages[chosen] - offset, self.begins[chosen], self.ends[chosen])


@dataclass(frozen=True, kw_only=True)
class PackedStream:
    """A plan and the tokens it draws from; safe to read by many threads at once."""

    draws: NDArray[np.int64]
    """Passage of each draw, shape (T,); replay's are offset by the target's passages."""
    ends: NDArray[np.int64]
    """Tokens of the stream up to the end of each draw, shape (T,), rising."""
    target: Tokens
    replay: Tokens | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole stream."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def num_positions(self, sequence_length: int) -> int:
        """Whole sequences in the stream."""
        return self.num_tokens // sequence_length

    def read(self, start: int, stop: int) -> NDArray[np.uint32]:
        """Return the stream's tokens [start, stop), 0 <= start <= stop <= num_tokens."""
        tokens = np.empty(stop - start, dtype=TOKEN_TYPE)
        first, last = np.searchsorted(self.ends, [start, stop], side="right").tolist()
        passages, ends = self.draws[first : last + 1], self.ends[first : last + 1]
        before = self.ends[first - 1] if first else 0
        drawn = _Drawn(passages, np.concatenate([[before], ends])[:-1] - start, ends - start)
        num_target = len(self.target.offsets) - 1
        if self.replay is not None:
            replayed = passages >= num_target
            _write(tokens, self.replay, drawn.only(replayed, offset=num_target))
            drawn = drawn.only(~replayed)
        _write(tokens, self.target, drawn)
        return tokens

    def batches(self, window: Window) -> Iterator[Batch]:
        """Yield batches from a position on; the last may hold fewer sequences.

        A reader's share, or what comes after its last batch, may begin beyond the end: then there
        is nothing to yield.

        Raises:
            InvalidInput: the position lies further beyond the end than any share begins.
        """
        length, size = window.sequence_length, window.batch_size
        num_positions = self.num_positions(length)
        stride = size * window.every
        if window.from_position >= num_positions + stride:
            raise InvalidInput(
                f"from_position must lie in [0, {num_positions}], got {window.from_position}"
            )
        for position in range(window.from_position, num_positions, stride):
            stop = min(position + size, num_positions)
            tokens = self.read(position * length, stop * length)
            yield Batch(position, tokens.reshape(-1, length))


def _write(out: NDArray[np.uint32], source: Tokens, drawn: _Drawn) -> None:
    """Write each draw's passage and the separator after it, as far as they lie within `out`."""
    froms = source.offsets[drawn.passages]
    separators = drawn.begins + source.offsets[drawn.passages + 1] - froms
    stops = np.minimum(drawn.ends, len(out))
    # A draw cut at the budget, or at the end of `out`, has no separator.
    out[separators[(separators >= 0) & (separators < stops)]] = source.info.eos_token_id
    lows, highs = np.maximum(drawn.begins, 0), np.minimum(separators, stops)
    tokens = source.tokens
    for low, high, shift in zip(
        lows.tolist(), highs.tolist(), (froms - drawn.begins).tolist(), strict=True
    ):
        out[low:high] = tokens[low + shift : high + shift]


def open_stream(plan: Folder, target: Tokens, replay: Tokens | None) -> PackedStream:
    """Open the draws of an artifact of kind `plan` over the tokens that it names.

    Raises:
        Conflict: the plan was starved: there is nothing to stream.
        Corrupt: draws and tokens do not fit together.
    """
    starved = read_json(plan.path("plan.json"))["starved"]
    if starved:
        raise Conflict(f"expected a plan with draws, this one is starved: {starved}")
    # Plain arrays over the maps: a slice of a `memmap` costs ten times as much.
    draws = np.asarray(np.load(plan.path("draws.npy"), mmap_mode="r"))
    ends = np.asarray(np.load(plan.path("ends.npy"), mmap_mode="r"))
    num_passages = sum(len(each.offsets) - 1 for each in (target, replay) if each is not None)
    if len(draws) != len(ends) or int(draws.max(initial=0)) >= num_passages:
        raise Corrupt(
            f"a plan of {len(draws)} draws and {len(ends)} ends does not fit {num_passages} "
            "passages"
        )
    return PackedStream(draws=draws, ends=ends, target=target, replay=replay)
