"""The auxiliary terms as slow float64 loops with gradients by hand, apart from the package.

Each gives its unweighted value, the gradient with respect to the raw embeddings x (N, d), and for terms against class
rows that with respect to the raw rows W (n, d).
"""

import math
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=1)[:, None]


def through_unit(x: Array, du: Array) -> Array:
    """A gradient with respect to unit rows, carried to the raw rows."""
    u = unit(x)
    return np.array([(du[i] - (du[i] @ u[i]) * u[i]) / np.linalg.norm(x[i]) for i in range(len(x))])


def center(x: Array, y: list[int], centres: Array) -> tuple[float, Array]:
    """1/2 Σ ‖x_i - c_{y_i}‖², the sum that the paper prints."""
    value, dx = 0.0, np.zeros_like(x)
    for i, person in enumerate(y):
        value += sum((x[i, d] - centres[person, d]) ** 2 for d in range(x.shape[1])) / 2
        dx[i] = x[i] - centres[person]
    return value, dx


def moved_centres(x: Array, y: list[int], centres: Array, alpha: float) -> Array:
    """c_j - α Σ δ(y_i = j) (c_j - x_i) / (1 + Σ δ(y_i = j)), as printed, for every j."""
    out = centres.copy()
    for j in range(len(centres)):
        above, below = np.zeros(x.shape[1]), 1.0
        for i, person in enumerate(y):
            if person == j:
                above += centres[j] - x[i]
                below += 1
        out[j] -= alpha * above / below
    return out


def marginal(x: Array, y: list[int], theta: float, xi: float) -> tuple[float, Array]:
    """1/(N²-N) Σ_{i≠j} [ξ - y_ij (θ - D_ij)]_+ on unit rows."""
    u, value, du = unit(x), 0.0, np.zeros_like(x)
    for i, j in product(range(len(y)), repeat=2):
        if i == j:
            continue
        sign = 1 if y[i] == y[j] else -1
        lost = xi - sign * (theta - ((u[i] - u[j]) ** 2).sum())
        if lost > 0:
            value += lost
            du[i] += sign * 2 * (u[i] - u[j])
            du[j] += sign * 2 * (u[j] - u[i])
    pairs = max(1, len(y) ** 2 - len(y))
    return value / pairs, through_unit(x, du) / pairs


def range_parts(u: Array, y: list[int], k: int, margin: float) -> tuple[float, Array, float, Array]:
    """The parts within and between people, each with its gradient with respect to the rows given."""
    within, dw, between, db = 0.0, np.zeros_like(u), 0.0, np.zeros_like(u)
    of = {person: [i for i in range(len(y)) if y[i] == person] for person in sorted(set(y))}
    for photos in of.values():
        pairs = sorted(combinations(photos, 2), key=lambda p: -((u[p[0]] - u[p[1]]) ** 2).sum())[:k]
        D = [((u[i] - u[j]) ** 2).sum() for i, j in pairs]
        if not pairs or min(D) == 0:
            continue
        mean = len(D) / sum(1 / d for d in D)
        within += mean
        for (i, j), d in zip(pairs, D, strict=True):
            slope = mean**2 / (len(D) * d**2)
            dw[i] += slope * 2 * (u[i] - u[j])
            dw[j] += slope * 2 * (u[j] - u[i])
    means = {person: u[photos].mean(0) for person, photos in of.items()}
    nearest = min(combinations(of, 2), key=lambda p: ((means[p[0]] - means[p[1]]) ** 2).sum(), default=None)
    if nearest:
        a, b = nearest
        between = max(0.0, margin - ((means[a] - means[b]) ** 2).sum())
        if between > 0:
            for i in of[a]:
                db[i] -= 2 * (means[a] - means[b]) / len(of[a])
            for i in of[b]:
                db[i] -= 2 * (means[b] - means[a]) / len(of[b])
    return within, dw, between, db


def range_loss(
    x: Array, y: list[int], alpha: float, beta: float, margin: float, k: int, normalise: bool
) -> tuple[float, Array]:
    """α Σ harmonic means + β [m - D of the nearest two means]_+."""
    within, dw, between, db = range_parts(unit(x) if normalise else x, y, k, margin)
    d = alpha * dw + beta * db
    return alpha * within + beta * between, through_unit(x, d) if normalise else d


