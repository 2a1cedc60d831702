"""Faces that a set's own list names, so that no detector need look for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Face


@dataclass(frozen=True)
class GivenFaces:
    """One face for each photo: `place` says by name in which row of `landmarks` and `scores` it stands.

    `landmarks` float32 `(N, 5, 2)` are x and y in pixels of the photo, in the order of `Face`; `scores` float32 `(N,)`
    in 0..1 are the belief of the detector that the set was made with.
    """

    place: Mapping[str, int]
    landmarks: NDArray[np.float32]
    scores: NDArray[np.float32]
    source: ClassVar[str] = "given"
    """What stands in the place of a detector's name."""

    def of(self, photo: str) -> Face:
        """The face of a photo by name; its box is the least that holds the landmarks."""
        row = self.place[photo]
        points = self.landmarks[row].astype(np.float64)
        (x, y), (width, height) = points.min(0).tolist(), np.ptp(points, axis=0).tolist()
        landmarks = tuple((px, py) for px, py in points.tolist())
        return Face((x, y, width, height), float(self.scores[row]), landmarks, self.source)
