"""An embedding in a byte per dimension: FaceNet's 128 floats as 128 bytes (arXiv 1503.03832, section 5.4).

The paper gives no scheme. Here a number x of a unit vector becomes the whole number nearest to 127 x; what is read back
is a unit vector again. With `Ranges` each dimension is spread over its own range instead, in 255 steps.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Vectors
from facespace.core.scores import unit_vectors
from facespace.errors import DataError

Bytes = NDArray[np.int8] | NDArray[np.uint8]
"""Rows `(N, D)`: int8 in -127..127 for one scale, uint8 in 0..255 for ranges; each kind is read back as what it is."""

_SCALE = 127
_STEPS = 255


@dataclass(frozen=True, eq=False)
class Ranges:
    """The lowest and the highest number of each dimension, float32 `(D,)`; needed again to read the bytes."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def of(cls, vectors: Vectors) -> "Ranges":
        """Of a set of vectors `(N, D)`, N at least 1, such as a gallery; DataError where there are none."""
        if not len(vectors):
            raise DataError("no vectors, so no ranges", hint="give at least one vector")
        return cls(vectors.min(axis=0), vectors.max(axis=0))

    @property
    def step(self) -> NDArray[np.float32]:
        """The width of a step `(D,)`; 1 where a dimension has one number only."""
        width = (self.high - self.low) / np.float32(_STEPS)
        return np.where(width > 0, width, np.float32(1))


def to_bytes(vectors: Vectors, ranges: Ranges | None = None) -> Bytes:
    """Unit rows `(N, D)` as bytes; each number is off by at most half a step (1/254 without ranges).

    Numbers outside the ranges are cut to them.
    """
    if ranges is None:
        linear: NDArray[np.int8] = np.rint(np.clip(vectors, -1, 1) * _SCALE).astype(np.int8)
        return linear
    spread: NDArray[np.uint8] = np.clip(np.rint((vectors - ranges.low) / ranges.step), 0, _STEPS).astype(np.uint8)
    return spread


def from_bytes(rows: Bytes, ranges: Ranges | None = None) -> Vectors:
    """Unit rows float32 `(N, D)`.

    Raises DataError where bytes of ranges come without them, or the other way round; ModelError for a row of zeros.
    """
    if rows.dtype != (np.int8 if ranges is None else np.uint8):
        kind = "one scale (int8)" if ranges is None else "ranges (uint8)"
        raise DataError(f"rows of {rows.dtype} are not bytes of {kind}", hint="read them as they were written")
    numbers = rows.astype(np.float32)
    return unit_vectors(numbers if ranges is None else ranges.low + numbers * ranges.step)
