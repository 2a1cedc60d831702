"""A list of pairs whose photos' people are known, and the bootstrap over these people.

As in `resampling`, whoever is drawn w times counts w times: a genuine pair of person i w_i times, an impostor pair of i
and j w_i w_j times. Where people come in few pairs, that counts the noise of impostor pairs three times over (Owen,
"The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007)): the variance of the replicates is too large by twice
what drawing couples of two people alone would give, which `spread` takes away.

A figure maps a list and weights `(B, P)` of its pairs, in the order of its scores, to values `(B,)`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.intervals import Interval, wilson_share
from facespace.core.resampling import percentile_interval
from facespace.core.verification import refuse_far
from facespace.errors import DataError, UsageError

Floats = NDArray[np.float64]

DRAWS = 1000
_CELLS = 1 << 21  # weights at a time: 16 MB


@dataclass(frozen=True)
class PairList:
    """Pairs by falling score, those of equal score together; genuine where both people are one."""

    scores: Floats
    """`(P,)`, falling."""
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    """`(P,)`: the people of the two photos, numbered from 0."""
    people: int
    order: NDArray[np.int64]
    """`(P,)`: where each pair stands in the list as it was given."""

    @classmethod
    def of(cls, scores: ArrayLike, a: ArrayLike, b: ArrayLike) -> "PairList":
        """The pairs of scores `(P,)` and people `a` and `b` `(P,)`, named by numbers or strings.

        Raises DataError where a score is NaN or +inf, or one of the two kinds is missing.
        """
        given, first, second = np.asarray(scores, np.float64), np.asarray(a), np.asarray(b)
        if np.isnan(given).any() or np.isposinf(given).any():
            raise DataError("a score is not a number", hint="check the vectors of the model")
        names, numbers = np.unique(np.concatenate((first, second)), return_inverse=True)
        order = np.argsort(-given, kind="stable")
        made = cls(given[order], numbers[: given.size][order], numbers[given.size :][order], names.size, order)
        if made.same.all() or not made.same.any():
            raise DataError("genuine and impostor pairs are both needed")
        return made

    @cached_property
    def same(self) -> NDArray[np.bool_]:
        """Which pairs `(P,)` are genuine."""
        same: NDArray[np.bool_] = self.a == self.b
        return same

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """How many pairs `(T,)` each threshold accepts: none, then all down to the last of each run of equal scores."""
        last = np.flatnonzero(np.append(self.scores[1:] != self.scores[:-1], True))
        return np.append(0, last[np.isfinite(self.scores[last])] + 1)

    def weights(self, counts: Floats) -> Floats:
        """How often each pair counts `(B, P)` where the people do `counts` `(B, people)` times."""
        return counts[:, self.a] * np.where(self.same, 1.0, counts[:, self.b])

    def accepted(self, weights: Floats) -> Floats:
        """The weight accepted at each threshold `(B, T)`."""
        sums = np.zeros((len(weights), self.scores.size + 1))
        np.cumsum(weights, axis=1, out=sums[:, 1:])
        return sums[:, self.ends]


Figure = Callable[[PairList, Floats], Floats]


def tar_at_far(pairs: PairList, weights: Floats, far: float) -> Floats:
    """The highest TAR `(B,)` whose FAR is at most `far`. Raises Refused as `verification.at_far` does."""
    refuse_far(int((~pairs.same).sum()), far)
    tar, reached = _rates(pairs, weights)
    return np.asarray(tar[np.arange(len(tar)), (reached <= far).sum(axis=1) - 1])


def equal_error(pairs: PairList, weights: Floats) -> Floats:
    """The equal error rate `(B,)` of the ROC drawn with straight lines, as `verification.equal_error`."""
    tar, far = (np.append(rate, np.ones((len(rate), 1)), axis=1) for rate in _rates(pairs, weights))
    fnmr, rows = 1 - tar, np.arange(len(tar))
    at = (far >= fnmr).argmax(axis=1)
    before, after = (fnmr - far)[rows, at - 1], (fnmr - far)[rows, at]
    rate: Floats = far[rows, at - 1] + (far[rows, at] - far[rows, at - 1]) * before / (before - after)
    return rate


def _rates(pairs: PairList, weights: Floats) -> tuple[Floats, Floats]:
    """TAR and FAR `(B, T)` at each threshold."""
    kinds = [np.where(kind, weights, 0.0) for kind in (pairs.same, ~pairs.same)]
    tar, far = (pairs.accepted(kind) / kind.sum(axis=1, keepdims=True) for kind in kinds)
    return tar, far


def accuracy(pairs: PairList, weights: Floats, folds: ArrayLike) -> Floats:
    """Mean accuracy `(B,)` over folds, each at the best threshold of the others.

    `folds` `(P,)` are in the order in which the pairs were given. A fold of which nobody was drawn is left out.
    """
    names, fold = np.unique(np.asarray(folds)[pairs.order], return_inverse=True)
    gains = weights * np.where(pairs.same, 1.0, -1.0)  # of accepting a pair
    everywhere, rows = pairs.accepted(gains), np.arange(len(weights))
    shares = np.full((names.size, len(weights)), np.nan)
    for name in range(names.size):
        held = fold == name
        inside = pairs.accepted(gains * held)
        at = (everywhere - inside).argmax(axis=1)  # the first, which accepts fewest
        size = weights @ held
        right = inside[rows, at] + weights @ (held & ~pairs.same)
        shares[name] = right / np.where(size > 0, size, np.nan)
    return np.asarray(np.nanmean(shares, axis=0))


@dataclass(frozen=True)
class Spread:
    """A figure, and how it moves with the people."""

    value: float
    replicates: Floats
    """`(B,)`, of people drawn anew; as wide about their mean as the standard error."""
    standard_error: float

    def ci95(self) -> Interval:
        """The interval that leaves 2.5 % of the replicates on either side: for differences, EER and the like."""
        return percentile_interval(self.replicates)

    def share_ci95(self, trials: int) -> Interval:
        """For a share of `trials`: Wilson's interval of as many independent trials, at most these, as are as sure."""
        alone = self.value * (1 - self.value)
        sure = alone and self.standard_error
        return wilson_share(self.value, min(alone / self.standard_error**2, trials) if sure else trials)


