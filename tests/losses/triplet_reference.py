"""FaceNet's losses as slow float64 code, one triplet at a time, apart from the package."""

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray

from facespace.losses.harmonic import Harmonic
from facespace.losses.triplet import Triplet

Array = NDArray[np.float64]
Indices = list[tuple[int, int, int]]


def distance(u: Array, v: Array, metric: str) -> float:
    """Between unit vectors."""
    if metric == "angle":
        return math.acos(max(-1.0, min(1.0, float(u @ v))))
    length = math.sqrt(sum((a - b) ** 2 for a, b in zip(u, v, strict=True)))
    return length if metric == "l2" else length**2


def slope(u: Array, v: Array, metric: str) -> Array:
    """Of the distance with respect to u, in the space around the sphere."""
    match metric:
        case "squared_l2":
            return 2 * (u - v)
        case "l2":
            return (u - v) / np.linalg.norm(u - v)
        case _:
            return -v / math.sqrt(1 - float(u @ v) ** 2)


def distances(u: Array, metric: str) -> Array:
    """All of them, `(N, N)`."""
    return np.array([[distance(a, b, metric) for b in u] for a in u])


def pairs_of(y: list[int], which: str) -> list[tuple[int, int]]:
    """Anchor-positive pairs."""
    return [
        (a, p)
        for a, p in product(range(len(y)), repeat=2)
        if y[a] == y[p] and (a < p if which == "unordered" else a != p)
    ]


def negatives_of(D: Array, a: int, p: int, others: list[int], settings: Triplet) -> dict[str, list[int]]:
    """What the pair (a, p) meets among others: all nearest first, the semi-hard and the violating ones."""
    nearest = sorted(others, key=lambda n: D[a, n])
    violating = [n for n in nearest if D[a, n] < D[a, p] + settings.alpha]
    farther = [n for n in nearest if D[a, n] > D[a, p]]
    semihard = farther if settings.upper_bound == "none" else [n for n in farther if n in violating]
    return {"all": nearest, "violating": violating, "semihard": semihard}


def chosen_of(D: Array, a: int, p: int, others: list[int], settings: Triplet) -> Indices:
    """The triplets of a pair with a positive loss that the rules without chance choose."""
    found = negatives_of(D, a, p, others, settings)
    group = found["violating"] if settings.negatives == "hardest" else found["semihard"]
    picked = group if settings.negatives == "semihard_all" else group[:1]
    if not picked and settings.fallback != "skip":
        picked = found["all"][:1] if settings.fallback == "hardest" else found["all"][-1:]
    return [(a, p, n) for n in picked if D[a, p] - D[a, n] + settings.alpha > 0]


def triplets_of(D: Array, y: list[int], settings: Triplet) -> Indices:
    """Of a batch."""
    return [
        triplet
        for a, p in pairs_of(y, settings.pairs)
        for triplet in chosen_of(D, a, p, [n for n in range(len(y)) if y[n] != y[a]], settings)
    ]


def mixed_pairs_of(y: list[int], settings: Harmonic) -> list[tuple[int, int]]:
    """Among 2N rows, those of v2 first."""
    n = len(y)
    return [
        (a, p) for a, p in pairs_of(y + y, settings.triplet.pairs) if settings.same_photo or a % n != p % n
    ]  # fmt: skip


def mixed_others(y: list[int], a: int, p: int) -> list[int]:
    """Rows of other people that make a triplet with (a, p) which has at least one row of v2."""
    n = len(y)
    return [i for i in range(2 * n) if y[i % n] != y[a % n] and min(a, p, i) < n]


def mixed_triplets_of(D: Array, y: list[int], settings: Harmonic) -> Indices:
    """Of a batch and what v1 made of it."""
    return [
        triplet
        for a, p in mixed_pairs_of(y, settings)
        for triplet in chosen_of(D, a, p, mixed_others(y, a, p), settings.triplet)
    ]


def summed(u: Array, chosen: Indices, settings: Triplet, pairs: int) -> tuple[float, Array]:
    """Loss of chosen triplets of unit rows, and its gradient with respect to them."""
    total, du, metric = 0.0, np.zeros_like(u), settings.metric
    for a, p, n in chosen:
        total += distance(u[a], u[p], metric) - distance(u[a], u[n], metric) + settings.alpha
        du[a] += slope(u[a], u[p], metric) - slope(u[a], u[n], metric)
        du[p] += slope(u[p], u[a], metric)
        du[n] -= slope(u[n], u[a], metric)
    count = max(1, {"sum": 1, "mean_active": len(chosen), "mean_all": pairs}[settings.reduction])
    return total / count, du / count


def through_normalisation(du: Array, x: Array) -> Array:
    """The gradient with respect to raw rows x from that with respect to x / |x|."""
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    u = x / norms
    return (du - (du * u).sum(1, keepdims=True) * u) / norms


def triplet_loss(x: Array, y: list[int], settings: Triplet) -> tuple[float, Array]:
    """Loss and gradient with respect to the raw rows x."""
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    chosen = triplets_of(distances(u, settings.metric), y, settings)
    loss, du = summed(u, chosen, settings, len(pairs_of(y, settings.pairs)))
    return loss, through_normalisation(du, x)


def harmonic_loss(x: Array, fixed: Array, y: list[int], settings: Harmonic) -> tuple[float, Array]:
    """Loss and gradient with respect to the raw rows x of v2."""
    rows = np.concatenate([x / np.linalg.norm(x, axis=1, keepdims=True), fixed])
    chosen = mixed_triplets_of(distances(rows, settings.triplet.metric), y, settings)
    loss, du = summed(rows, chosen, settings.triplet, len(mixed_pairs_of(y, settings)))
    return loss, through_normalisation(du[: len(x)], x)
