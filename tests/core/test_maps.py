"""Maps: against the singular values of the centred rows, and t-SNE against sums over pairs, one by one."""

import math

import numpy as np
import pytest

from facespace.core.maps import affinities, neighbour_map, principal_map, slope
from facespace.errors import DataError, UsageError


def test_the_map_is_that_of_the_singular_value_decomposition() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 6)) * [5, 1, 3, 1, 1, 1]
    centred = rows - rows.mean(0)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    points, shares = principal_map(rows)
    for axis in (0, 1):
        sign = np.sign(vt[axis, np.abs(vt[axis]).argmax()])
        np.testing.assert_allclose(points[:, axis], u[:, axis] * s[axis] * sign, atol=1e-9)
    np.testing.assert_allclose(shares, (s**2 / (s**2).sum())[:2])


def test_the_same_vectors_in_another_order_have_the_same_places() -> None:
    rows = np.random.default_rng(1).normal(size=(20, 5))
    order = np.random.default_rng(2).permutation(20)
    np.testing.assert_allclose(principal_map(rows[order]).points, principal_map(rows).points[order], atol=1e-12)


@pytest.mark.parametrize("rows", [np.empty((0, 3)), np.eye(2), np.ones((9, 4))])
def test_what_has_no_extent_is_refused(rows: np.ndarray) -> None:
    with pytest.raises(DataError, match="no map"):
        principal_map(rows)


def entropy_of(rows: np.ndarray, i: int, precision: float) -> tuple[float, list[float]]:
    weights = [
        0.0 if i == j else math.exp(-precision * sum((a - b) ** 2 for a, b in zip(rows[i], rows[j], strict=True)))
        for j in range(len(rows))
    ]
    shares = [weight / sum(weights) for weight in weights]
    return -sum(p * math.log(p) for p in shares if p), shares


@pytest.mark.parametrize("perplexity", [2.0, 7.5])
def test_neighbours_have_the_perplexity_that_was_asked_for(perplexity: float) -> None:
    """The slow way: a precision for each row, halving its range 200 times."""
    rows = np.random.default_rng(3).normal(size=(20, 4)) * 3
    conditional = []
    for i in range(20):
        low, high = 1e-9, 10.0
        for _ in range(200):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if entropy_of(rows, i, middle)[0] > math.log(perplexity) else (low, middle)
        found, shares = entropy_of(rows, i, low)
        assert math.exp(found) == pytest.approx(perplexity, abs=1e-9)
        conditional.append(shares)
    expected = (np.array(conditional) + np.array(conditional).T) / 40
    np.testing.assert_allclose(affinities(rows, perplexity), expected, atol=1e-12)


def divergence(near: np.ndarray, points: np.ndarray) -> float:
    """KL(p || q), from the definition."""
    n = range(len(points))
    bell = {(i, j): 1 / (1 + ((points[i] - points[j]) ** 2).sum()) for i in n for j in n if i != j}
    total = math.fsum(bell.values())
    return math.fsum(near[i, j] * math.log(near[i, j] / (b / total)) for (i, j), b in bell.items())


def test_the_slope_is_that_of_the_divergence() -> None:
    rng = np.random.default_rng(4)
    near, points = affinities(rng.normal(size=(9, 5)), 3.0), rng.normal(size=(9, 2))
    found = slope(near, points)
    for at in np.ndindex(points.shape):
        sides = []
        for step in (1e-5, -1e-5):
            moved = points.copy()
            moved[at] += step
            sides.append(divergence(near, moved))
        assert found[at] == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-9)


def test_groups_stay_together_on_the_map_where_two_axes_cannot_show_them() -> None:
    """Fifteen people in 64 dimensions: the nearest point is one of the same person, and again at the next call."""
    rng = np.random.default_rng(5)
    rows = (rng.normal(size=(15, 1, 64)) + rng.normal(size=(15, 8, 64))).reshape(-1, 64)
    people = np.repeat(np.arange(15), 8)
    points = neighbour_map(rows, 10)
    np.testing.assert_array_equal(points, neighbour_map(rows, 10))
    right = []
    for places in (points, principal_map(rows).points):
        apart = ((places[:, None] - places) ** 2).sum(-1) + np.diag(np.full(len(rows), np.inf))
        right.append((people[apart.argmin(1)] == people).mean())
    assert right[0] == 1
    assert right[1] < 0.7


@pytest.mark.parametrize("rows", [np.eye(3), np.eye(12), np.repeat(np.eye(4), 5, axis=0)])
def test_few_and_equal_rows_have_a_map_too(rows: np.ndarray) -> None:
    points = neighbour_map(rows)
    assert points.shape == (len(rows), 2)
    assert np.isfinite(points).all()


def test_a_map_without_neighbours_or_extent_is_refused() -> None:
    with pytest.raises(UsageError, match="no neighbours"):
        neighbour_map(np.eye(5), 1)
    with pytest.raises(DataError, match="no map"):
        neighbour_map(np.ones((9, 4)))
