"""How a training steps: batch, learning rate by step, decay, clipping, threads and seed.

Everything that decides a training's bits beside the data and the first weights is in here.
"""

import math
from dataclasses import dataclass

from libs.errors import InvalidInput


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One training's numbers; refused when they make no sense."""

    batch_size: int
    """Sequences in a batch."""
    sequence_length: int
    """Tokens of a sequence; all but the first are predicted."""
    learning_rate: float
    """Peak."""
    warmup_steps: int = 0
    """Steps over which the rate rises linearly to its peak."""
    weight_decay: float = 0.0
    """AdamW's decoupled decay, on matrices only: not on biases and gains of norms."""
    max_grad_norm: float = 0.0
    """Norm to which gradients are clipped; 0: not clipped."""
    num_threads: int = 1
    """Threads of the arithmetic; other numbers give other bits."""
    seed: int = 0
    """Of initial weights and dropout."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InvalidInput(f"batch_size must be at least 1, got {self.batch_size}")
        if self.sequence_length < 2:
            raise InvalidInput(f"sequence_length must be at least 2, got {self.sequence_length}")
        if not 0 < self.learning_rate < math.inf:
            raise InvalidInput(f"learning_rate must be positive, got {self.learning_rate}")
        for name in ("weight_decay", "max_grad_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidInput(f"{name} must not be negative, got {getattr(self, name)}")
        if self.num_threads < 1:
            raise InvalidInput(f"num_threads must be at least 1, got {self.num_threads}")
        if self.seed >= 1 << 63:
            raise InvalidInput(f"seed must lie below 2^63, got {self.seed}")


def num_steps(num_positions: int, batch_size: int) -> int:
    """Return the batches that `num_positions` sequences fill, the last one maybe in part."""
    return -(-num_positions // batch_size)


def learning_rate(schedule: Schedule, step: int, num_steps: int) -> float:
    """Return the rate of a step, from 0: linear warm-up, then a cosine down to a tenth of the peak.

    The first step has a rate above 0 and the last one a tenth of the peak.
    """
    peak, warmup = schedule.learning_rate, schedule.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, num_steps - 1 - warmup)
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))
