"""An embedder that looks at a face and at its mirror image, as public ArcFace code does when it is judged."""

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import AlignedFaces, Embedder, Vectors
from facespace.core.similarity import GroupAware
from facespace.errors import UsageError
from facespace.models.embedder import NetEmbedder

How = Literal["sum", "concat"]


@dataclass(frozen=True)
class Flipped:
    """`embedder` with a face and its mirror image fused into one vector, at twice the time.

    `sum` adds their raw features before they become a unit vector. Raw features are what public code adds: of the two
    the longer counts for more. Of a group-aware model unit vbar are added, as its network gives them, and vhat is
    averaged. `concat` sets the two unit vectors one after the other: twice the bytes, and the cosine is the mean of the
    cosines of the faces and of their mirror images. It is refused for a group-aware model, whose vectors are no unit
    rows. The papers look at no mirror image.
    """

    embedder: NetEmbedder
    how: How = "sum"

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            raise UsageError(f"how = {self.how!r} is unknown", hint="sum or concat")
        if self.how == "concat" and self.embedder.card.group_aware is not None:
            hint = "take sum, which averages the parts of its vectors"
            raise UsageError(f"vectors of the group-aware model {self.embedder.name!r} do not concatenate", hint=hint)

    @property
    def name(self) -> str:
        """The embedder's, and what is done: `compact+flip`, `compact+flip-concat`."""
        return self.embedder.name + self._suffix

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.embedder.dim * (2 if self.how == "concat" else 1)

    @property
    def contract(self) -> str:
        """One of its own: its vectors are not those of the embedder."""
        return hashlib.sha256(f"{self.embedder.contract}{self._suffix}".encode()).hexdigest()[:12]

    @property
    def _suffix(self) -> str:
        return "+flip" if self.how == "sum" else "+flip-concat"

    def embed(self, faces: AlignedFaces) -> Vectors:
        """Vectors `(N, D)` of faces uint8 `(N, 112, 112, 3)`; ModelError where two that are added cancel out."""
        mirrored = np.ascontiguousarray(faces[:, :, ::-1])
        if self.how == "concat":
            both = np.concatenate([self.embedder.embed(faces), self.embedder.embed(mirrored)], axis=1)
            return np.asarray(both / np.sqrt(np.float32(2)), np.float32)
        both = self.embedder.raw(faces) + self.embedder.raw(mirrored)
        return self.embedder.comparable(both / np.float32(2))

    def similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        """The embedder's, `(Na, Nb)`; of halves that stand side by side the sum, which is the mean of two cosines."""
        return np.asarray(sum(self.embedder.similarity(x, y) for x, y in self._parts(a, b)), np.float32)

    def pair_similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        """As `similarity`, `(N,)`, row by row."""
        return np.asarray(sum(self.embedder.pair_similarity(x, y) for x, y in self._parts(a, b)), np.float32)

    def _parts(self, a: Vectors, b: Vectors) -> list[tuple[Vectors, Vectors]]:
        """What the embedder compares: whole vectors, or first halves and second halves."""
        at = self.embedder.dim
        return [(a, b)] if self.how == "sum" else [(a[:, :at], b[:, :at]), (a[:, at:], b[:, at:])]


def group_aware_of(embedder: Embedder) -> GroupAware | None:
    """How a group-aware embedder compares; None for one whose vectors are compared whole."""
    net = embedder.embedder if isinstance(embedder, Flipped) else embedder
    return net.card.group_aware if isinstance(net, NetEmbedder) else None