def spread(pairs: PairList, figure: Figure, draws: int = DRAWS, seed: int = 0) -> Spread:
    """A figure of a list, such as `lambda pairs, weights: accuracy(pairs, weights, folds)`, and how it moves."""
    return _spread([pairs], figure, draws, seed)


def difference(first: PairList, second: PairList, figure: Figure, draws: int = DRAWS, seed: int = 0) -> Spread:
    """By how much a figure of the second model is above that of the first on the same pairs, given in the same order.

    The same people are drawn for both, which is what makes the test a paired one. Raises UsageError for other pairs.
    """
    for one, other in zip(_as_given(first), _as_given(second), strict=True):
        if not np.array_equal(one, other):
            raise UsageError("the lists are not of the same pairs", hint="give the scores of both in the same order")
    return _spread([first, second], figure, draws, seed)


def p_value(change: Spread) -> float:
    """The two-sided chance of a change at least as large where there is none, by the normal law."""
    if not change.standard_error:
        return 1.0 if change.value == 0 else 0.0
    return math.erfc(abs(change.value) / change.standard_error / math.sqrt(2))


def _spread(lists: list[PairList], figure: Figure, draws: int, seed: int) -> Spread:
    """Of one list the figure, of two the second's less the first's; replicates in blocks."""
    rng, block = np.random.default_rng(seed), max(1, _CELLS // lists[0].scores.size)
    people, noise = np.empty(draws), np.empty(draws)

    def of(weights: list[Floats]) -> Floats:
        values = [figure(pairs, times) for pairs, times in zip(lists, weights, strict=True)]
        return values[0] if len(values) == 1 else values[1] - values[0]

    for start in range(0, draws, block):
        rows = slice(start, min(start + block, draws))
        counts = _drawn(lists[0], rows.stop - start, rng)
        people[rows] = of([pairs.weights(counts) for pairs in lists])
        times = _noise(lists[0], rows.stop - start, rng)
        noise[rows] = of([times[:, pairs.order] for pairs in lists])
    wide = float(people.var())
    # No truth makes the people's draws more than three times too wide, in variance.
    true = max(wide - 2 * float(noise.var()), wide / 3)
    moved = people - people.mean()
    value = float(of([np.ones((1, pairs.scores.size)) for pairs in lists])[0])
    return Spread(value, people.mean() + moved * math.sqrt(true / wide if wide else 1), math.sqrt(true))


def _drawn(pairs: PairList, count: int, rng: np.random.Generator) -> Floats:
    """How often each person comes `(count, people)`; draws without both kinds of pairs are drawn again."""
    counts, left = np.empty((count, pairs.people)), np.arange(count)
    while left.size:
        counts[left] = rng.multinomial(pairs.people, np.full(pairs.people, 1 / pairs.people), size=left.size)
        met = pairs.weights(counts[left]) > 0
        left = left[~((met & pairs.same).any(axis=1) & (met & ~pairs.same).any(axis=1))]
    return counts


def _noise(pairs: PairList, count: int, rng: np.random.Generator) -> Floats:
    """How often each pair counts `(count, P)`, as given: genuine ones once, those of the same two people as drawn."""
    a, b = _as_given(pairs)
    other = a != b
    keys = np.minimum(a, b)[other] * pairs.people + np.maximum(a, b)[other]
    cells, cell = np.unique(keys, return_inverse=True)
    drawn = rng.integers(0, cells.size, (count, cells.size)) + cells.size * np.arange(count)[:, None]
    times = np.ones((count, a.size))
    times[:, other] = np.bincount(drawn.ravel(), minlength=count * cells.size).reshape(count, -1)[:, cell]
    return times


def _as_given(pairs: PairList) -> NDArray[np.int64]:
    """The people `(2, P)` of the pairs in the order they were given."""
    return np.stack((pairs.a, pairs.b))[:, np.argsort(pairs.order)]
