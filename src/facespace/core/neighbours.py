"""Recognition by the k nearest neighbours: who is the face most like, or nobody? (FaceNet, section 1.)"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Vectors
from facespace.core.scores import squared_distance, top_k
from facespace.errors import DataError, UsageError

UNKNOWN = -1
"""The label of a face that is near to nobody."""


@dataclass(frozen=True, eq=False)
class Recognised:
    """The answer for each query, all `(Q,)`."""

    labels: NDArray[np.int64]
    """Of the references, or UNKNOWN."""
    votes: NDArray[np.int64]
    """Neighbours that voted for the label; 0 for UNKNOWN."""
    similarities: NDArray[np.float64]
    """Mean cosine to them; NaN for UNKNOWN."""


def recognise(
    queries: Vectors, references: Vectors, labels: NDArray[np.int64], *, k: int = 1, distance: float = 4.0
) -> Recognised:
    """The label that most of the k references `(N, D)` nearest to each query `(Q, D)` bear; unit rows.

    Only references within the squared `distance` 0..4 vote, those at it too; a query without any is UNKNOWN. Of labels
    with as many votes the one with the greater summed cosine wins, then the lower. `labels` int64 `(N,)` are 0 or more.
    Raises UsageError for k < 1 or a distance below 0, DataError for labels that do not fit.
    """
    if k < 1 or not distance >= 0:
        raise UsageError(f"no neighbours with k = {k}, distance = {distance}", hint="k >= 1, distance >= 0")
    if labels.shape != references.shape[:1] or (labels < 0).any():
        raise DataError(f"labels {labels.shape} do not fit {len(references)} references", hint="one each, 0 or more")
    nearest, cosines = top_k(queries, references, k)
    # The distance of a reference, like the cosine it comes from, is a float32: at 4 all vote whatever the rounding.
    near = squared_distance(cosines.clip(-1, 1)) <= distance
    answers = [_vote(labels[n[v]], c[v]) for n, c, v in zip(nearest, cosines, near, strict=True)]
    of = [np.array([a[i] for a in answers]) for i in range(3)]
    return Recognised(of[0].astype(np.int64), of[1].astype(np.int64), of[2].astype(np.float64))


def _vote(labels: NDArray[np.int64], cosines: NDArray[np.float32]) -> tuple[int, int, float]:
    """Label, votes and mean cosine of the winner."""
    if not len(labels):
        return UNKNOWN, 0, np.nan
    people, ballots = np.unique(labels, return_inverse=True)
    votes, sums = np.bincount(ballots), np.bincount(ballots, weights=cosines)
    best = np.lexsort((-sums, -votes))[0]  # stable, and people ascend: the lower label comes first
    return int(people[best]), int(votes[best]), float(sums[best] / votes[best])
