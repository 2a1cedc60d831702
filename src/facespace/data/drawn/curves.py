"""Points and smooth curves on the plane of the face."""

import math

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
"""`(N, 2)`, x and y."""

MIRROR: Points = np.array([-1, 1], np.float32)
"""Factor that takes the right half of a face to the left one."""

_T = np.arange(6, dtype=np.float32)[:, None] / 6
_CATMULL_ROM = 0.5 * np.concatenate(
    [-_T + 2 * _T**2 - _T**3, 2 - 5 * _T**2 + 3 * _T**3, _T + 4 * _T**2 - 3 * _T**3, _T**3 - _T**2], axis=1
)  # weights (6, 4) of four neighbouring points on the piece between the middle two
_CIRCLE = np.array([(math.cos(t * math.pi / 12), math.sin(t * math.pi / 12)) for t in range(24)], np.float32)


def points(*pairs: tuple[float, float]) -> Points:
    """The pairs as an array."""
    return np.array(pairs, np.float32)


def spline(through: Points, *, closed: bool = False) -> Points:
    """The Catmull-Rom curve through the points, six of its own for each piece."""
    if closed:
        before, after = through[-1:], through[:2]
    else:
        before, after = 2 * through[:1] - through[1:2], 2 * through[-1:] - through[-2:-1]
    p = np.concatenate([before, through, after])
    pieces = np.stack([p[:-3], p[1:-2], p[2:-1], p[3:]], axis=1)  # (pieces, 4, 2)
    curve: Points = (_CATMULL_ROM @ pieces).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, through[-1:]])


def loop(*half: tuple[float, float]) -> Points:
    """The closed symmetric curve whose right half runs from top to bottom, both ends on the axis."""
    right = points(*half)
    return spline(np.concatenate([right, right[-2:0:-1] * MIRROR]), closed=True)


def arch(*half: tuple[float, float]) -> Points:
    """The open symmetric curve, left to right, whose right half is given from the corner to the axis."""
    right = points(*half[::-1])
    return spline(np.concatenate([right[:0:-1] * MIRROR, right]))


def band(upper: Points, lower: Points) -> Points:
    """The polygon between two curves that both run left to right."""
    return np.concatenate([upper, lower[::-1]])


def both(right: Points) -> list[Points]:
    """A curve of the right half of the face, and its mirror image."""
    return [right, right * MIRROR]


def ellipse(x: float, y: float, wide: float, tall: float, angle: float = 0.0) -> Points:
    """Outline of an ellipse with the given half axes, turned by `angle` radians."""
    c, s = math.cos(angle), math.sin(angle)
    axes = np.array([[c * wide, s * wide], [-s * tall, c * tall]], np.float32)
    outline: Points = _CIRCLE @ axes + np.array([x, y], np.float32)
    return outline


def resampled(curve: Points, steps: int) -> Points:
    """`steps` points at equal distances of index along a curve."""
    at = np.linspace(0, len(curve) - 1.001, steps, dtype=np.float32)[:, None]
    index = at[:, 0].astype(int)
    share = at - index[:, None].astype(np.float32)
    between: Points = (1 - share) * curve[index] + share * curve[index + 1]
    return between
