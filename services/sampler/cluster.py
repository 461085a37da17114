"""Spherical k-means: groups unit vectors by the direction they point in.

ClusterClip needs clusters of like size in meaning, not in number. Points and centroids are unit
vectors and the distance is 1 - cosine. Each pass assigns every point to its nearest centroid by
one matrix product a block and moves each centroid to the normalised mean of its points; neither
can raise the loss.

Deviations from the official release, all stated in its own terms: seeds by k-means++ instead of
random points; an empty cluster is reseeded from the worst served points instead of keeping a
stale centroid; centroids, labels and cosines all belong to the best pass (the release aliases a
tensor that later passes overwrite, and keeps the labels of the last pass).

Sources: ClusterClip Sampling (arXiv:2402.14526); Dhillon and Modha 2001 for spherical k-means;
Arthur and Vassilvitskii 2007 for k-means++; Cohen-Addad and others 2020 for its rejection sampling.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from libs.errors import InvalidInput
from services.sampler.blas import one_blas_thread

Floats = NDArray[np.float32]

_BLOCK_ROWS = 2048
"""Points that one thread compares at once; fixed, so that the number of threads changes no bit."""
_SAME = 4e-6
"""Distance below which two float32 unit vectors are the same point."""
_SEEDING_SAMPLE = 32
"""Points per cluster that k-means++ looks at; it costs a pass over them for every seed."""
_SEEDS_AT_ONCE = 16
"""Candidates that one product compares with all points; most are kept."""
_TOLERANCE = 1e-4
"""Relative improvement of the loss below which a pass was not worth it."""


@dataclass(frozen=True, kw_only=True)
class Clustering:
    """The best pass. Clusters are numbered by falling size and none is empty."""

    labels: NDArray[np.int32]
    """Cluster of each point, shape (N,)."""
    cosines: Floats
    """Of each point with its centroid, shape (N,)."""
    centroids: Floats
    """Unit vectors, shape (K, D)."""
    losses: tuple[float, ...]
    """Mean of 1 - cosine in each pass, against the centroids that the pass began with."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Points of each cluster, shape (K,)."""
        return np.bincount(self.labels, minlength=len(self.centroids))


class Assignment(NamedTuple):
    """Nearest centroid of each point, and the cosine with it; shapes (N,)."""

    labels: NDArray[np.int32]
    cosines: Floats

    @property
    def loss(self) -> float:
        """Mean of 1 - cosine."""
        return 1.0 - float(self.cosines.mean(dtype=np.float64))


def default_num_clusters(num_points: int) -> int:
    """K where nobody chose it: clamp(round(sqrt(N)), 8, 2000), at most N."""
    return min(num_points, max(8, min(2000, round(math.sqrt(num_points)))))


def spherical_kmeans(
    points: Floats,
    num_clusters: int,
    *,
    seed: int,
    max_passes: int = 50,
    on_pass: Callable[[int, float], None] = lambda _pass, _loss: None,
) -> Clustering:
    """Cluster unit vectors. Same points and seed: same bits, on any number of threads.

    Args:
        points: shape (N, D), float32, rows of length 1.
        num_clusters: K wanted; there are never more than distinct points.
        seed: of the seeding; passes are deterministic.
        max_passes: passes over the points at most.
        on_pass: called after each pass with its number, from 1, and its loss.

    Raises:
        InvalidInput: no points, or `num_clusters` or `max_passes` is below 1.
    """
    if min(len(points), num_clusters, max_passes) < 1:
        raise InvalidInput(
            f"points, clusters and passes must be at least 1, got {len(points)}, "
            f"{num_clusters} and {max_passes}"
        )
    with one_blas_thread():
        return _clustered(points, num_clusters, seed, max_passes, on_pass)


def _clustered(
    points: Floats,
    num_clusters: int,
    seed: int,
    max_passes: int,
    on_pass: Callable[[int, float], None],
) -> Clustering:
    centroids = choose_seeds(points, num_clusters, seed=seed)
    best, best_centroids = assign(points, centroids), centroids
    losses = [best.loss]
    on_pass(1, best.loss)
    current = best
    while len(losses) < max_passes:
        centroids = update(points, current, centroids)
        current = assign(points, centroids)
        losses.append(current.loss)
        on_pass(len(losses), current.loss)
        if current.loss < best.loss:
            best, best_centroids = current, centroids
        if losses[-2] - losses[-1] <= _TOLERANCE * losses[-2]:
            break
    return _numbered_by_size(best, best_centroids, losses)


