"""Boxes, five landmarks, the 112-pixel template and the closed-form similarity transform between point sets."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.errors import InputError

Box = tuple[float, float, float, float]
"""(x, y, width, height) in pixels; x and y of the top left corner."""

SIZE = 112
"""Side in pixels of an aligned face."""

TEMPLATE: NDArray[np.float64] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Left eye, right eye, nose, left and right mouth corner (x, y) of an aligned face of 112 x 112 pixels.

Left means left in the picture. Source: the public code of ArcFace (CVPR 2019). The 96-wide variant is this with x - 8.
"""
TEMPLATE.setflags(write=False)

_TINY = 1e-9
"""Points nearer than this part of their distance from the origin count as one."""


def similarity_transform(source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """The matrix `(2, 3)` of turn, scale and shift that takes points `source` `(N, 2)` nearest to `target` `(N, 2)`.

    Least squares, and never a reflection: with points as complex numbers z = x + iy the map is w = a z + b, where
    a = sum(conj(z) w) / sum(|z|^2) over centred points (in two dimensions the same as Umeyama, PAMI 1991, eq. 40-42).
    Raises InputError where there is no such map: a point is not finite, all points of a side coincide, or they are so
    much turned inside out that shrinking them to one point fits best.
    """
    z, w = _as_complex(source), _as_complex(target)
    z0, w0 = z - z.mean(), w - w.mean()
    if _coincide(z, z0) or _coincide(w, w0):
        raise InputError("the landmarks coincide, so the face cannot be aligned")
    a = np.vdot(z0, w0) / np.vdot(z0, z0)
    if abs(a) * np.abs(z0).max() <= _TINY * np.abs(w0).max():
        raise InputError("the landmarks are turned inside out, so the face cannot be aligned")
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def transform_points(matrix: ArrayLike, points: ArrayLike) -> NDArray[np.float64]:
    """Points `(N, 2)` moved by an affine matrix `(2, 3)`."""
    m = np.asarray(matrix, np.float64)
    return np.asarray(points, np.float64) @ m[:, :2].T + m[:, 2]


def area(box: Box) -> float:
    """Square pixels of a box; 0 for one of negative width or height."""
    return max(box[2], 0.0) * max(box[3], 0.0)


def centre(box: Box) -> tuple[float, float]:
    """The middle (x, y) of a box."""
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def _as_complex(points: ArrayLike) -> NDArray[np.complex128]:
    """Points `(N, 2)` as complex numbers `(N,)`; raises InputError where one is not finite."""
    xy = np.asarray(points, np.float64)
    if xy.ndim != 2 or xy.shape[1] != 2 or not xy.size or not np.isfinite(xy).all():
        raise InputError(f"landmarks must be finite points (N, 2), not {xy.tolist()}")
    z: NDArray[np.complex128] = xy[:, 0] + 1j * xy[:, 1]
    return z


def _coincide(points: NDArray[np.complex128], centred: NDArray[np.complex128]) -> bool:
    return bool(np.abs(centred).max(initial=0.0) <= _TINY * np.abs(points).max(initial=0.0))
