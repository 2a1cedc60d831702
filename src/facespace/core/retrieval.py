"""Retrieval: every photo asks for its like among all others; Recall@K and mean average precision, exact, in blocks.

A mate is another photo of the same person. Between unit vectors the nearest by Euclidean distance is the one of highest
cosine, so the order by similarity is that of the literature's distances.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.contracts import Vectors
from facespace.core.dependence import interval_of
from facespace.core.intervals import Interval
from facespace.core.resampling import percentile_interval
from facespace.core.scores import best
from facespace.errors import DataError

Compare = Callable[[Vectors, Vectors], NDArray[Any]]
"""`(Na, D), (Nb, D) -> (Na, Nb)`; higher is more alike."""

_CELLS = 1 << 24  # 64 MB of float32 scores at a time
NEVER = 0
"""The rank of a mate that is not found."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """How each of Q queries fared; photos without a mate are no queries."""

    queries: NDArray[np.int64]
    """Positions of the queries `(Q,)`, rising."""
    first_mate: NDArray[np.int64]
    """Rank `(Q,)` of the first mate, from 1; NEVER where the query gave no vector, or no mate of it did."""
    average_precision: NDArray[np.float64]
    """`(Q,)`: 1/R Σ over the first R ranks of the precision there, where a mate stands; R is the number of mates."""
    alone: int
    """Photos without a mate."""

    def found_within(self, k: int) -> NDArray[np.bool_]:
        """Which queries `(Q,)` have a mate among their `k` nearest; the share of them is Recall@K."""
        found: NDArray[np.bool_] = (self.first_mate != NEVER) & (self.first_mate <= k)
        return found


def rank_mates(
    vectors: Vectors, labels: ArrayLike, acquired: ArrayLike | None = None, compare: Compare | None = None
) -> Ranks:
    """Let each row of `vectors` `(N, D)` that has a mate ask all other rows; persons are `labels` `(N,)`.

    Scores are cosines of unit rows, or those of `compare`. Of equal scores the lower index comes first. Rows where
    `acquired` bool `(N,)` is false are found by nobody, and as queries they find nothing: they stay in the count.
    Recall@K as in Jégou et al., PAMI 2011, leave-one-out; MAP@R from Musgrave et al., "A Metric Learning Reality
    Check", ECCV 2020. Raises DataError where nobody has a mate, or a score is no number.
    """
    _, person, photos = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    there = np.ones(len(vectors), np.bool_) if acquired is None else np.asarray(acquired, np.bool_)
    queries = np.flatnonzero(photos[person] > 1)
    if not queries.size:
        raise DataError(f"none of {len(vectors)} photos has another of its person", hint="give two photos per person")
    ranks, precisions = np.full(len(queries), NEVER, np.int64), np.zeros(len(queries))
    block = max(1, _CELLS // len(vectors))
    for start in range(0, len(queries), block):
        part = queries[start : start + block]
        scores = _scores(vectors, part, there, compare)
        for row, query in enumerate(part):
            if there[query]:
                mates = person == person[query]
                ranks[start + row] = _first_rank(scores[row], mates)
                precisions[start + row] = _precision(scores[row], mates, int(photos[person[query]]) - 1)
    return Ranks(queries, ranks, precisions, len(vectors) - len(queries))


def mean_over_people(
    values: NDArray[Any], people: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[float, Interval]:
    """The mean of values in 0..1 `(Q,)` of queries, and its 95 % interval when people are drawn anew.

    `people` `(Q,)` in 0..P-1 says whose query each is; `weights` `(B, P)` how often each comes in every replicate (see
    `resampling.draw_people`). Where all people fare alike the replicates show nothing: then that of one trial a person.
    """
    total = np.bincount(people, values.astype(np.float64), weights.shape[1])
    count = np.bincount(people, minlength=weights.shape[1])
    mean = float(values.mean())
    if np.ptp(total / count) == 0:
        return mean, interval_of(mean, len(count), len(count))
    return mean, percentile_interval((weights @ total) / (weights @ count))


def _scores(
    vectors: Vectors, queries: NDArray[np.int64], there: NDArray[np.bool_], compare: Compare | None
) -> NDArray[Any]:
    """Scores `(q, N)` of the queries; -inf for themselves and for rows that are not there."""
    asked = vectors[queries]
    scores = np.array(asked @ vectors.T if compare is None else compare(asked, vectors))
    scores[:, ~there] = -np.inf
    scores[np.arange(len(queries)), queries] = -np.inf
    if np.isnan(scores[there[queries]]).any() or np.isposinf(scores[there[queries]]).any():
        raise DataError("a score is not a number", hint="check the vectors of the model")
    return scores


def _first_rank(scores: NDArray[Any], mates: NDArray[np.bool_]) -> int:
    """Rank of the best mate: one more than the rows before it."""
    top = scores[mates].max()
    if np.isneginf(top):
        return NEVER
    at = int(np.argmax(mates & (scores == top)))  # the first of equals
    return 1 + int(np.count_nonzero(scores > top)) + int(np.count_nonzero(scores[:at] == top))


def _precision(scores: NDArray[Any], mates: NDArray[np.bool_], count: int) -> float:
    """Average precision over the first `count` ranks."""
    nearest = best(scores, count)
    hits = mates[nearest] & np.isfinite(scores[nearest])
    return float((hits * np.cumsum(hits) / np.arange(1, count + 1)).sum() / count)
