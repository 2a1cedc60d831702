"""The papers' formulas as slow float64 code, one angle and one photo at a time, apart from the package."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facespace.losses import ArcFace, Combined, CosFace, Margin, NormFace, SphereFace
from facespace.losses.adaptive import AdaFace, Adaptive, AnnealedSphereFace, CurricularFace, MagFace, MVSoftmax
from facespace.losses.head import AnyMargin

Array = NDArray[np.float64]
Memory = dict[str, float]


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
        return (1 - 2 * (k % 2)) * math.cos(phi) - 2 * k - m3
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


@dataclass(frozen=True)
class Rule:
    """What a margin says of one photo, each with its derivatives."""

    target: Callable[[float, float], tuple[float, float, float]]
    """Angle to the own class and norm a to T, dT/dc and dT/da."""
    other: Callable[[float, float], tuple[float, float]] = lambda c, own: (c, 1.0)
    """Cosines to another class and to the own one to what takes the former's place, and its slope."""
    scale: Callable[[float, float], tuple[float, float]] = lambda s, a: (s, 0.0)
    """Scale of the head and norm to the scale of the photo, and ds/da."""
    penalty: Callable[[float], tuple[float, float]] = lambda a: (0.0, 0.0)
    """Norm to a term of the loss, and its slope."""


def start_of(margin: AnyMargin) -> Memory:
    """What a margin remembers before the first step, as the papers and their code have it."""
    match margin:
        case AnnealedSphereFace():
            return {"iteration": 0.0}
        case AdaFace():
            return {"mean": 20.0, "deviation": 100.0}
        case CurricularFace():
            return {"t": 0.0}
    return {}


def remembered(margin: AnyMargin, memory: Memory, cosines: Array, norms: Array) -> Memory:
    """The memory after a batch with these cosines to the own classes and these norms."""
    match margin:
        case AnnealedSphereFace():
            return {"iteration": memory["iteration"] + 1}
        case AdaFace():
            a, new = np.clip(norms, 0.001, 100), margin.momentum
            deviation = memory["deviation"]
            if len(a) > 1:
                spread = math.sqrt(sum((x - a.mean()) ** 2 for x in a) / (len(a) - 1))
                deviation = new * spread + (1 - new) * deviation
            return {"mean": new * a.mean() + (1 - new) * memory["mean"], "deviation": deviation}
        case CurricularFace():
            return {"t": margin.momentum * cosines.mean() + (1 - margin.momentum) * memory["t"]}
    return {}


def rule_of(margin: AnyMargin, memory: Memory) -> Rule:
    """The rule of a margin, given what it remembers."""
    match margin:
        case AnnealedSphereFace():
            return annealed_sphereface(margin, memory["iteration"])
        case AdaFace():
            return adaface(margin, memory)
        case MagFace():
            return magface(margin)
        case CurricularFace():
            return curricularface(margin, memory["t"])
        case MVSoftmax():
            return mv_softmax(margin)
    if isinstance(margin, Adaptive):
        raise NotImplementedError(f"write the reference of {margin} from its paper")
    return Rule(lambda theta, a: (target(margin, theta), slope(margin, theta), 0.0))


def psi(m: float, theta: float) -> tuple[float, float]:
    """(-1)^k cos(m theta) - 2k and its slope in cos theta."""
    k = math.floor(m * theta / math.pi)
    return (1 - 2 * (k % 2)) * math.cos(m * theta) - 2 * k, m * abs(math.sin(m * theta)) / math.sin(theta)


def annealed_sphereface(margin: AnnealedSphereFace, iteration: float) -> Rule:
    """|x| (lambda c + psi)/(1 + lambda) against |x| c_j."""
    lam = max(margin.minimum, margin.base / (1 + margin.gamma * iteration))

    def target_at(theta: float, a: float) -> tuple[float, float, float]:
        value, steep = psi(margin.m1, theta)
        return (lam * math.cos(theta) + value) / (1 + lam), (lam + steep) / (1 + lam), 0.0

    return Rule(target_at, scale=lambda s, a: (a, 1.0))


