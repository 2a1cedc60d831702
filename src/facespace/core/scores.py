"""How alike two vectors are: unit vectors, cosines and squared distances, scores of pairs in blocks, top-k.

Everywhere a score is a similarity: higher is more alike.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.contracts import ComparesPairs, Embedder, Vectors
from facespace.errors import ModelError

_PAIR_BLOCK = 4096  # gathered rows of a block stay in the cache: twice as fast as blocks of 100,000
_SQUARE_BLOCK = 64  # a similarity known only as a matrix is asked for small squares; their diagonals are the pairs
_PRODUCT_CELLS = 1 << 24  # 64 MB of float32 scores at a time


def unit_vectors(vectors: ArrayLike) -> Vectors:
    """Rows `(N, D)` divided by their lengths, float32.

    Raises `ModelError` where a row has no direction: all zero, or not finite.
    """
    rows = np.asarray(vectors)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if bad.size:
        raise ModelError(
            f"{bad.size} of {len(rows)} vectors have no direction (all zero, or not finite), the first in row {bad[0]}",
            hint="check the model's weights and the channels, mean and std of its card",
        )
    unit: Vectors = (rows / lengths[:, None]).astype(np.float32)
    return unit


def squared_distance(cosine: ArrayLike) -> NDArray[np.float64]:
    """Squared Euclidean distance 0..4 of unit vectors whose cosine is -1..1: D = 2 - 2c."""
    return 2.0 - 2.0 * np.asarray(cosine, dtype=np.float64)


def cosine(squared_distance: ArrayLike) -> NDArray[np.float64]:
    """Cosine -1..1 of unit vectors whose squared Euclidean distance is 0..4: c = 1 - D / 2."""
    return 1.0 - np.asarray(squared_distance, dtype=np.float64) / 2.0


def pair_scores(
    vectors: Vectors, first: NDArray[Any], second: NDArray[Any], embedder: Embedder | None = None
) -> NDArray[np.float32]:
    """Scores float32 `(P,)` of the pairs `(first[i], second[i])` of rows of `vectors` `(N, D)`.

    Cosine of unit rows, or the similarity of their embedder when it is given; made in small blocks.
    """
    by_rows = embedder is None or isinstance(embedder, ComparesPairs)
    scores = np.empty(len(first), dtype=np.float32)
    block = _PAIR_BLOCK if by_rows else _SQUARE_BLOCK
    for start in range(0, len(first), block):
        part = slice(start, start + block)
        scores[part] = _row_scores(vectors[first[part]], vectors[second[part]], embedder)
    return scores


def _row_scores(a: Vectors, b: Vectors, embedder: Embedder | None) -> NDArray[np.float32]:
    if embedder is None:
        return np.asarray(np.einsum("nd,nd->n", a, b), np.float32)
    if isinstance(embedder, ComparesPairs):
        return embedder.pair_similarity(a, b)
    return embedder.similarity(a, b).diagonal()


def top_k(queries: Vectors, references: Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Indices and cosines, both `(Q, min(k, N))`, of the references `(N, D)` most like each query `(Q, D)`, best first.

    Exact; of equal scores the lower index comes first.
    """
    k = min(k, len(references))
    indices = np.empty((len(queries), k), dtype=np.int64)
    scores = np.empty((len(queries), k), dtype=np.float32)
    if k == 0:
        return indices, scores
    block = max(1, _PRODUCT_CELLS // len(references))
    for start in range(0, len(queries), block):
        for row, similarities in enumerate(queries[start : start + block] @ references.T, start):
            indices[row] = best(similarities, k)
            scores[row] = similarities[indices[row]]
    return indices, scores


def best(similarities: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Indices of the k highest, best first; all ties at the edge are candidates, so the lowest index wins."""
    edge = np.partition(similarities, -k)[-k]
    candidates = np.flatnonzero(similarities >= edge)
    return candidates[np.argsort(-similarities[candidates], kind="stable")][:k]
