"""The map, against the singular values of the centred rows."""

import numpy as np
import pytest

from facespace.core.maps import principal_map
from facespace.errors import DataError


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