def choose_seeds(points: Floats, num_clusters: int, *, seed: int) -> Floats:
    """Choose distinct points by k-means++, from a sample where there are many points.

    Returns:
        Shape (K', D); K' < `num_clusters` only if there are no more distinct points.
    """
    rng = np.random.default_rng(seed)
    sample_size = max(_SEEDING_SAMPLE * num_clusters, 4096)
    if len(points) <= sample_size:
        return _plus_plus(points, points[:0], num_clusters, rng)
    sample = points[np.sort(rng.choice(len(points), sample_size, replace=False))]
    seeds = _plus_plus(sample, points[:0], num_clusters, rng)
    # A sample of many duplicates may run out of distinct points before everything does.
    return seeds if len(seeds) == num_clusters else _plus_plus(points, seeds, num_clusters, rng)


def assign(points: Floats, centroids: Floats, *, num_threads: int = 2) -> Assignment:
    """Give every point its nearest centroid; the lowest number wins a tie.

    The threads share blocks of points; how many there are changes no bit.
    """
    labels = np.empty(len(points), dtype=np.int32)
    cosines = np.empty(len(points), dtype=np.float32)

    def fill(start: int) -> None:
        block = slice(start, start + _BLOCK_ROWS)
        products = points[block] @ centroids.T
        labels[block] = products.argmax(axis=1)
        cosines[block] = np.take_along_axis(products, labels[block, None], axis=1)[:, 0]

    with one_blas_thread(), ThreadPoolExecutor(num_threads) as pool:
        for _ in pool.map(fill, range(0, len(points), _BLOCK_ROWS)):
            pass
    return Assignment(labels, cosines)


def update(points: Floats, current: Assignment, centroids: Floats) -> Floats:
    """Return new centroids: the normalised mean of each cluster's points.

    An empty cluster takes the worst served point that its cluster can spare. A cluster whose
    points cancel out keeps its centroid.
    """
    labels = _fill_empty(current, len(centroids))
    one = np.ones(len(points), dtype=np.float32)
    rows = np.arange(len(points) + 1)
    members = sparse.csr_matrix((one, labels, rows), shape=(len(points), len(centroids))).T
    sums = np.asarray(members @ points)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    moved: Floats = np.where(norms > 0, sums / np.where(norms > 0, norms, 1), centroids)
    return moved


def _fill_empty(current: Assignment, num_clusters: int) -> NDArray[np.int32]:
    sizes = np.bincount(current.labels, minlength=num_clusters)
    empty = np.flatnonzero(sizes == 0)
    if not len(empty):
        return current.labels
    labels = current.labels.copy()
    worst_first = iter(np.argsort(current.cosines, kind="stable"))
    for cluster in empty:
        point = next(point for point in worst_first if sizes[labels[point]] > 1)
        sizes[labels[point]] -= 1
        labels[point] = cluster
    return labels


def _plus_plus(
    points: Floats, seeds: Floats, num_clusters: int, rng: np.random.Generator
) -> Floats:
    """Add seeds, each drawn with probability proportional to its distance to those before it.

    1 - cosine is half the squared Euclidean distance of unit vectors, as k-means++ asks for.

    Candidates are drawn some at a time from the distances as they are, so that one product serves
    all; each is kept with probability its distance now over that it was drawn by, which leaves the
    distribution what drawing one by one gives (rejection sampling).
    """
    chosen = list(seeds)
    nearest = np.ones(len(points), dtype=np.float32)
    for start in range(0, len(chosen), _SEEDS_AT_ONCE):
        known = _distances(points, seeds[start : start + _SEEDS_AT_ONCE])
        np.minimum(nearest, known.min(axis=0), out=nearest)
    while len(chosen) < num_clusters:
        mass = np.cumsum(nearest, dtype=np.float64)
        if mass[-1] == 0:
            break
        num_drawn = min(_SEEDS_AT_ONCE, num_clusters - len(chosen))
        picks = np.searchsorted(mass, rng.random(num_drawn) * mass[-1], side="right")
        picks = np.minimum(picks, len(points) - 1)
        thresholds = rng.random(num_drawn) * nearest[picks]
        distances = _distances(points, points[picks])
        for pick, threshold, distance in zip(picks, thresholds, distances, strict=True):
            if nearest[pick] > threshold:
                chosen.append(points[pick])
                np.minimum(nearest, distance, out=nearest)
    return np.array(chosen, dtype=np.float32)


def _distances(points: Floats, centres: Floats) -> Floats:
    """Return 1 - cosine of each centre with each point, shape (num_centres, num_points)."""
    distances: Floats = 1 - centres @ points.T
    distances[distances < _SAME] = 0
    return distances


def _numbered_by_size(best: Assignment, centroids: Floats, losses: list[float]) -> Clustering:
    """Number clusters by falling size and leave out those that ended without points."""
    sizes = np.bincount(best.labels, minlength=len(centroids))
    by_size = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    number = np.empty(len(centroids), dtype=np.int32)
    number[by_size] = np.arange(len(by_size), dtype=np.int32)
    return Clustering(
        labels=number[best.labels],
        cosines=best.cosines,
        centroids=centroids[by_size],
        losses=tuple(losses),
    )
