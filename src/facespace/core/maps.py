"""A map of vectors on paper: the two directions in which they differ most."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.errors import DataError


class Map(NamedTuple):
    """Points `(N, 2)`, and the shares of all variance along their two axes."""

    points: NDArray[np.float64]
    shares: tuple[float, float]


def principal_map(vectors: ArrayLike) -> Map:
    """Rows `(N, D)` less their mean, along the first two principal axes; D >= 2.

    An axis points to where its largest part is positive, so that the same vectors always give the same map. Raises
    DataError for fewer than three rows, or rows that are all the same.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    centred = rows - rows.mean(axis=0) if len(rows) else rows
    variances, axes = np.linalg.eigh(centred.T @ centred) if len(rows) > 2 else (np.zeros(2), np.eye(2))
    if variances[-1] <= 1e-12 * max(1.0, float((rows**2).sum())):
        raise DataError(f"{len(rows)} vectors give no map", hint="three are needed that are not all the same")
    first_two = axes[:, :-3:-1]
    largest = np.abs(first_two).argmax(axis=0)
    points = centred @ (first_two * np.sign(first_two[largest, [0, 1]]))
    shares = (variances[:-3:-1] / variances.sum()).clip(0, 1)
    return Map(points, (float(shares[0]), float(shares[1])))
