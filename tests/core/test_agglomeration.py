"""Clusters against scipy, and against the definition where distances tie."""

from itertools import combinations
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist

from facespace.core.agglomeration import Linkage, cluster, cut, tree
from facespace.core.scores import unit_vectors
from facespace.errors import UsageError

LINKAGES = get_args(Linkage)


def heap(seed: int, people: int = 12, photos: int = 7, dim: int = 6) -> NDArray[np.float32]:
    """Photos of some people, shuffled."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(rng.normal(size=(people, dim)), photos, axis=0) + 0.3 * rng.normal(size=(people * photos, dim))
    return unit_vectors(rng.permutation(rows))


def squared(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    condensed: NDArray[np.float64] = pdist(vectors.astype(np.float64), "sqeuclidean")
    return condensed


def partition(labels: NDArray[np.int64]) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}


@pytest.mark.parametrize("linkage", LINKAGES)
def test_the_tree_is_that_of_scipy(linkage: Linkage) -> None:
    """Heights, the clusters joined and their sizes, and every cut between two heights."""
    for seed in range(4):
        vectors = heap(seed)
        ours, theirs = tree(vectors, linkage), hierarchy.linkage(squared(vectors), linkage)
        np.testing.assert_allclose(ours[:, 2], theirs[:, 2], rtol=0, atol=2e-6)
        np.testing.assert_array_equal(ours[:, 3], theirs[:, 3])
        assert hierarchy.is_valid_linkage(ours)
        for height in (theirs[1:, 2] + theirs[:-1, 2])[::5] / 2:
            expected = hierarchy.fcluster(theirs, height, "distance")
            assert partition(cut(ours, height)) == partition(expected)
            assert partition(cluster(vectors, distance=height, linkage=linkage)) == partition(expected)


def test_average_is_the_mean_cosine_and_the_default() -> None:
    """Two faces at 60 degrees, a third at 90 and 30 to them."""
    at = np.radians([0.0, 60.0, 90.0])
    rows = tree(unit_vectors(np.stack([np.cos(at), np.sin(at)], 1)))
    assert rows[:, :2].tolist() == [[1, 2], [0, 3]]
    assert rows[:, 2] == pytest.approx([2 - 3**0.5, 2 - (0.5 + 0)], abs=1e-6)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_a_join_at_the_distance_itself_counts(linkage: Linkage) -> None:
    """As the paper accepts D <= d."""
    square = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    assert len(partition(cluster(square, distance=1.999, linkage=linkage))) == 4
    assert len(partition(cluster(square, distance=2.0, linkage=linkage))) == (1 if linkage == "single" else 2)


def test_clusters_are_numbered_by_their_first_faces() -> None:
    for seed in range(5):
        labels = cluster(heap(seed), distance=0.8)
        assert labels.dtype == np.int64
        first = [labels.tolist().index(label) for label in range(labels.max() + 1)]
        assert first == sorted(first)


@given(st.lists(st.sampled_from(range(6)), min_size=1, max_size=14), st.sampled_from(LINKAGES))
def test_ties_and_doubles_end_and_keep_the_linkage(indices: list[int], linkage: Linkage) -> None:
    """Which of equally near clusters join first is open; but those that join are nearest, by the definition."""
    axes = np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32)
    vectors = axes[indices]
    joins, n = tree(vectors, linkage), len(indices)
    D = ((vectors[:, None] - vectors[None]) ** 2).sum(2)
    of = {"single": np.min, "complete": np.max, "average": np.mean}[linkage]
    members = {i: [i] for i in range(n)}
    assert (np.diff(joins[:, 2]) >= 0).all()
    for row, (a, b, apart, size) in enumerate(joins):
        left = {i: m for i, m in members.items() if m}
        nearest = min(float(of(D[np.ix_(x, y)])) for x, y in combinations(left.values(), 2))
        assert apart == pytest.approx(float(of(D[np.ix_(members[int(a)], members[int(b)])])), abs=1e-5)
        assert apart == pytest.approx(nearest, abs=1e-5)
        members[n + row] = members.pop(int(a)) + members.pop(int(b))
        assert size == len(members[n + row])


def test_many_doubles_under_average_linkage() -> None:
    """Rounded means of equal distances must not run the chain in a circle."""
    vectors = np.repeat(unit_vectors(np.ones((6, 6)) + 1.7 * np.eye(6)), 40, axis=0)  # all people equally far apart
    rows = tree(vectors, "average")
    assert hierarchy.is_valid_linkage(rows)
    assert partition(cut(rows, 0.01)) == {frozenset(range(40 * i, 40 * i + 40)) for i in range(6)}


def test_one_face_is_one_cluster_and_none_is_refused() -> None:
    one = np.array([[1, 0]], np.float32)
    assert tree(one).shape == (0, 4)
    assert cluster(one, distance=1.0).tolist() == [0]
    with pytest.raises(UsageError, match="no faces"):
        tree(one[:0])
    with pytest.raises(UsageError, match="linkage"):
        cluster(one, distance=1.0, linkage="ward")  # type: ignore[arg-type]
