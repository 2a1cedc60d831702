"""An embedder whose vectors are compared another way, such as by Joint Bayesian."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import AlignedFaces, Embedder, Vectors


@dataclass(frozen=True)
class Rescored:
    """`embedder` with `compare` for its similarity; it goes wherever an embedder does.

    The vectors and so the contract are those of `embedder`, but its thresholds mean nothing here: find one anew.
    """

    embedder: Embedder
    compare: Callable[[Vectors, Vectors], NDArray[np.float32]]
    """Scores `(Na, Nb)` of vectors `(Na, D)` and `(Nb, D)`; higher is more alike."""
    label: str
    """What compares, such as `joint-bayesian`."""

    @property
    def name(self) -> str:
        """The embedder's, and what compares: `compact+joint-bayesian`."""
        return f"{self.embedder.name}+{self.label}"

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.embedder.dim

    @property
    def contract(self) -> str:
        """The embedder's."""
        return self.embedder.contract

    def embed(self, faces: AlignedFaces) -> Vectors:
        """The embedder's vectors `(N, D)`."""
        return self.embedder.embed(faces)

    def similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        """Scores `(Na, Nb)` by `compare`."""
        return self.compare(a, b)
