"""Makes a plan: how much of each cluster, in which order, with replay woven in.

A plan is a list of draws and where each one ends in the stream of tokens, a separator after every
passage; the last draw is cut at the budget. Together with the tokens it determines every sequence
that the trainer sees, so nothing is drawn while training.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from libs.errors import InvalidInput
from services.sampler.clip import MAX_BUDGET, Allocation, Shortfall, allocate
from services.sampler.schedule import interleave, order

DEFAULT_CLIP = 5
MAX_CLIP = 1_000_000

Ints = NDArray[np.int64]


class Weighting(StrEnum):
    """How clusters are weighted."""

    CLUSTER_CLIP = "cluster_clip"
    """Equal until clipped."""
    UNIFORM = "uniform"
    """Equal, never clipped."""
    PROPORTIONAL = "proportional"
    """By size: one permutation of all passages, no more than `clip` times over."""


@dataclass(frozen=True, kw_only=True)
class PlanSpec:
    """What to plan. Raises `InvalidInput` for what no passages could satisfy."""

    weighting: Weighting
    budget_tokens: int
    """In all, replay and separators included."""
    clip: int = DEFAULT_CLIP
    """Times that a passage may be drawn, by target and by replay; `UNIFORM` ignores it."""
    replay_share: float = 0.0
    """Of the budget, in [0, 1)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.budget_tokens <= MAX_BUDGET:
            raise InvalidInput(
                f"budget_tokens must lie in [1, {MAX_BUDGET:,}], got {self.budget_tokens:,}"
            )
        if not 1 <= self.clip <= MAX_CLIP:
            raise InvalidInput(f"clip must lie in [1, {MAX_CLIP:,}], got {self.clip:,}")
        if not 0 <= self.replay_share < 1:
            raise InvalidInput(f"replay_share must lie in [0, 1), got {self.replay_share}")

    @property
    def limit(self) -> int | None:
        """Repetitions allowed; None: any number."""
        return None if self.weighting is Weighting.UNIFORM else self.clip

    @property
    def replay_tokens(self) -> int:
        """Tokens of the budget that are replay's; the target keeps at least one."""
        return min(round(self.replay_share * self.budget_tokens), self.budget_tokens - 1)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Passages to draw from, N of them."""

    lengths: Ints
    """Tokens that a draw costs, separator included, shape (N,)."""
    labels: Ints
    """Cluster of each, shape (N,)."""

    @classmethod
    def unclustered(cls, lengths: Ints) -> "Source":
        """Passages in one cluster: drawn by size, along one permutation."""
        return cls(lengths=lengths, labels=np.zeros(len(lengths), dtype=np.int64))

    @property
    def costs(self) -> Ints:
        """Tokens of each cluster, shape (K,), K at least 1."""
        costs = np.bincount(self.labels, weights=self.lengths, minlength=1)
        return np.asarray(costs, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The draws, T of them."""

    draws: Ints
    """Index of the passage, shape (T,); replay's are offset by the number of target passages."""
    ends: Ints
    """Tokens of the stream up to the end of each draw, shape (T,); the last is the budget."""
    allocation: Allocation
    """Of the target's tokens over its clusters."""
    is_replay: NDArray[np.bool_]
    """Shape (T,)."""


@dataclass(frozen=True, kw_only=True)
class Starved:
    """There is not enough to draw from under the clip."""

    reason: str


def make_plan(spec: PlanSpec, target: Source, replay: Source | None = None) -> Plan | Starved:
    """Plan the stream; `replay` is needed where `spec` gives it a share.

    Raises:
        InvalidInput: the plan would have too many draws, or a share of replay and no replay.
    """
    allocation = allocate(target.costs, spec.budget_tokens - spec.replay_tokens, clip=spec.limit)
    if isinstance(allocation, Shortfall):
        return Starved(reason=f"Not enough text: {allocation.sentence('tokens')}.")
    if not spec.replay_tokens:
        draws = _ordered(target, allocation, spec, stream=0)
        return _cut(draws, np.zeros(len(draws), dtype=np.bool_), target.lengths, allocation, spec)
    if replay is None:
        raise InvalidInput(f"a replay_share of {spec.replay_share} needs replay tokens, got none")
    beside = allocate(replay.costs, spec.replay_tokens, clip=spec.limit)
    if isinstance(beside, Shortfall):
        return Starved(reason=f"Not enough replay: {beside.sentence('tokens')}.")
    # Either side may be one draw ahead when the budget ends, so both are ordered a draw further.
    spare = int(max(target.lengths.max(), replay.lengths.max()))
    of_target = _ordered(target, _stretched(target, allocation, spare, spec), spec, stream=0)
    of_replay = _ordered(replay, _stretched(replay, beside, spare, spec), spec, stream=1)
    is_replay = interleave(target.lengths[of_target], replay.lengths[of_replay], spec.replay_share)
    draws = np.empty(len(is_replay), dtype=np.int64)
    draws[~is_replay] = of_target
    draws[is_replay] = of_replay + len(target.lengths)
    lengths = np.concatenate([target.lengths, replay.lengths])
    return _cut(draws, is_replay, lengths, allocation, spec)


def _ordered(source: Source, share: Allocation, spec: PlanSpec, *, stream: int) -> Ints:
    return order(
        source.labels,
        source.lengths,
        level=share.level,
        clip=spec.limit,
        budget=share.budget,
        # Above the 64 bits of a seed, so that the two orders have nothing in common.
        seed=spec.seed | stream << 64,
    )


def _stretched(source: Source, share: Allocation, spare: int, spec: PlanSpec) -> Allocation:
    """Allocate `spare` tokens more, or all that the clip allows."""
    costs = source.costs
    allowed = share.budget + spare
    if spec.limit is not None:
        allowed = min(allowed, spec.limit * int(costs.sum()))
    stretched = allocate(costs, allowed, clip=spec.limit)
    assert isinstance(stretched, Allocation)
    return stretched


def _cut(
    draws: Ints,
    is_replay: NDArray[np.bool_],
    lengths: Ints,
    allocation: Allocation,
    spec: PlanSpec,
) -> Plan:
    """End the stream at the budget."""
    ends = np.cumsum(lengths[draws])
    num_draws = int(np.searchsorted(ends, spec.budget_tokens)) + 1
    ends = ends[:num_draws]
    ends[-1] = spec.budget_tokens
    return Plan(
        draws=draws[:num_draws],
        ends=ends,
        allocation=allocation,
        is_replay=is_replay[:num_draws],
    )
