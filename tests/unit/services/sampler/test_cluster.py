import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.errors import InvalidInput
from services.sampler import cluster
from services.sampler.cluster import (
    Assignment,
    assign,
    choose_seeds,
    default_num_clusters,
    spherical_kmeans,
    update,
)


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def planted(num_clusters, per_cluster, *, dimensions=16, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.permutation(np.eye(dimensions))[:num_clusters]
    truth = np.repeat(np.arange(num_clusters), per_cluster)
    points = centres[truth] + noise * rng.normal(size=(len(truth), dimensions))
    return unit(points), truth


def test_planted_clusters_are_found():
    points, truth = planted(6, 40)
    found = spherical_kmeans(points, 6, seed=1)
    pairs = set(zip(truth.tolist(), found.labels.tolist(), strict=True))
    assert len(pairs) == 6
    assert found.sizes.tolist() == [40] * 6


def test_a_centroid_is_the_normalised_mean_of_its_points():
    points = unit([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    current = Assignment(np.array([0, 0, 1], dtype=np.int32), np.ones(3, dtype=np.float32))
    moved = update(points, current, points[:2])
    half = 0.5**0.5
    assert moved == pytest.approx(np.array([[half, half, 0], [0, 0, 1]]))


def test_an_empty_cluster_takes_the_worst_served_point():
    points = unit([[1, 0], [1, 0.1], [0, 1]])
    current = Assignment(np.zeros(3, dtype=np.int32), np.float32([1, 0.99, 0]))
    moved = update(points, current, unit([[1, 0], [-1, 0]]))
    assert moved[1] == pytest.approx([0, 1])


def test_an_empty_cluster_never_empties_another():
    points = unit([[1, 0], [0, 1], [0, 1.1]])
    current = Assignment(np.array([0, 1, 1], dtype=np.int32), np.float32([0.1, 0.5, 0.6]))
    moved = update(points, current, unit([[1, 0], [0, 1], [-1, 0]]))
    assert moved[0] == pytest.approx([1, 0])


def test_points_that_cancel_out_leave_the_centroid_where_it_was():
    points = unit([[1, 0], [-1, 0]])
    current = Assignment(np.zeros(2, dtype=np.int32), np.float32([0, 0]))
    assert update(points, current, unit([[0, 1]])).tolist() == [[0, 1]]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 10**6))
def test_loss_never_rises_and_labels_belong_to_the_centroids(num_points, num_clusters, seed):
    points = unit(np.random.default_rng(seed).normal(size=(num_points, 5)))
    found = spherical_kmeans(points, num_clusters, seed=seed)
    assert max(np.diff(found.losses), default=0) <= 1e-6
    again = assign(points, found.centroids)
    assert again.cosines == pytest.approx(found.cosines, abs=1e-6)
    assert 1 - found.cosines.mean() == pytest.approx(min(found.losses), abs=1e-6)
    assert found.sizes.min() >= 1
    assert (np.diff(found.sizes) <= 0).all()


def test_the_best_pass_is_kept_when_a_later_one_is_worse(monkeypatch):
    points, _ = planted(4, 20, noise=0.4)
    real, passes = cluster.update, []

    def worsen_after_three(points, current, centroids):
        passes.append(current.loss)
        moved = real(points, current, centroids)
        return moved if len(passes) < 4 else unit(np.ones_like(moved))

    monkeypatch.setattr(cluster, "update", worsen_after_three)
    monkeypatch.setattr(cluster, "_TOLERANCE", -np.inf)
    found = spherical_kmeans(points, 4, seed=1, max_passes=6)
    assert found.losses[-1] > min(found.losses) + 0.1
    assert assign(points, found.centroids).loss == pytest.approx(min(found.losses), abs=1e-6)
    assert 1 - found.cosines.mean() == pytest.approx(min(found.losses), abs=1e-6)


def test_there_are_never_more_clusters_than_distinct_points():
    points = unit([[1, 0], [1, 0], [0, 1], [0, 1], [1, 1]])
    assert len(spherical_kmeans(points, 5, seed=0).centroids) == 3


def test_a_sample_of_duplicates_does_not_hide_the_distinct_points():
    points = np.repeat(unit([[1, 0]]), 6000, axis=0)
    points[-3:] = unit([[0, 1], [-1, 0], [0, -1]])
    assert len(choose_seeds(points, 4, seed=0)) == 4


def test_blocks_and_threads_do_not_change_the_assignment(monkeypatch):
    points, _ = planted(5, 33, noise=0.5)
    centroids = choose_seeds(points, 7, seed=3)
    whole = assign(points, centroids)
    monkeypatch.setattr(cluster, "_BLOCK_ROWS", 10)
    shared = [assign(points, centroids, num_threads=threads) for threads in (1, 2, 5)]
    assert [each.labels.tolist() for each in shared] == [whole.labels.tolist()] * 3
    assert len({each.cosines.tobytes() for each in shared}) == 1


def test_same_seed_same_bits():
    points, _ = planted(5, 50, noise=0.5)
    first, second, other = (spherical_kmeans(points, 9, seed=seed) for seed in (3, 3, 4))
    assert first.centroids.tobytes() == second.centroids.tobytes() != other.centroids.tobytes()


def test_passes_are_reported_with_their_loss():
    points, _ = planted(3, 10)
    heard = []
    found = spherical_kmeans(points, 3, seed=0, on_pass=lambda n, loss: heard.append((n, loss)))
    assert heard == list(enumerate(found.losses, start=1))


@pytest.mark.parametrize(
    ("num_points", "expected"), [(1, 1), (5, 5), (30, 8), (1000, 32), (10**7, 2000)]
)
def test_default_number_of_clusters(num_points, expected):
    assert default_num_clusters(num_points) == expected


@pytest.mark.parametrize(("rows", "num_clusters", "passes"), [(0, 1, 1), (3, 0, 1), (3, 1, 0)])
def test_nothing_to_do_is_refused(rows, num_clusters, passes):
    points = np.ones((rows, 1), dtype=np.float32)
    with pytest.raises(InvalidInput, match="at least 1"):
        spherical_kmeans(points, num_clusters, seed=0, max_passes=passes)
