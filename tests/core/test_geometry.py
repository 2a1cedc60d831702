"""The similarity transform against least squares solved another way, and the facts of the template."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from facespace.core.geometry import TEMPLATE, area, centre, similarity_transform, transform_points
from facespace.errors import InputError

Points = NDArray[np.float64]
coordinate = st.floats(-500, 500, allow_nan=False)
angle_rad = st.floats(-np.pi, np.pi)


def solved_by_lstsq(source: Points, target: Points) -> Points:
    """The same fit from its definition: x' = p x - q y + u, y' = q x + p y + v as a linear system in (p, q, u, v)."""
    rows, right = [], []
    for (x, y), (x2, y2) in zip(source, target, strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        right += [x2, y2]
    p, q, u, v = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    return np.array([[p, -q, u], [q, p, v]])


def umeyama(source: Points, target: Points) -> Points:
    """Umeyama 1991, eq. 40-42, by singular values, with the sign that forbids reflections."""
    s_mean, t_mean = source.mean(0), target.mean(0)
    s, t = source - s_mean, target - t_mean
    u, d, vt = np.linalg.svd(t.T @ s / len(s))
    sign = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    turn = u @ sign @ vt
    scale = np.trace(np.diag(d) @ sign) / (s**2).sum(1).mean()
    return np.column_stack([scale * turn, t_mean - scale * turn @ s_mean])


def test_u23_the_template_to_itself_is_the_identity() -> None:
    np.testing.assert_allclose(similarity_transform(TEMPLATE, TEMPLATE), [[1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_u23_the_template_96_wide_plus_8_is_the_template() -> None:
    narrow = [[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]]
    np.testing.assert_allclose(np.array(narrow) + np.array([8, 0]), TEMPLATE)
    np.testing.assert_allclose(similarity_transform(narrow, TEMPLATE), [[1, 0, 8], [0, 1, 0]], atol=1e-12)


def test_the_template_cannot_be_changed() -> None:
    with pytest.raises(ValueError):
        TEMPLATE[0, 0] = 0


@given(angle_rad, st.floats(0.05, 50), coordinate, coordinate)
def test_a_known_similarity_is_found_again(angle: float, scale: float, x: float, y: float) -> None:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    moved = TEMPLATE @ np.array([[c, s], [-s, c]]) + [x, y]
    matrix = similarity_transform(moved, TEMPLATE)
    np.testing.assert_allclose(moved @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_noisy_points_agree_with_two_other_solvers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = TEMPLATE * rng.uniform(0.2, 20) + rng.normal(0, 6, (5, 2)) + rng.uniform(-2000, 2000, 2)
    matrix = similarity_transform(source, TEMPLATE)
    np.testing.assert_allclose(matrix, solved_by_lstsq(source, TEMPLATE), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(matrix, umeyama(source, TEMPLATE), rtol=1e-7, atol=1e-7)


@given(angle_rad, st.floats(0.1, 10), st.lists(coordinate, min_size=10, max_size=10))
def test_u23_mirrored_points_never_give_a_reflection(angle: float, scale: float, noise: list[float]) -> None:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    mirrored = (TEMPLATE * [-1, 1]) @ np.array([[c, s], [-s, c]]) + np.reshape(noise, (5, 2)) / 50
    (p, minus_q, _), (q, p2, _) = similarity_transform(mirrored, TEMPLATE)
    assert (p, q) == (p2, -minus_q)
    assert p * p2 - minus_q * q > 0


def test_no_small_change_of_the_fit_is_better() -> None:
    rng = np.random.default_rng(0)
    source = TEMPLATE * 3 + rng.normal(0, 10, (5, 2))
    (p, _, u), (q, _, v) = similarity_transform(source, TEMPLATE)

    def error(p: float, q: float, u: float, v: float) -> float:
        return float(((source @ np.array([[p, q], [-q, p]]) + [u, v] - TEMPLATE) ** 2).sum())

    best = error(p, q, u, v)
    for nudge in rng.normal(0, 1e-3, (200, 4)):
        assert error(p + nudge[0], q + nudge[1], u + nudge[2], v + nudge[3]) > best


@pytest.mark.parametrize(
    "points",
    [
        np.full((5, 2), 40.0),
        np.full((5, 2), 1e6 + 0.1),
        np.zeros((5, 2)),
        np.full((5, 2), np.nan),
        np.where(np.arange(10).reshape(5, 2) == 3, np.inf, TEMPLATE),
        np.zeros((0, 2)),
        TEMPLATE.T,
    ],
    ids=["one point", "one far point", "origin", "nan", "inf", "none", "wrong shape"],
)
def test_points_that_determine_nothing_are_refused(points: Points) -> None:
    with pytest.raises(InputError):
        similarity_transform(points, TEMPLATE[: len(points)])


def test_points_best_fitted_by_one_point_are_refused() -> None:
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    with pytest.raises(InputError, match="inside out"):
        similarity_transform(square, square[[0, 3, 2, 1]])


def test_points_are_moved_by_the_matrix_one_by_one() -> None:
    matrix = np.array([[2.0, -1.0, 5.0], [1.0, 2.0, -3.0]])
    expected = [[2 * x - y + 5, x + 2 * y - 3] for x, y in TEMPLATE]
    np.testing.assert_allclose(transform_points(matrix, TEMPLATE), expected)


def test_area_and_centre_of_boxes() -> None:
    assert area((10, 20, 30, 40)) == 1200
    assert area((10, 20, -30, -40)) == 0
    assert centre((10, 20, 30, 40)) == (25, 40)
