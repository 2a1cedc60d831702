"""Do the scores of other people look like those that a threshold was found on?

Strangers' scores are compared: a threshold's false match rate hangs on them, and every set of people has them. The
share of impostor pairs below each of a few known quantiles is compared with what it was. People are drawn anew, not
pairs (see `resampling`), to say how far these shares move by chance.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.resampling import RankedPairs
from facespace.errors import Refused

Floats = NDArray[np.float64]

LEVELS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
"""Shares of the impostor pairs whose scores are kept. Beyond them a small set of people has too few pairs."""
CHANCE = 0.01
"""The chance of a false alarm that is taken."""
FEWEST_PEOPLE = 20
"""Of fewer people drawing them anew does not tell how far their shares may move: alarms were too many."""


@dataclass(frozen=True)
class ImpostorScores:
    """Quantiles of the impostor scores of `people` people: `levels` of them lie below `scores`, fields alike long.

    `stderr` is that of these shares, over people.
    """

    levels: tuple[float, ...]
    scores: tuple[float, ...]
    stderr: tuple[float, ...]
    people: int


@dataclass(frozen=True)
class Drift:
    """How far the impostor scores of other people lie from those known.

    `shares` of theirs lie below the known quantiles `levels`. `statistic` is the largest difference between the two in
    standard errors, and `limit` what it exceeds by chance once in a hundred sets of people.
    """

    statistic: float
    limit: float
    levels: tuple[float, ...]
    shares: tuple[float, ...]

    @property
    def alike(self) -> bool:
        """Whether chance explains the difference."""
        return self.statistic <= self.limit


def impostor_scores(pairs: RankedPairs, weights: Floats) -> ImpostorScores:
    """What is kept of the impostor scores of all pairs; `weights` `(B, people)` are draws of the people."""
    impostors = np.delete(pairs.scores, pairs.genuine_ranks)  # falling
    ranks = [round((1 - level) * (len(impostors) - 1)) for level in LEVELS]
    scores = impostors[ranks].astype(np.float64)
    stderr = shares_below(pairs, weights, scores).std(axis=0, ddof=1)
    return ImpostorScores(LEVELS, tuple(scores.tolist()), tuple(stderr.tolist()), pairs.people)


def drift(known: ImpostorScores, pairs: RankedPairs, weights: Floats) -> Drift:
    """Compare all pairs of other people with what is `known`; `weights` `(B, people)` are draws of the others.

    A share's standard error is that of the known one and of the others' together; the latter is at least what the known
    one would be of so many people, for few people show little of their own. The limit is simulated: the largest
    deviation of a draw of the others from all of them, in its standard errors. Raises Refused for fewer than 20 people.
    """
    if pairs.people < FEWEST_PEOPLE:
        hint = f"bring photos of at least {FEWEST_PEOPLE} people"
        raise Refused(f"the scores of {pairs.people} people are too few to compare with others", hint=hint)
    shares = shares_below(pairs, np.ones((1, pairs.people)), known.scores)[0]
    moved = shares_below(pairs, weights, known.scores) - shares
    own, stderr = moved.std(axis=0, ddof=1), np.array(known.stderr)
    others = np.maximum(own, stderr * np.sqrt(known.people / pairs.people))
    together = np.sqrt(stderr**2 + others**2)
    deviations = np.abs(np.divide(moved, own, out=np.zeros_like(moved), where=own > 0)).max(axis=1)
    differences = np.abs(shares - np.array(known.levels))
    statistic = np.divide(differences, together, out=np.where(differences > 0, np.inf, 0.0), where=together > 0).max()
    return Drift(float(statistic), float(np.quantile(deviations, 1 - CHANCE)), known.levels, tuple(shares.tolist()))


def shares_below(pairs: RankedPairs, weights: Floats, scores: ArrayLike) -> Floats:
    """Shares `(B, S)` of impostor pairs below each of `scores` `(S,)` under each row of `weights` `(B, people)`."""
    size, rising = pairs.people, pairs.scores[::-1]
    shares = np.empty((len(weights), np.size(scores)))
    impostors = pairs.impostors(weights)
    for column, score in enumerate(np.asarray(scores, dtype=np.float64)):
        reached = len(rising) - int(np.searchsorted(rising, np.float32(score)))
        counts = np.bincount(pairs.cells[:reached], minlength=size**2).reshape(size, size).astype(np.float64)
        np.fill_diagonal(counts, 0)
        shares[:, column] = 1 - np.einsum("bp,bp->b", weights @ counts, weights) / impostors
    return shares
