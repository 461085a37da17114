"""What the trainer needs from the outside, in its own words."""

from collections.abc import Generator
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class Batch(NamedTuple):
    """Packed sequences of a plan."""

    position: int
    """Of the first sequence in the whole stream, from 0."""
    tokens: npt.NDArray[np.uint32]
    """Token ids, shape (num_sequences, sequence_length)."""
    num_positions: int
    """Sequences in the whole stream."""


class Batches(Protocol):
    """Streams of plans: the same arguments give the same batches, always."""

    def batches(
        self, plan_id: str, *, sequence_length: int, batch_size: int, from_position: int
    ) -> Generator[Batch, None, None]:
        """Yield the plan's batches from a position on, to the end.

        Every batch has `batch_size` sequences but the last one. A plan shorter than a sequence
        has no batches. Closing the generator ends the stream.

        Raises:
            NotFound: there is no such plan.
            Unavailable, DeadlineExceeded: whoever streams did not answer for long.
        """
        ...
