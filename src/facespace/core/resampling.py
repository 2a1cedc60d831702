"""How sure a figure over all pairs of people is: the bootstrap that draws people anew, not pairs.

Pairs that share a person rise and fall together, so intervals that count pairs are too narrow. A replicate draws as
many people as there are, with replacement; whoever is drawn w times brings all photos w times. A genuine pair of person
i then counts w_i times, an impostor pair of i and j w_i w_j times, and two copies of one person make no pair. Bolle,
Ratha and Pankanti, "Error analysis of pattern recognition systems: the subsets bootstrap", CVIU 93 (2004); for pairs,
Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007).

Exact, and quick: pairs are sorted once; those above a window of ranks are counted for all replicates in one product of
matrices, and only those within it one by one.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.contracts import Vectors
from facespace.core.intervals import Interval
from facespace.core.verification import refuse_far
from facespace.errors import DataError

Floats = NDArray[np.float64]
Similarity = Callable[[Vectors, Vectors], NDArray[np.float32]]
"""`(Na, D), (Nb, D) -> (Na, Nb)`, symmetric; higher is more alike."""
Goal = Callable[[Floats, Floats], tuple[Floats, Floats, Floats]]
"""From the numbers of genuine and of impostor pairs, `(B,)` each: what a genuine and an impostor pair add to a sum, and
the limit that the sum over falling scores must pass."""
_ROWS = 256  # photos compared with all others at a time
_WINDOW = 50_000  # ranks on either side of the plain answer that are looked at first; few replicates need more
_MANY_EQUALS = 5_000  # pairs of equal score from which counting a run at once costs less than going through it
_MOST_PEOPLE = 46_340  # the cells of all pairs of people must fit int32


@dataclass(frozen=True)
class RankedPairs:
    """All pairs of photos by falling score; those of equal score stand together."""

    scores: NDArray[np.float32]
    """`(n,)`, falling."""
    cells: NDArray[np.int32]
    """`(n,)`: `a * people + b` for a pair of persons a and b; genuine where a = b."""
    photos: NDArray[np.int64]
    """Photos of each person `(people,)`."""

    @property
    def people(self) -> int:
        """How many people there are."""
        return len(self.photos)

    @cached_property
    def genuine_ranks(self) -> NDArray[np.int64]:
        """Where the genuine pairs stand, rising."""
        return np.flatnonzero(self.cells % (self.people + 1) == 0)

    def genuine(self, weights: Floats) -> Floats:
        """Genuine pairs `(B,)` where the people count `weights` `(B, people)` times."""
        within: Floats = weights @ (self.photos * (self.photos - 1) / 2)
        return within

    def impostors(self, weights: Floats) -> Floats:
        """Impostor pairs `(B,)` where the people count `weights` `(B, people)` times."""
        between: Floats = ((weights @ self.photos) ** 2 - weights**2 @ self.photos**2) / 2
        return between


def ranked_pairs(vectors: Vectors, labels: ArrayLike, similarity: Similarity | None = None) -> RankedPairs:
    """All pairs of the rows of `vectors` `(N, D)`, whose persons are `labels` int `(N,)`.

    Scores are cosines of unit rows, or the given `similarity`. 28 bytes a pair at the most. Raises DataError
    where a score is not finite, or there are no genuine or no impostor pairs.
    """
    people, label, photos = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    if len(people) > _MOST_PEOPLE or len(people) < 2 or photos.max() < 2:
        raise DataError(f"{len(vectors)} photos of {len(people)} people do not give both kinds of pairs, or too many")
    total = len(vectors) * (len(vectors) - 1) // 2
    scores, cells, done = np.empty(total, np.float32), np.empty(total, np.int32), 0
    label = label.astype(np.int32)
    for start in range(0, len(vectors), _ROWS):
        rows, others = vectors[start : start + _ROWS], vectors[start:]
        block = rows @ others.T if similarity is None else similarity(rows, others)
        pairs = np.triu(np.ones(block.shape, np.bool_), 1)  # each once, none with itself
        stop = done + int(pairs.sum())
        scores[done:stop] = block[pairs]
        cells[done:stop] = (label[start : start + _ROWS, None] * len(people) + label[start:])[pairs]
        done = stop
    if not np.isfinite(scores).all():
        raise DataError("a score is not a number", hint="check the vectors of the model")
    order = np.argsort(scores)[::-1]
    return RankedPairs(scores[order], cells[order], photos.astype(np.int64))


def draw_people(photos: ArrayLike, count: int, rng: np.random.Generator) -> Floats:
    """How often each person comes in each of `count` replicates, float64 `(count, people)` of whole numbers.

    Draws that give no genuine or no impostor pair are drawn again. Raises DataError where all might.
    """
    of_person = np.asarray(photos)
    people = len(of_person)
    if people < 2 or of_person.max() < 2:
        raise DataError("two people, one of them with two photos, are needed to draw from")
    weights = np.empty((count, people))
    left = np.arange(count)
    while left.size:
        weights[left] = rng.multinomial(people, np.full(people, 1 / people), size=left.size)
        bad = ((weights[left] > 0) & (of_person > 1)).sum(1) == 0
        left = left[bad | ((weights[left] > 0).sum(1) < 2)]
    return weights


def draw_seeds(seeds: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which of `seeds` trainings make up each of `count` replicates, int64 `(count, seeds)`."""
    return rng.integers(0, seeds, size=(count, seeds))


