"""The papers' formulas as slow float64 code, one angle and one sample at a time, apart from the package."""

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray

from facespace.losses import ArcFace, Combined, CosFace, Margin, NormFace, SphereFace, Triplet

Array = NDArray[np.float64]


def settings_of(margin: Margin) -> tuple[float, float, float, str]:
    """(m1, m2, m3, past pi) of a margin: every normalised one is a case of cos(m1 θ + m2) - m3."""
    match margin:
        case NormFace():
            return 1.0, 0.0, 0.0, "none"
        case CosFace():
            return 1.0, 0.0, margin.m3, "none"
        case ArcFace():
            return 1.0, margin.m, 0.0, margin.past_pi
        case SphereFace():
            return margin.m1, 0.0, 0.0, margin.past_pi
        case Combined():
            return margin.m1, margin.m2, margin.m3, margin.past_pi
    raise NotImplementedError(f"write the reference of {margin} from its paper")


def target(margin: Margin, theta: float) -> float:
    """T at the angle theta (radians)."""
    m1, m2, m3, past_pi = settings_of(margin)
    phi, c = m1 * theta + m2, math.cos(theta)
    if past_pi == "easy_margin":
        return (math.cos(phi) if theta < math.pi / 2 else c) - m3
    if phi <= math.pi or past_pi == "none":
        return math.cos(phi) - m3
    if past_pi == "clamp":
        return -1 - m3
    if past_pi == "continuous":
        k = math.floor(phi / math.pi)
        return (-1) ** k * math.cos(phi) - 2 * k - m3
    gap = math.pi - (math.pi - m2) / m1  # th/mm; for m1 = 1 the gap is m2: c - m sin m
    return c - gap * math.sin(gap) - m3


def slope(margin: Margin, theta: float) -> float:
    """dT/dc at the angle theta, by hand: m1 |sin phi| / sin theta inside, then what each rule says."""
    m1, m2, _, past_pi = settings_of(margin)
    phi = m1 * theta + m2
    if past_pi == "easy_margin":
        return m1 * math.sin(phi) / math.sin(theta) if theta < math.pi / 2 else 1.0
    if phi <= math.pi or past_pi == "none":
        return m1 * math.sin(phi) / math.sin(theta)
    if past_pi == "continuous":
        return m1 * abs(math.sin(phi)) / math.sin(theta)
    return 0.0 if past_pi == "clamp" else 1.0


def margin_softmax(f: Array, W: Array, y: list[int], margin: Margin, s: float) -> tuple[float, Array, Array]:
    """Mean cross-entropy with the margin on the label, and its gradients with respect to f (N, d) and W (n, d)."""
    loss, df, dW = 0.0, np.zeros_like(f), np.zeros_like(W)
    for i in range(len(f)):
        a, rows = np.linalg.norm(f[i]), np.linalg.norm(W, axis=1)
        fh, Wh = f[i] / a, W / rows[:, None]
        c = Wh @ fh
        theta = math.acos(c[y[i]])
        z, dz_dc = s * c, np.full(len(W), s)
        z[y[i]], dz_dc[y[i]] = s * target(margin, theta), s * slope(margin, theta)
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        loss -= math.log(p[y[i]]) / len(f)
        p[y[i]] -= 1
        g = p * dz_dc / len(f)  # dL/dc_j
        for j in range(len(W)):
            df[i] += g[j] * (Wh[j] - c[j] * fh) / a
            dW[j] += g[j] * (fh - c[j] * Wh[j]) / rows[j]
    return loss, df, dW


def plain_softmax(f: Array, W: Array, b: Array, y: list[int]) -> tuple[float, Array, Array, Array]:
    """Mean cross-entropy of W f + b, and its gradients with respect to f, W and b."""
    loss, df, dW, db = 0.0, np.zeros_like(f), np.zeros_like(W), np.zeros_like(b)
    for i in range(len(f)):
        z = W @ f[i] + b
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        loss -= math.log(p[y[i]]) / len(f)
        p[y[i]] -= 1
        df[i] = p @ W / len(f)
        dW += np.outer(p, f[i]) / len(f)
        db += p / len(f)
    return loss, df, dW, db


def negatives_of(D: Array, y: list[int], a: int, p: int, alpha: float) -> dict[str, list[int]]:
    """What the pair (a, p) meets: all negatives nearest first, the semi-hard and the violating ones among them."""
    others = sorted((n for n in range(len(y)) if y[n] != y[a]), key=lambda n: D[a, n])
    return {
        "all": others,
        "semihard": [n for n in others if D[a, p] < D[a, n] < D[a, p] + alpha],
        "violating": [n for n in others if D[a, n] < D[a, p] + alpha],
    }


def pairs_of(y: list[int], which: str) -> list[tuple[int, int]]:
    """Anchor-positive pairs."""
    return [
        (a, p)
        for a, p in product(range(len(y)), repeat=2)
        if y[a] == y[p] and (a < p if which == "unordered" else a != p)
    ]


def triplets_of(D: Array, y: list[int], settings: Triplet) -> list[tuple[int, int, int]]:
    """The triplets with a positive loss that the rules without chance choose."""
    chosen = []
    for a, p in pairs_of(y, settings.pairs):
        found = negatives_of(D, y, a, p, settings.alpha)
        picked = found["semihard"] if settings.negatives == "semihard_all" else found["semihard"][:1]
        if not picked and settings.fallback != "skip":
            picked = found["all"][:1] if settings.fallback == "hardest" else found["all"][-1:]
        chosen += [(a, p, n) for n in picked if D[a, p] - D[a, n] + settings.alpha > 0]
    return chosen


def triplet_loss(x: Array, y: list[int], settings: Triplet) -> tuple[float, Array]:
    """Loss and gradient with respect to the raw rows x, through the normalisation."""
    norms = np.linalg.norm(x, axis=1)
    u = x / norms[:, None]
    D = ((u[:, None] - u[None]) ** 2).sum(2)
    total, du = 0.0, np.zeros_like(u)
    chosen = triplets_of(D, y, settings)
    for a, p, n in chosen:
        total += D[a, p] - D[a, n] + settings.alpha
        du[a] += 2 * (u[n] - u[p])
        du[p] += 2 * (u[p] - u[a])
        du[n] += 2 * (u[a] - u[n])
    count = {"sum": 1, "mean_active": len(chosen), "mean_all": len(pairs_of(y, settings.pairs))}[settings.reduction]
    dx = (du - (du * u).sum(1, keepdims=True) * u) / norms[:, None]
    return total / max(count, 1), dx / max(count, 1)
