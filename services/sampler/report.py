"""What a person sees of a clustering and of a plan, in figures and in blocks for the report.

The distribution metrics are those of the specification's protocol: how even the draws are over
clusters, how much of the text is seen, and how often anything is repeated.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libs.blocks import Block, Line
from services.sampler.cluster import Clustering
from services.sampler.plan import Plan, PlanSpec, Source

_ROWS = 20
"""Clusters shown; the files have the rest."""


@dataclass(frozen=True, kw_only=True)
class ClusterShare:
    """One cluster in `plan.json`, tokens with separators."""

    cluster: int
    num_passages: int
    num_tokens: int
    planned_tokens: int
    """Drawn from it, replay apart."""
    weight: float
    """Of the target's tokens."""
    repetitions: float
    """Times that its text is seen."""
    clipped: bool
    top_terms: tuple[str, ...]


def cluster_shares(
    plan: Plan, target: Source, terms: Sequence[Sequence[str]]
) -> tuple[ClusterShare, ...]:
    """Count what the plan really draws of each cluster; `terms` may be empty."""
    costs = target.costs
    drawn = np.diff(plan.ends, prepend=0)[~plan.is_replay]
    labels = target.labels[plan.draws[~plan.is_replay]]
    planned = np.bincount(labels, weights=drawn, minlength=len(costs)).astype(np.int64)
    sizes = np.bincount(target.labels, minlength=len(costs))
    return tuple(
        ClusterShare(
            cluster=k,
            num_passages=int(sizes[k]),
            num_tokens=int(costs[k]),
            planned_tokens=int(planned[k]),
            weight=float(planned[k] / max(planned.sum(), 1)),
            repetitions=float(planned[k] / max(costs[k], 1)),
            clipped=bool(plan.allocation.clipped[k]),
            top_terms=tuple(terms[k]) if terms else (),
        )
        for k in range(len(costs))
    )


def plan_figures(plan: Plan, target: Source, shares: Sequence[ClusterShare]) -> dict[str, float]:
    """Return the distribution metrics of the target's draws."""
    repetitions = np.bincount(plan.draws[~plan.is_replay], minlength=len(target.lengths))
    weights = np.array([share.weight for share in shares])
    return {
        "num_draws": len(plan.draws),
        "num_clusters": len(shares),
        "num_clipped_clusters": sum(share.clipped for share in shares),
        "replay_draws": int(plan.is_replay.sum()),
        "coverage": float((repetitions > 0).mean()),
        "max_repetitions": int(repetitions.max()),
        "evenness": _evenness(weights),
        "gini": _gini(weights),
    }


def _evenness(weights: NDArray[np.float64]) -> float:
    """Entropy over its maximum: 1 when every cluster is drawn alike."""
    drawn = weights[weights > 0]
    return float(-(drawn * np.log(drawn)).sum() / math.log(len(weights))) if len(weights) > 1 else 1


def _gini(weights: NDArray[np.float64]) -> float:
    """0 when every cluster is drawn alike, towards 1 when one takes all."""
    ranks = 2 * np.arange(1, len(weights) + 1) - len(weights) - 1
    return float((ranks * np.sort(weights)).sum() / (len(weights) * max(weights.sum(), 1e-300)))


def plan_blocks(
    spec: PlanSpec, shares: Sequence[ClusterShare], figures: Mapping[str, float]
) -> list[Block]:
    """Describe a plan: what is drawn of which cluster."""
    shown = sorted(shares, key=lambda share: (-share.planned_tokens, share.cluster))[:_ROWS]
    replay = f", {spec.replay_share:.0%} of them replay" if spec.replay_tokens else ""
    clip = "unclipped" if spec.limit is None else f"each passage at most {spec.limit} times"
    text = (
        f"{spec.budget_tokens:,} tokens{replay}, {spec.weighting.replace('_', ' ')}, {clip}. "
        f"{figures['num_clipped_clusters']:.0f} of {len(shares)} clusters are clipped; "
        f"{figures['coverage']:.0%} of the passages are seen."
    )
    rows = [
        (
            share.cluster,
            ", ".join(share.top_terms),
            share.num_passages,
            share.planned_tokens,
            round(share.weight, 4),
            round(share.repetitions, 2),
            "clipped" if share.clipped else "",
        )
        for share in shown
    ]
    columns = ("cluster", "terms", "passages", "tokens", "weight", "times seen", "")
    return [Block(kind="table", title="What is drawn", text=text, columns=columns, rows=rows)]


def starved_blocks(reason: str) -> list[Block]:
    """Describe why there is nothing to stream."""
    return [Block(kind="text", title="Starved", text=reason)]


def clustering_figures(found: Clustering) -> dict[str, float]:
    """Return how many clusters there are, how even, and how tight."""
    sizes = found.sizes
    return {
        "num_passages": len(found.labels),
        "num_clusters": len(sizes),
        "largest_cluster": int(sizes.max()),
        "smallest_cluster": int(sizes.min()),
        "mean_cosine": float(found.cosines.mean(dtype=np.float64)),
        "passes": len(found.losses),
    }


def clustering_blocks(found: Clustering, terms: Sequence[Sequence[str]]) -> list[Block]:
    """Describe a clustering: the largest clusters by their terms, and the loss of each pass."""
    sizes = found.sizes
    text = (
        f"{len(found.labels):,} passages in {len(sizes)} clusters of {sizes.min()} to "
        f"{sizes.max()}; mean cosine to the centroid {found.cosines.mean(dtype=np.float64):.3f}."
    )
    rows = [(k, ", ".join(terms[k]), int(sizes[k])) for k in range(min(_ROWS, len(sizes)))]
    passes = list(range(1, len(found.losses) + 1))
    return [
        Block(
            kind="table",
            title="Clusters",
            text=text,
            columns=("cluster", "terms", "passages"),
            rows=rows,
        ),
        Block(
            kind="lines",
            title="Clustering",
            text="Mean of 1 - cosine to the nearest centroid; lower is tighter.",
            lines=[Line("loss", passes, list(found.losses))],
            x_label="pass",
            y_label="1 - cosine",
        ),
    ]
