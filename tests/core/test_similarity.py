"""The group-aware similarity against loops in float64, written from the formula."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from facespace.core import similarity
from facespace.core.similarity import Distance, GroupAware, template
from facespace.errors import ModelError, UsageError

DISTANCES: tuple[Distance, ...] = ("euclidean", "squared", "unit", "cosine")


def described(count: int, split: int = 6, hidden: int = 5, seed: int = 0) -> NDArray[np.float32]:
    """Vectors [unit vbar, raw vhat] `(count, split + hidden)`."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(count, split + hidden)) * np.array([1.0] * split + [3.0] * hidden)
    return GroupAware(split).unit(raw.astype(np.float32))


def slow(a: NDArray[np.float32], b: NDArray[np.float32], how: GroupAware) -> float:
    """S* of two vectors, number by number."""
    x, y = ([float(v) for v in row] for row in (a, b))
    g, h = x[how.split :], y[how.split :]
    cosine = sum(p * q for p, q in zip(x[: how.split], y[: how.split], strict=True))
    if how.distance in ("unit", "cosine"):
        g, h = ([v / math.sqrt(sum(w * w for w in row)) for v in row] for row in (g, h))
    squared = sum((p - q) ** 2 for p, q in zip(g, h, strict=True))
    if how.distance == "cosine":
        distance = 1 - sum(p * q for p, q in zip(g, h, strict=True))
    else:
        distance = squared if how.distance == "squared" else math.sqrt(squared)
    return cosine - how.beta * max(distance, 0.0) ** how.gamma


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("beta", "gamma"), [(0.1, 1 / 3), (0.7, 1.0), (0.2, 2.0)])
def test_u18_matrix_and_pairs_are_the_formula(
    distance: Distance, beta: float, gamma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PAPERS 4 and 7 (27); in blocks of few rows as well."""
    how = GroupAware(6, beta, gamma, distance)
    a, b = described(9), described(7, seed=1)
    expected = [[slow(x, y, how) for y in b] for x in a]
    for cells in (1, 30, 1 << 20):
        monkeypatch.setattr(similarity, "_CELLS", cells)
        matrix = how.matrix(a, b)
        assert matrix.dtype == np.float32
        np.testing.assert_allclose(matrix, expected, atol=2e-6)
    np.testing.assert_allclose(how.pairs(a[:7], b), np.diagonal(expected), atol=2e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_u18_a_vector_is_wholly_like_itself_and_likeness_is_symmetric(distance: Distance) -> None:
    """S*(x, x) = 1: the cube root makes 0.005 of a rounding error of 1e-7, so equal rows need a distance of exactly 0,
    also where vhat lies far from zero."""
    vectors = described(40)
    vectors[:, 6:] += 100
    how = GroupAware(6, distance=distance)
    matrix = how.matrix(vectors, vectors)
    np.testing.assert_allclose(np.diagonal(matrix), 1, atol=1e-6)
    np.testing.assert_allclose(how.pairs(vectors, vectors), 1, atol=1e-6)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)


@pytest.mark.parametrize("gap", [1e-6, 1e-4, 1e-2, 1.0])
def test_u18_near_vectors_keep_their_distance(gap: float) -> None:
    """Where a² + b² - 2ab would be rounding alone."""
    one = np.zeros((1, 20), np.float32)
    one[0, 0], one[0, 4:] = 1, 0.5
    other = one.copy()
    other[0, 4] += np.float32(gap)
    exact = float(other[0, 4]) - 0.5
    how = GroupAware(4)
    for found in (how.matrix(one, other)[0, 0], how.pairs(one, other)[0]):
        assert found == pytest.approx(1 - 0.1 * exact ** (1 / 3), abs=1e-6)


def test_u18_beta_zero_is_the_cosine_and_the_penalty_is_the_cube_root_of_the_distance() -> None:
    vectors = described(20)
    np.testing.assert_allclose(
        GroupAware(6, beta=0).matrix(vectors, vectors), vectors[:, :6] @ vectors[:, :6].T, atol=1e-6
    )
    one = np.array([[1, 0, 0, 0]], np.float32)
    for distance, root in ((1.0, 1.0), (8.0, 2.0), (27.0, 3.0)):
        other = np.array([[1, 0, distance, 0]], np.float32)
        assert GroupAware(2).pairs(one, other)[0] == pytest.approx(1 - 0.1 * root, abs=1e-7)


@pytest.mark.parametrize("distance", ["euclidean", "squared"])
def test_u18_likeness_falls_as_vhat_moves_away(distance: Distance) -> None:
    one = described(1)
    others = np.repeat(one, 6, axis=0)
    others[:, 8] += np.array([0, 0.5, 1, 2, 4, 8], np.float32)
    found = GroupAware(6, distance=distance).matrix(one, others)[0]
    assert (np.diff(found) < 0).all()


def test_a_template_is_the_mean_part_by_part() -> None:
    """The first part to unit length; vhat stays the mean it is, for its distance is not one of directions."""
    vectors = described(5)
    one = template(vectors, GroupAware(6))
    mean = [sum(float(row[i]) for row in vectors) / 5 for i in range(11)]
    length = math.sqrt(sum(v * v for v in mean[:6]))
    np.testing.assert_allclose(one, [v / length for v in mean[:6]] + mean[6:], atol=1e-6)
    assert one.dtype == np.float32
    plain = template(vectors[:, :6])
    np.testing.assert_allclose(plain, one[:6], atol=1e-6)
    with pytest.raises(ModelError):
        template(np.array([[1, 0], [-1, 0]], np.float32))


def test_vectors_that_cannot_be_compared_are_refused() -> None:
    vectors = described(3)
    how = GroupAware(6)
    np.testing.assert_array_equal(how.unit(vectors * np.float32(1))[:, 6:], vectors[:, 6:])
    for column, value in ((2, np.nan), (8, np.nan), (8, np.inf)):
        broken = vectors.copy()
        broken[1, column] = value
        with pytest.raises(ModelError):
            how.unit(broken)
    vectors[:, 6:] = 0  # no direction, and none is needed
    for distance in DISTANCES:
        np.testing.assert_allclose(GroupAware(6, distance=distance).pairs(vectors, vectors), 1, atol=1e-6)


@pytest.mark.parametrize(
    "wrong", [{"split": 0}, {"beta": -0.1}, {"beta": math.nan}, {"gamma": 0}, {"gamma": math.inf}, {"distance": "city"}]
)
def test_settings_that_compare_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        GroupAware(**{"split": 6, **wrong})  # type: ignore[arg-type]
