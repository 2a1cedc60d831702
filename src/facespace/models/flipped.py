"""An embedder that looks at a face and at its mirror image, as public ArcFace code does when it is judged."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import AlignedFaces, Vectors
from facespace.models.embedder import NetEmbedder


@dataclass(frozen=True)
class Flipped:
    """`embedder` with the raw features of a face and of its mirror image added before they become a unit vector.

    It takes twice the time. Raw features are what public code adds: of the two the longer counts for more. Of a
    group-aware model unit vbar are added, as its network gives them, and vhat is averaged. The papers look at no mirror
    image.
    """

    embedder: NetEmbedder

    @property
    def name(self) -> str:
        """The embedder's, and what is done: `compact+flip`."""
        return f"{self.embedder.name}+flip"

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.embedder.dim

    @property
    def contract(self) -> str:
        """One of its own: its vectors are not those of the embedder."""
        return hashlib.sha256(f"{self.embedder.contract}+flip".encode()).hexdigest()[:12]

    def embed(self, faces: AlignedFaces) -> Vectors:
        """Vectors `(N, D)` of faces uint8 `(N, 112, 112, 3)`; ModelError where the two cancel out."""
        mirrored = np.ascontiguousarray(faces[:, :, ::-1])
        both = self.embedder.raw(faces) + self.embedder.raw(mirrored)
        return self.embedder.comparable(both / np.float32(2))

    def similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        """The embedder's, `(Na, Nb)`."""
        return self.embedder.similarity(a, b)

    def pair_similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        """The embedder's, `(N,)`, row by row."""
        return self.embedder.pair_similarity(a, b)
