"""A map of vectors on paper: the two directions in which they differ most, or neighbours kept together by t-SNE.

t-SNE places points so that who is near whom on paper agrees with who is near whom among the vectors: van der Maaten
and Hinton, "Visualizing data using t-SNE", JMLR 9 (2008). It is exact here, with all pairs, and so for a few hundred
points. How far apart groups stand on its map, and how wide they are, means little.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.errors import DataError, UsageError

Floats = NDArray[np.float64]
EXAGGERATION = 12.0
"""How much the neighbours attract each other at first, so that groups find together."""
EXAGGERATED = 100
"""Steps of that."""


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


def neighbour_map(vectors: ArrayLike, perplexity: float = 30.0, steps: int = 500) -> Floats:
    """Points `(N, 2)` of rows `(N, D)` by t-SNE with squared L2 distances; the same for the same rows.

    `perplexity` is about how many neighbours of a row count; of few rows, at most a third of them. Starts from the
    principal map; raises DataError where there is none, UsageError for a perplexity of 1 or less.
    """
    if not perplexity > 1:
        raise UsageError(f"a perplexity of {perplexity:g} leaves no neighbours", hint="more than 1, such as 30")
    start = principal_map(vectors).points
    rows = np.asarray(vectors, dtype=np.float64)
    near = affinities(rows, max(min(perplexity, (len(rows) - 1) / 3), 1.01))
    points = 1e-4 * start / start[:, 0].std()
    rate, speed, gains = max(len(rows) / EXAGGERATION, 50.0), np.zeros_like(points), np.ones_like(points)
    for step in range(steps):
        early = step < EXAGGERATED
        uphill = slope(near * EXAGGERATION if early else near, points)
        # Jacobs' rule, as in the paper: what still moves uphill had gone too far.
        gains = np.where((uphill > 0) == (speed > 0), gains * 0.8, gains + 0.2).clip(0.01)
        speed = (0.5 if early else 0.8) * speed - rate * gains * uphill
        points = points + speed
    return np.asarray(points - points.mean(axis=0))


def affinities(rows: Floats, perplexity: float) -> Floats:
    """The joint shares p `(N, N)` of rows `(N, D)`, symmetric, with sum 1 and 0 on the diagonal.

    Row by row, the width of a Gaussian is found by bisection so that the entropy is that of `perplexity` equal
    neighbours; 1 < perplexity < N - 1. Where more are equally near, no width has it, and these share alike.
    """
    apart = _squared_distances(rows)
    np.fill_diagonal(apart, np.inf)
    apart -= apart.min(axis=1, keepdims=True)
    scale = np.median(apart[np.isfinite(apart)]) or 1.0
    low, high = np.full((len(rows), 1), -40.0), np.full((len(rows), 1), 40.0)  # logarithms of the precision
    for _ in range(60):
        middle = (low + high) / 2
        wide = _entropies(_conditional(apart / scale, middle)) > np.log(perplexity)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    conditional = _conditional(apart / scale, (low + high) / 2)
    return np.asarray((conditional + conditional.T) / (2 * len(rows)))


def slope(near: Floats, points: Floats) -> Floats:
    """The gradient `(N, 2)` by `points` of KL(near || q), where q are the Student t shares of the points."""
    bell = 1 / (1 + _squared_distances(points))
    np.fill_diagonal(bell, 0)
    pull = (near - bell / bell.sum()) * bell
    return np.asarray(4 * (pull.sum(axis=1, keepdims=True) * points - pull @ points))


def _conditional(apart: Floats, log_precision: Floats) -> Floats:
    """p(j | i) `(N, N)` from squared distances, infinite on the diagonal, and a precision `(N, 1)`."""
    weights = np.exp(-np.exp(log_precision) * apart)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _entropies(shares: Floats) -> Floats:
    """In nats, of each row, `(N, 1)`."""
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.asarray(-(shares * logs).sum(axis=1, keepdims=True))


def _squared_distances(rows: Floats) -> Floats:
    squares = (rows**2).sum(axis=1)
    return np.asarray((squares[:, None] + squares - 2 * rows @ rows.T).clip(0))
