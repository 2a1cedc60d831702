"""Agglomerative clustering of faces: who is in a heap of photos, when nobody is enrolled (FaceNet, section 5.8).

The two nearest clusters join, again and again. How far apart two clusters are: `single`, the nearest two of their
faces; `complete`, the farthest two; `average`, the mean over all pairs. Distances are squared L2 of unit vectors, 0..4,
so the average is 2 - 2 mean cosine.

By the chain of nearest neighbours (Murtagh, "A survey of recent advances in hierarchical clustering algorithms", The
Computer Journal 26, 1983): N² time and one float32 matrix `(N, N)`; 100 MB and about a second at N = 5,000.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Vectors
from facespace.errors import UsageError

Linkage = Literal["single", "complete", "average"]

Tree = NDArray[np.float64]
"""The joins `(N - 1, 4)`, nearest first: two clusters, their distance, and the number of faces in both together.

Face i is cluster i, and the join in row r makes cluster N + r, as in `scipy.cluster.hierarchy`.
"""

_Matrix = NDArray[np.float32]


def cluster(vectors: Vectors, *, distance: float, linkage: Linkage = "average") -> NDArray[np.int64]:
    """Clusters int64 `(N,)` of unit rows `(N, D)`: those up to the squared `distance` apart have joined.

    Numbered from 0 in the order of their first faces. Raises UsageError for an unknown linkage.
    """
    return cut(tree(vectors, linkage), distance)


def cut(joins: Tree, distance: float) -> NDArray[np.int64]:
    """The clusters int64 `(N,)` of a tree after all joins at up to `distance`, numbered by their first faces."""
    faces = len(joins) + 1
    root = np.arange(2 * faces - 1)
    for row, (a, b, apart, _) in reversed(list(enumerate(joins))):  # from the top, so that a root is final when used
        if apart <= distance:
            root[[int(a), int(b)]] = root[faces + row]
    _, first, which = np.unique(root[:faces], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which]


def tree(vectors: Vectors, linkage: Linkage = "average") -> Tree:
    """All joins of N >= 1 unit rows `(N, D)`. Raises UsageError for an unknown linkage, or no rows."""
    if linkage not in get_args(Linkage):
        raise UsageError(f"linkage = {linkage!r} is unknown", hint=f"one of {', '.join(get_args(Linkage))}")
    if not len(vectors):
        raise UsageError("no faces, so no clusters", hint="give at least one vector")
    return _in_order(_chain(_squared_distances(vectors), linkage), len(vectors))


def _squared_distances(vectors: Vectors) -> _Matrix:
    """`(N, N)`, exactly symmetric (or the chain might run in a circle), infinite on the diagonal."""
    distances: _Matrix = np.matmul(vectors, vectors.T, dtype=np.float32)
    np.multiply(distances, -2, out=distances)
    np.add(distances, 2, out=distances)
    np.maximum(distances, 0, out=distances)
    for i in range(len(distances)):
        distances[i + 1 :, i] = distances[i, i + 1 :]
    np.fill_diagonal(distances, np.inf)
    return distances


def _chain(distances: _Matrix, linkage: Linkage) -> list[tuple[int, int, float]]:
    """Joins (a, b, distance), in no order; b stands for both from then on. Overwrites the matrix."""
    joins: list[tuple[int, int, float]] = []
    size = np.ones(len(distances))
    chain: list[int] = []
    while len(joins) < len(distances) - 1:
        if not chain:
            chain = [int(np.argmax(size > 0))]
        a = chain[-1]
        b = int(distances[a].argmin())
        if len(chain) > 1 and distances[a, chain[-2]] <= distances[a, b]:  # at a tie back, or the chain might not end
            b = chain[-2]
            joins.append((a, b, float(distances[a, b])))
            _join(distances, size, a, b, linkage)
            chain = chain[:-2]
        else:
            chain.append(b)
    return joins


def _join(distances: _Matrix, size: NDArray[np.float64], a: int, b: int, linkage: Linkage) -> None:
    """b takes a in: the distances from both together, by the rules of Lance and Williams."""
    match linkage:
        case "single":
            joined = np.minimum(distances[a], distances[b])
        case "complete":
            joined = np.maximum(distances[a], distances[b])
        case "average":
            share = np.float32(size[a] / (size[a] + size[b]))
            joined = share * distances[a] + (1 - share) * distances[b]
            # A mean rounded below both would break what the chain rests on: joins never bring a third cluster nearer.
            np.maximum(joined, np.minimum(distances[a], distances[b]), out=joined)
    distances[b] = distances[:, b] = joined
    distances[a] = distances[:, a] = distances[b, b] = np.inf
    size[b] += size[a]
    size[a] = 0


def _in_order(joins: list[tuple[int, int, float]], faces: int) -> Tree:
    """The joins by rising distance, with clusters numbered as they come to be."""
    order = sorted(range(len(joins)), key=lambda i: joins[i][2])  # stable: inner joins stay before outer ones
    now, size = list(range(faces)), [1] * (2 * faces - 1)  # now: the cluster that a face stands for
    rows = np.empty((len(joins), 4))
    for row, (a, b, apart) in enumerate(joins[i] for i in order):
        size[faces + row] = size[now[a]] + size[now[b]]
        rows[row] = *sorted((now[a], now[b])), apart, size[faces + row]
        now[b] = faces + row
    return rows
