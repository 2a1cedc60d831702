"""Similarities that vectors carry with them: GroupFace's S* = cos(vbar, vbar') - beta D(vhat, vhat')^gamma.

A group-aware vector is [unit vbar, raw vhat]; `split` is where vhat begins. The distance is a penalty, not a cosine,
because vhat was not trained on the sphere (Kim et al., CVPR 2020, section 3.4).
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Vectors
from facespace.core.scores import unit_vectors
from facespace.errors import ModelError, UsageError

Distance = Literal["euclidean", "squared", "unit", "cosine"]
"""D between raw vhat: Euclidean, or its square; between unit vhat: Euclidean, or 1 - cosine."""

_CELLS = 1 << 21  # 16 MB of float64 at a time
_NEAR = 1e-6


@dataclass(frozen=True)
class GroupAware:
    """How the vectors of a group-aware model are compared; contradictions raise UsageError."""

    split: int
    """Length of vbar; vhat is the rest of the vector."""
    beta: float = 0.1
    """Weight of the penalty; 0 is the cosine."""
    gamma: float = 1 / 3
    """Power of the distance."""
    distance: Distance = "euclidean"

    def __post_init__(self) -> None:
        if self.split < 1 or not 0 <= self.beta < math.inf or not 0 < self.gamma < math.inf:
            raise UsageError(f"{self} compares nothing", hint="split >= 1, beta >= 0, gamma > 0")
        if self.distance not in get_args(Distance):
            hint = f"one of {', '.join(get_args(Distance))}"
            raise UsageError(f"distance = {self.distance!r} is unknown", hint=hint)

    def matrix(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        """Similarities float32 `(Na, Nb)` of vectors `(Na, D)` and `(Nb, D)`."""
        similarities = np.empty((len(a), len(b)), np.float32)
        groups_b = self._groups(b)
        rows = max(1, _CELLS // max(1, len(b)))
        for start in range(0, len(a), rows):
            part = slice(start, start + rows)
            cosines = a[part, : self.split] @ b[:, : self.split].T
            similarities[part] = cosines - self._penalty(_squares(self._groups(a[part]), groups_b))
        return similarities

    def pairs(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        """Similarities float32 `(N,)` of row i of `a` `(N, D)` with row i of `b` `(N, D)`."""
        cosines = np.einsum("nd,nd->n", a[:, : self.split], b[:, : self.split])
        gaps = self._groups(a) - self._groups(b)
        return np.asarray(cosines - self._penalty(np.einsum("nd,nd->n", gaps, gaps)), np.float32)

    def unit(self, vectors: Vectors) -> Vectors:
        """Vectors float32 `(N, D)` as they are compared: vbar divided by its length, vhat as it is.

        Raises ModelError where vbar has no direction or vhat is not finite.
        """
        if not np.isfinite(vectors[:, self.split :]).all():
            raise ModelError("a vector's group part is not finite", hint="check the model's weights")
        return np.concatenate([unit_vectors(vectors[:, : self.split]), vectors[:, self.split :]], 1)

    def _groups(self, vectors: Vectors) -> NDArray[np.float64]:
        """What distances are taken between `(N, H)`: vhat, or vhat divided by its length (zero stays zero)."""
        hidden = vectors[:, self.split :].astype(np.float64)
        if self.distance in ("euclidean", "squared"):
            return hidden
        lengths = np.linalg.norm(hidden, axis=1, keepdims=True)
        return np.asarray(np.divide(hidden, lengths, out=hidden, where=lengths > 0))

    def _penalty(self, squares: NDArray[np.float64]) -> NDArray[np.float64]:
        """beta D^gamma of squared Euclidean distances; of unit rows these are 2 - 2 cosine."""
        match self.distance:
            case "euclidean" | "unit":
                power = self.gamma / 2
            case "squared":
                power = self.gamma
            case "cosine":
                squares, power = squares / 2, self.gamma
        return np.asarray(self.beta * squares**power)


def template(vectors: Vectors, group_aware: GroupAware | None = None) -> Vectors:
    """One vector `(D,)` for several `(N, D)` of a person: their mean, to unit length; vhat is averaged apart.

    Raises ModelError where the vectors cancel out.
    """
    mean = vectors.mean(0, dtype=np.float64, keepdims=True).astype(np.float32)
    one: Vectors = (unit_vectors(mean) if group_aware is None else group_aware.unit(mean))[0]
    return one


def _squares(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances `(Na, Nb)` of rows.

    By a² + b² - 2ab, which leaves about 1e-15 of a² + b² where the distance is zero. The cube root would make 0.01 of
    that: the few near pairs are computed again from their differences.
    """
    lengths = (a * a).sum(1)[:, None] + (b * b).sum(1)  # (Na, Nb)
    squares: NDArray[np.float64] = lengths - 2 * (a @ b.T)
    rows, columns = np.nonzero(squares <= _NEAR * lengths)
    step = max(1, _CELLS // max(1, a.shape[1]))
    for start in range(0, len(rows), step):
        i, j = rows[start : start + step], columns[start : start + step]
        gaps = a[i] - b[j]
        squares[i, j] = np.einsum("nd,nd->n", gaps, gaps)
    return squares