def ring(x: Array, radius: float) -> tuple[float, Array, float]:
    """1/(2N) Σ (‖x_i‖ - R)², its gradient, and the one with respect to R: -1/N Σ (‖x_i‖ - R)."""
    value, dx, dr = 0.0, np.zeros_like(x), 0.0
    for i in range(len(x)):
        length = math.sqrt(sum(v * v for v in x[i]))
        value += (length - radius) ** 2 / (2 * len(x))
        dr -= (length - radius) / len(x)
        if length:
            dx[i] = (length - radius) * x[i] / length / len(x)
    return value, dx, dr


def contrastive(x: Array, y: list[int], margin: float, normalise: bool) -> tuple[float, Array]:
    """Mean over pairs i < j of D/2, or [m - √D]_+²/2; at D = 0 two people do not move."""
    u, value, du = unit(x) if normalise else x, 0.0, np.zeros_like(x)
    pairs = list(combinations(range(len(y)), 2))
    for i, j in pairs:
        d = math.sqrt(((u[i] - u[j]) ** 2).sum())
        if y[i] == y[j]:
            value += d * d / 2
            du[i] += u[i] - u[j]
            du[j] += u[j] - u[i]
        elif d < margin:
            value += (margin - d) ** 2 / 2
            if d:
                du[i] -= (margin - d) * (u[i] - u[j]) / d
                du[j] -= (margin - d) * (u[j] - u[i]) / d
    count = max(1, len(pairs))
    return value / count, (through_unit(x, du) if normalise else du) / count


def intra(x: Array, y: list[int], W: Array) -> tuple[float, Array, Array]:
    """1/(πN) Σ arccos(x_i·W_{y_i}) on unit rows."""
    u, w, value = unit(x), unit(W), 0.0
    du, dw = np.zeros_like(x), np.zeros_like(W)
    for i, person in enumerate(y):
        c = u[i] @ w[person]
        value += math.acos(c)
        slope = -1 / math.sqrt(1 - c * c)
        du[i] += slope * w[person]
        dw[person] += slope * u[i]
    scale = math.pi * len(y)
    return value / scale, through_unit(x, du) / scale, through_unit(W, dw) / scale


def inter(y: list[int], W: Array) -> tuple[float, Array]:
    """-1/(πN(n-1)) Σ_i Σ_{j≠y_i} arccos(W_{y_i}·W_j) on unit rows; for anchors "all" give every class once as y."""
    w, value, dw = unit(W), 0.0, np.zeros_like(W)
    for person, j in product(y, range(len(W))):
        if j == person:
            continue
        c = w[person] @ w[j]
        value -= math.acos(c)
        slope = 1 / math.sqrt(1 - c * c)
        dw[person] += slope * w[j]
        dw[j] += slope * w[person]
    scale = math.pi * max(1, len(y) * (len(W) - 1))
    return value / scale, through_unit(W, dw) / scale


def agents(x: Array, y: list[int], W: Array, margin: float, negatives: str, kind: str) -> tuple[float, Array, Array]:
    """NormFace's C-contrastive (kind "contrastive") and C-triplet, mean over the batch."""
    u, w, value = unit(x), unit(W), 0.0
    du, dw = np.zeros_like(x), np.zeros_like(W)

    def pull(i: int, j: int, sign: int) -> None:
        """The gradient of sign * D(u_i, w_j)."""
        du[i] += sign * 2 * (u[i] - w[j])
        dw[j] += sign * 2 * (w[j] - u[i])

    for i, person in enumerate(y):
        D = [((u[i] - w[j]) ** 2).sum() for j in range(len(W))]
        others = sorted((j for j in range(len(W)) if j != person), key=lambda j: D[j])
        base = margin + (D[person] if kind == "triplet" else 0.0)
        if kind == "contrastive":
            value += D[person]
            pull(i, person, 1)
        for j in others if negatives == "all" else others[:1]:
            if base - D[j] > 0:
                value += base - D[j]
                pull(i, j, -1)
                if kind == "triplet":
                    pull(i, person, 1)
    return value / len(y), through_unit(x, du) / len(y), through_unit(W, dw) / len(y)