def over_seeds(values: ArrayLike, drawn: NDArray[np.int64]) -> Floats:
    """Means `(B,)` of values `(S, B)` of S trainings over those `drawn` `(B, S)` in each replicate.

    What the drawing moves is stretched by sqrt(S / (S - 1)): S values drawn from S spread about their mean that much
    less than S new trainings would (Rao and Wu, "Resampling inference with complex survey data", JASA 83 (1988)). One
    training shows nothing of others: its interval is that over people alone.
    """
    table = np.asarray(values, dtype=np.float64)
    seeds, count = table.shape
    mean: Floats = table.mean(axis=0)
    if seeds == 1:
        return mean
    moved: Floats = table[drawn, np.arange(count)[:, None]].mean(axis=1) - mean
    return mean + moved * float(np.sqrt(seeds / (seeds - 1)))


def percentile_interval(replicates: ArrayLike, level: float = 0.95) -> Interval:
    """The interval that leaves (1 - level) / 2 of the replicates `(B,)` on either side."""
    low, high = np.quantile(np.asarray(replicates), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def tar_at_far(pairs: RankedPairs, weights: Floats, far: float) -> Floats:
    """The highest TAR `(B,)` whose FAR is at most `far`, under each row of `weights` `(B, people)`.

    Raises Refused where there are fewer than 1 / far impostor pairs: one false accept would be more than that.
    """
    refuse_far(int(pairs.impostors(np.ones((1, pairs.people)))[0]), far)

    def goal(genuine: Floats, impostors: Floats) -> tuple[Floats, Floats, Floats]:
        allowed = np.floor(far * impostors) + 1
        allowed -= allowed / impostors > far  # the product is rounded: the quotient decides, as in `verification`
        return np.zeros_like(allowed), np.ones_like(allowed), allowed

    tar: Floats = _crossings(pairs, weights, goal).genuine_before / pairs.genuine(weights)
    return tar


def equal_error(pairs: RankedPairs, weights: Floats) -> Floats:
    """The equal error rate `(B,)` of the ROC drawn with straight lines, under each row of `weights` `(B, people)`."""

    def goal(genuine: Floats, impostors: Floats) -> tuple[Floats, Floats, Floats]:
        return 1 / genuine, 1 / impostors, np.ones_like(genuine)  # FAR = 1 - TAR is where FAR + TAR passes 1

    at, genuine = _crossings(pairs, weights, goal), pairs.genuine(weights)
    before, after = at.before - at.genuine_before / genuine, at.after - at.genuine_after / genuine  # FAR
    rate: Floats = before + (after - before) * (1 - at.before) / (at.after - at.before)
    return rate


class _Crossings(NamedTuple):
    """Values `(B,)` above the score with which a sum passes its limit, and with that score: the sum, genuine pairs."""

    before: Floats
    after: Floats
    genuine_before: Floats
    genuine_after: Floats


def _crossings(pairs: RankedPairs, weights: Floats, goal: Goal) -> _Crossings:
    """Look about the rank at which the limit is passed where everybody counts once, then further and further away."""
    adds = np.stack(goal(pairs.genuine(weights), pairs.impostors(weights)), axis=1)  # (B, 3)
    found = np.empty((len(weights), 4))
    middle, half, left = _plain_rank(pairs, goal), _WINDOW, np.arange(len(weights))
    while left.size:
        found[left] = _within(pairs, weights[left], adds[left], max(0, middle - half), middle + half)
        left, half = left[np.isnan(found[left, 0])], 4 * half
    return _Crossings(*found.T)


def _plain_rank(pairs: RankedPairs, goal: Goal) -> int:
    """The rank at which the limit is passed where everybody counts once."""
    once, ranks = np.ones((1, pairs.people)), pairs.genuine_ranks
    genuine, impostor, limit = (float(part[0]) for part in goal(pairs.genuine(once), pairs.impostors(once)))

    def passed(rank: int) -> bool:
        accepted = int(np.searchsorted(ranks, rank))
        return genuine * accepted + impostor * (rank - accepted) > limit

    return bisect_left(range(len(pairs.scores)), True, key=passed)


def _within(pairs: RankedPairs, weights: Floats, adds: Floats, start: int, stop: int) -> Floats:
    """The fields of `_Crossings` `(B, 4)` where the limit is passed between two ranks, NaN where it is not."""
    start, stop = _equals(pairs, start)[0], _equals(pairs, stop - 1)[1]
    borders = start + np.append(0, np.flatnonzero(np.diff(pairs.scores[start:stop])) + 1)
    if len(borders) * _MANY_EQUALS < stop - start:
        return _between(pairs, weights, adds, np.append(borders, stop))
    genuine, impostors = _counted(pairs, weights, start)
    above = genuine * adds[:, 0] + impostors * adds[:, 1]
    window = _Window.of(pairs, start, stop)
    found = np.full((len(weights), 4), np.nan)
    for row in np.flatnonzero(above <= adds[:, 2]):
        found[row] = window.crossing(weights[row], adds[row], above[row], genuine[row])
    return found


def _equals(pairs: RankedPairs, rank: int) -> tuple[int, int]:
    """The ranks from..to of those with the score of `rank`, which may lie past the end."""
    scores, rank = pairs.scores, min(rank, len(pairs.scores) - 1)
    first = bisect_left(range(rank), True, key=lambda other: bool(scores[other] == scores[rank]))
    return first, bisect_left(range(len(scores)), True, rank, key=lambda other: bool(scores[other] < scores[rank]))


def _between(pairs: RankedPairs, weights: Floats, adds: Floats, borders: NDArray[np.int64]) -> Floats:
    """As `_within`, for a few long runs of equal scores: a collapsed model has no others. Counts at their borders."""
    counts = [_counted(pairs, weights, int(border)) for border in borders]
    genuine = np.stack([count for count, _ in counts], axis=1)  # (B, borders)
    sums = genuine * adds[:, :1] + np.stack([count for _, count in counts], axis=1) * adds[:, 1:2]
    passed = sums > adds[:, 2:]
    after, rows = passed.argmax(axis=1), np.arange(len(weights))
    before = after - 1
    found = np.stack([sums[rows, before], sums[rows, after], genuine[rows, before], genuine[rows, after]], axis=1)
    found[after == 0] = np.nan  # passed before the first border, or nowhere
    return found


def _counted(pairs: RankedPairs, weights: Floats, stop: int) -> tuple[Floats, Floats]:
    """Genuine and impostor pairs `(B,)` before a rank."""
    counts = np.bincount(pairs.cells[:stop], minlength=pairs.people**2).reshape(pairs.people, pairs.people)
    cells = counts.astype(np.float64)  # whole numbers below 2^53: exact
    genuine: Floats = weights @ cells.diagonal()
    np.fill_diagonal(cells, 0)
    return genuine, np.einsum("bp,bp->b", weights @ cells, weights)


@dataclass(frozen=True)
class _Window:
    """Pairs between two ranks: persons `a` and `b`, where `b` of a genuine pair is one past the last person."""

    scores: NDArray[np.float32]
    """Negated, hence rising."""
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    genuine_ranks: NDArray[np.int64]

    @classmethod
    def of(cls, pairs: RankedPairs, start: int, stop: int) -> "_Window":
        a, b = np.divmod(pairs.cells[start:stop].astype(np.int64), pairs.people)
        ranks = np.flatnonzero(a == b)
        b[ranks] = pairs.people
        return cls(-pairs.scores[start:stop], a, b, ranks)

    def crossing(self, weights: Floats, adds: Floats, above: float, genuine: float) -> tuple[float, ...]:
        """The fields of `_Crossings` for one replicate, `above` and `genuine` being the sums before the window."""
        sums = np.append(above, weights[self.a] * np.append(weights * adds[1], adds[0])[self.b]).cumsum()
        at = int(np.searchsorted(sums, adds[2], side="right")) - 1  # that many pairs do not pass the limit
        if at == len(self.a):
            return (np.nan,) * 4
        first, last = (int(np.searchsorted(self.scores, self.scores[at], side=side)) for side in ("left", "right"))
        met = np.append(0.0, weights[self.a[self.genuine_ranks]].cumsum()) + genuine
        before, after = (met[np.searchsorted(self.genuine_ranks, rank)] for rank in (first, last))
        return float(sums[first]), float(sums[last]), float(before), float(after)
