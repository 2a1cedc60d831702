"""Faces turned, scaled and shifted onto the template: the crops that encoders take."""

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Detector, Face, Photo
from facespace.core.geometry import SIZE, TEMPLATE, similarity_transform
from facespace.faces.detect import Policy, choose


def align(photo: Photo, face: Face, size: int = SIZE) -> NDArray[np.uint8]:
    """The face as RGB uint8 `(size, size, 3)`, its landmarks on the template; black where the photo ends.

    Bilinear, taken from the photo at full resolution. A face at least twice as large as the crop is first reduced by
    averaging, because bilinear sampling would skip pixels there. Raises InputError where the landmarks determine no
    alignment.
    """
    scale = size / SIZE
    matrix = similarity_transform(face.landmarks, (TEMPLATE + 0.5) * scale - 0.5)
    shrink = int(1 / np.hypot(*matrix[:, 0]))
    if shrink >= 2:
        photo, matrix = _reduced(photo, matrix, size, shrink)
    return np.asarray(cv2.warpAffine(photo, matrix, (size, size), flags=cv2.INTER_LINEAR), np.uint8)


def aligned_faces(photo: Photo, detector: Detector, policy: Policy = "largest") -> list[tuple[Face, NDArray[np.uint8]]]:
    """The faces of the photo that `policy` takes, each with its aligned crop uint8 `(112, 112, 3)`.

    Raises NoFace, or SeveralFaces under the policy `refuse` (see `faces.detect.choose`).
    """
    return [(face, align(photo, face)) for face in choose(detector.detect(photo), policy, photo.shape)]


def _reduced(photo: Photo, matrix: NDArray[np.float64], size: int, shrink: int) -> tuple[Photo, NDArray[np.float64]]:
    """The part of the photo that the crop shows, averaged over `shrink` x `shrink` pixels, and the matrix from there.

    Pixel i of the part averages pixels left + shrink * i ... left + shrink * (i + 1) - 1, whose middle is
    shrink * i + (shrink - 1) / 2 + left.
    """
    left, top, right, bottom = _shown(photo, matrix, size, margin=2 * shrink)
    columns, rows = (right - left) // shrink, (bottom - top) // shrink
    if not columns or not rows:
        return photo, matrix
    part = photo[top : top + rows * shrink, left : left + columns * shrink]
    part = np.asarray(cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    linear = matrix[:, :2]
    middle = np.array([left, top]) + (shrink - 1) / 2
    return part, np.column_stack([linear * shrink, linear @ middle + matrix[:, 2]])


def _shown(photo: Photo, matrix: NDArray[np.float64], size: int, margin: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the photo's pixels that the crop may show, `margin` pixels wider."""
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) - 0.5
    seen = np.linalg.solve(matrix[:, :2], (corners - matrix[:, 2]).T).T
    limit = np.array(photo.shape[1::-1])
    low = np.clip(np.floor(seen.min(0)) - margin, 0, limit).astype(int)
    high = np.clip(np.ceil(seen.max(0)) + margin, 0, limit).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
