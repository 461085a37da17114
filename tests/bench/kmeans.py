"""Spherical k-means beside faiss: same points, same K, as many passes, at equal loss.

Ours stops when a pass is no longer worth it; faiss then makes exactly as many passes, the last
assignment included, over all points. The losses are compared by one function, on the centroids that
each side returned.
"""

import os
from itertools import cycle

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from services.sampler.cluster import assign, default_num_clusters, spherical_kmeans
from tests.bench import environment, limits
from tests.bench.measure import interleaved, seconds
from tests.bench.table import Row

_DIMENSIONS = 128
_TOLERANCE = 1e-3
"""Mean cosine that may be lost and still count as equal."""

Floats = NDArray[np.float32]


def run(quick: bool) -> list[Row]:
    num_points, repeats = (3_000, 2) if quick else (50_000, 5)
    kernels = _load_faiss()
    return [
        _compared("planted clusters", _planted(num_points), repeats, kernels),
        _compared("like TF-IDF and SVD", _topics(num_points), repeats, kernels),
    ]


def _load_faiss() -> str:
    """Load faiss so that it multiplies as well as it can; return both sides' kernels.

    Its wheel carries an OpenBLAS of 2021, which takes a processor that it does not know for the
    oldest of its maker and is then half as fast. So it is told what numpy's newer one found, which
    is loaded before and keeps its own choice; a name that it does not know it ignores.
    """
    os.environ["OPENBLAS_CORETYPE"] = next(
        library["architecture"]
        for library in threadpool_info()
        if library["internal_api"] == "openblas"
    )
    import faiss

    faiss.omp_set_num_threads(environment.num_threads())
    found = {
        f"{library['architecture']} ({'faiss' if 'faiss' in library['filepath'] else 'ours'})"
        for library in threadpool_info()
        if library["internal_api"] == "openblas"
    }
    return ", ".join(sorted(found))


def _compared(name: str, points: Floats, repeats: int, kernels: str) -> Row:
    num_clusters = default_num_clusters(len(points))
    # One unlucky seeding says little: every repeat has a seed of its own.
    seeds = range(repeats)
    ours = [spherical_kmeans(points, num_clusters, seed=seed) for seed in seeds]
    passes = [len(each.losses) for each in ours]
    peers = [_faiss(points, num_clusters, seed, passes[seed]) for seed in seeds]
    mine = [_cosine(points, each.centroids) for each in ours]
    theirs = [_cosine(points, each) for each in peers]
    reached = [
        1 + sum(loss > 1 - cosine for loss in each.losses)
        for each, cosine in zip(ours, theirs, strict=True)
        if min(each.losses) <= 1 - cosine
    ]
    turns = {"ours": cycle(seeds), "peer": cycle(seeds)}

    def ours_once() -> None:
        spherical_kmeans(points, num_clusters, seed=next(turns["ours"]))

    def peer_once() -> None:
        seed = next(turns["peer"])
        _faiss(points, num_clusters, seed, passes[seed])

    figures = interleaved(
        {"ours": lambda: seconds(ours_once), "peer": lambda: seconds(peer_once)},
        repeats=repeats,
        warm_ups=0,  # they are warm from above
    )
    products = 2 * np.median(passes) * len(points) * num_clusters * _DIMENSIONS
    return Row(
        benchmark=f"spherical k-means, {name}",
        unit="s",
        lower_is_better=True,
        peer_name="faiss-cpu `Kmeans(spherical=True)`",
        limit=limits.exactly(products / limits.numpy_flops()),
        limit_name="its products of matrices alone",
        goal="not slower at equal loss",
        met=bool(
            figures["ours"].median <= figures["peer"].median
            and np.mean(mine) >= np.mean(theirs) - _TOLERANCE
        ),
        threads=environment.num_threads(),
        notes=(
            f"{len(points):,} x {_DIMENSIONS}, K = {num_clusters}, {min(passes)} to {max(passes)} "
            f"passes; mean cosine over {repeats} seeds {np.mean(mine):.4f} ours, "
            f"{np.mean(theirs):.4f} faiss; ours reaches faiss's with {len(reached)} of them, after "
            f"{', '.join(map(str, reached)) or 'no'} passes; OpenBLAS kernels {kernels}"
        ),
        **figures,
    )


def _faiss(points: Floats, num_clusters: int, seed: int, passes: int) -> Floats:
    import faiss

    kmeans = faiss.Kmeans(
        _DIMENSIONS,
        num_clusters,
        niter=passes - 1,
        spherical=True,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
    )
    kmeans.train(points)
    kmeans.assign(points)
    return np.asarray(kmeans.centroids, dtype=np.float32)


def _cosine(points: Floats, centroids: Floats) -> float:
    """Return the mean cosine of points with their nearest centroids."""
    return float(assign(points, centroids).cosines.mean(dtype=np.float64))


def _planted(num_points: int) -> Floats:
    """Return noisy copies of as many directions as there will be clusters."""
    rng = np.random.default_rng(0)
    shape = default_num_clusters(num_points), _DIMENSIONS
    centres = rng.standard_normal(shape, dtype=np.float32)
    noise = rng.standard_normal((num_points, _DIMENSIONS), dtype=np.float32)
    return _unit(centres[rng.integers(len(centres), size=num_points)] + 0.7 * noise)


def _topics(num_points: int) -> Floats:
    """Return mixtures of a few topics each along axes of falling weight, as an SVD leaves them."""
    rng = np.random.default_rng(0)
    falling = (1 + np.arange(_DIMENSIONS, dtype=np.float32)) ** -0.5
    topics = rng.standard_normal((400, _DIMENSIONS), dtype=np.float32)
    weights = rng.gamma(0.01, size=(num_points, len(topics))).astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True) + 1e-9
    noise = rng.standard_normal((num_points, _DIMENSIONS), dtype=np.float32)
    return _unit((weights @ topics + 0.3 * noise) * falling)


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