def adaface(margin: AdaFace, memory: Memory) -> Rule:
    """cos(theta - m z) - m - m z, the angle clipped to 0..pi; z stands still."""

    def target_at(theta: float, a: float) -> tuple[float, float, float]:
        z = (min(max(a, 0.001), 100) - memory["mean"]) / (memory["deviation"] + 0.001) * margin.h
        z = min(max(z, -1.0), 1.0)
        phi = theta - margin.m * z
        steep = math.sin(phi) / math.sin(theta) if 0 < phi < math.pi else 0.0
        return math.cos(min(max(phi, 0.0), math.pi)) - margin.m - margin.m * z, steep, 0.0

    return Rule(target_at)


def magface(margin: MagFace) -> Rule:
    """cos(theta + m(a)) and the pull on a; both have slopes in a."""
    (low, high), (short, long) = margin.margins, margin.norms

    def held(a: float) -> tuple[float, float]:
        return min(max(a, short), long), float(short < a < long)

    def target_at(theta: float, a: float) -> tuple[float, float, float]:
        length, free = held(a)
        m, dm = low + (high - low) * (length - short) / (long - short), free * (high - low) / (long - short)
        c = math.cos(theta)
        if margin.past_pi == "easy_margin" and c <= 0:
            return c, 1.0, 0.0
        if theta + m < math.pi or margin.past_pi in ("none", "easy_margin"):
            return math.cos(theta + m), math.sin(theta + m) / math.sin(theta), -math.sin(theta + m) * dm
        assert margin.past_pi == "th/mm", "write it"
        return c - m * math.sin(m), 1.0, -(math.sin(m) + m * math.cos(m)) * dm

    def penalty(a: float) -> tuple[float, float]:
        length, free = held(a)
        return margin.pull * (length / long**2 + 1 / length), margin.pull * free * (1 / long**2 - 1 / length**2)

    return Rule(target_at, penalty=penalty)


def curricularface(margin: CurricularFace, t: float) -> Rule:
    """ArcFace, and c (t + c) for negatives above cos(theta + m) of the own class."""
    arc = ArcFace(margin.m)

    def other(c: float, own: float) -> tuple[float, float]:
        hard = c > math.cos(math.acos(own) + margin.m)
        return (c * (t + c), t + 2 * c) if hard else (c, 1.0)

    return Rule(lambda theta, a: (target(arc, theta), slope(arc, theta), 0.0), other)


def mv_softmax(margin: MVSoftmax) -> Rule:
    """CosFace or ArcFace, and negatives above T raised: log of h e^(s c) with the paper's h, over s."""
    plain: Margin = CosFace(margin.m) if margin.kind == "cosine" else ArcFace(margin.m)

    def other(c: float, own: float) -> tuple[float, float]:
        if c <= target(plain, math.acos(own)):
            return c, 1.0
        # h = e^(s t), or e^(s (t' - 1)(c + 1)) with t' = 1 + t.
        return (c + margin.t, 1.0) if margin.weighting == "fixed" else (c + margin.t * (c + 1), 1 + margin.t)

    return Rule(lambda theta, a: (target(plain, theta), slope(plain, theta), 0.0), other)


class Descent(NamedTuple):
    """A loss and its gradients."""

    loss: float
    f: Array
    W: Array
    s: float
    """With respect to the scale of the head, for margins that use it."""


