"""What the floors hand each other: a face found in a photo, and the protocols of those who find and embed faces.

A photo is RGB uint8 `(H, W, 3)`, upright. An aligned face is RGB uint8 `(112, 112, 3)`.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Photo = NDArray[np.uint8]
"""RGB `(H, W, 3)`, upright."""
AlignedFaces = NDArray[np.uint8]
"""RGB `(N, 112, 112, 3)`, eyes, nose and mouth corners on the template of `core.geometry`."""
Vectors = NDArray[np.float32]
"""Rows `(N, D)` as their embedder compares them: unit rows, or for a group-aware model [unit vbar, raw vhat]."""


@dataclass(frozen=True)
class Face:
    """A face in a photo, in pixels of that photo; the centre of the top left pixel is (0, 0).

    `box` is (x, y, width, height). `score` in 0..1 is the detector's belief. `landmarks` are five points (x, y): left
    eye, right eye, nose, left and right mouth corner, left meaning left in the picture. `source` names the detector
    and its working size: both are part of the identity of an embedding made from the face.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[tuple[float, float], ...]
    source: str

    def as_json(self) -> dict[str, Any]:
        """`{"box": [x, y, w, h], "score": s, "landmarks": [[x, y] * 5]}`, pixels to a hundredth."""
        return {
            "box": [round(v, 2) for v in self.box],
            "score": round(self.score, 4),
            "landmarks": [[round(x, 2), round(y, 2)] for x, y in self.landmarks],
        }


class Detector(Protocol):
    """Finds faces in a photo."""

    @property
    def source(self) -> str:
        """Name and working size, such as `yunet@320`; recorded with every embedding."""
        ...

    def detect(self, photo: Photo) -> list[Face]:
        """Faces of the photo, best score first; an empty list where there is none."""
        ...


class Embedder(Protocol):
    """Maps aligned faces to vectors, unit rows unless it is group-aware. Channels and normalisation are its own
    business.
    """

    @property
    def name(self) -> str:
        """Short name, for people."""
        ...

    @property
    def dim(self) -> int:
        """Length D of a vector."""
        ...

    @property
    def contract(self) -> str:
        """Id of weights digest + preprocessing + dimension: vectors of different contracts never meet."""
        ...

    def embed(self, faces: AlignedFaces) -> Vectors:
        """Vectors float32 `(N, D)` of faces uint8 `(N, 112, 112, 3)`."""
        ...

    def similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        """Similarities float32 `(Na, Nb)`; higher is more alike."""
        ...


@runtime_checkable
class ComparesPairs(Protocol):
    """What an embedder may do besides: compare row by row, without the whole matrix."""

    def pair_similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        """Similarities float32 `(N,)` of row i of `a` `(N, D)` with row i of `b` `(N, D)`."""
        ...