def margin_softmax(
    f: Array, W: Array, y: list[int], margin: AnyMargin, s: float, memory: Memory | None = None
) -> Descent:
    """Mean cross-entropy with a margin on the label, and its gradients with respect to f (N, d), W and s.

    W is (n, d), or (n, K, d) where the nearest of K sub-centres speaks for its class.
    """
    rule = rule_of(margin, memory or start_of(margin))
    centres = W.reshape(len(W), -1, W.shape[-1])
    loss, df, dW, ds = 0.0, np.zeros_like(f), np.zeros_like(centres), 0.0
    for i in range(len(f)):
        a = float(np.linalg.norm(f[i]))
        fh = f[i] / a
        scale, dscale = rule.scale(s, a)
        cosines = [[cosine(fh, row) for row in rows] for rows in centres]
        best = [int(np.argmax(row)) for row in cosines]
        c = [row[k] for row, k in zip(cosines, best, strict=True)]
        value, steep, lean = np.zeros(len(W)), np.zeros(len(W)), np.zeros(len(W))  # and slopes in c and a
        for j in range(len(W)):
            value[j], steep[j] = rule.other(c[j], c[y[i]])
        value[y[i]], steep[y[i]], lean[y[i]] = rule.target(math.acos(c[y[i]]), a)
        z = scale * value
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        penalty, dpenalty = rule.penalty(a)
        loss += (penalty - z[y[i]] + z.max() + math.log(np.exp(z - z.max()).sum())) / len(f)
        p[y[i]] -= 1
        for j, k in enumerate(best):
            g = p[j] / len(f)
            row = centres[j, k]
            length = np.linalg.norm(row)
            df[i] += g * (
                scale * steep[j] * (row / length - c[j] * fh) / a + (dscale * value[j] + scale * lean[j]) * fh
            )
            dW[j, k] += g * scale * steep[j] * (fh - c[j] * row / length) / length
            ds += g * value[j]
        df[i] += dpenalty * fh / len(f)
    return Descent(loss, df, dW.reshape(W.shape), ds)


def cosine(u: Array, v: Array) -> float:
    """Of two vectors."""
    return float(u @ v / (np.linalg.norm(u) * np.linalg.norm(v)))


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


class Scores(NamedTuple):
    """What photos are to their classes, and gradients of sum(g_target * target + g_rest * rest)."""

    target: Array
    rest: Array
    nearest: Array
    f: Array
    W: Array
    b: Array
    s: Array


def class_scores(
    f: Array,
    W: Array,
    b: Array | None,
    s: Array,
    y: list[int],
    unit: bool,
    bend: Callable[[float, float], tuple[float, float]] | None,
    g_target: Array,
    g_rest: Array,
    pooled: bool = True,
) -> Scores:
    """Own cosine, log of the sum of e^(s c_j) over other classes, largest c_j; f counts as it is, rows by direction.

    Unless pooled, the sum runs over all sub-centres of the other classes.
    """
    n, classes = len(f), len(W)
    centres = W.reshape(classes, -1, W.shape[-1])
    none = np.full(n, -np.inf)
    out = Scores(
        np.zeros(n), none.copy(), none, np.zeros_like(f), np.zeros_like(centres), np.zeros(classes), np.zeros(n)
    )
    lengths = np.linalg.norm(centres, axis=2) if unit else np.ones(centres.shape[:2])
    for i in range(n):
        products = centres @ f[i] / lengths  # (C, K)
        best = products.argmax(1)
        c = products.max(1) + (0 if b is None else b)
        out.target[i] = c[y[i]]
        others = [
            (j, k) for j in range(classes) for k in ([int(best[j])] if pooled else range(centres.shape[1])) if j != y[i]
        ]
        cosines = {(j, k): products[j, k] + (0 if b is None else b[j]) for j, k in others}
        bent = {j: (value, 1.0) if bend is None else bend(value, c[y[i]]) for j, value in cosines.items()}
        slopes = {(y[i], int(best[y[i]])): g_target[i]}
        if others:
            top = max(s[i] * bent[j][0] for j in others)
            out.rest[i] = top + math.log(sum(math.exp(s[i] * bent[j][0] - top) for j in others))
            out.nearest[i] = max(cosines.values())
        for j in others:
            share = g_rest[i] * math.exp(s[i] * bent[j][0] - out.rest[i])
            out.s[i] += share * bent[j][0]
            slopes[j] = share * s[i] * bent[j][1]
        for (j, k), g in slopes.items():
            row, length = centres[j, k], lengths[j, k]
            along = products[j, k] * row / length if unit else 0
            out.f[i] += g * row / length
            out.W[j, k] += g * (f[i] - along) / length
            out.b[j] += g
    return out._replace(W=out.W.reshape(W.shape))
