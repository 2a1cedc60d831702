"""How sure the figures of verification are for other people, in closed form.

To first order a figure moves with each pair by its influence, and its variance is that of the sum of influences over
people (see `dependence`). A threshold that other pairs chose moves with these:

- accuracy does not feel that: where it is greatest, it is level;
- a TAR at a FAR moves along the ROC as far as chance moves the false accepts;
- the equal error rate lies where both rates meet, and each counts by how steep the other is.

Slopes are those of straight lines over the stretch of the curve in which chance moves the threshold; the interval of a
TAR goes by the curve itself, since a TAR near 0 or 1 has no room for a slope. Nothing is drawn: the time grows with the
pairs alone.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core import verification as v
from facespace.core.dependence import (
    Floats,
    Numbers,
    Share,
    Trials,
    Z,
    around,
    interval_of,
    known_trials,
    reach,
    share_of,
)
from facespace.core.intervals import Interval, incomplete_beta, t_quantile

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A figure of pairs, and by how much each moves it, `(P,)`."""

    value: float
    influence: Floats
    extra: float = 0.0
    """Variance of what choosing a threshold costs, beyond the first order."""

    def summed(self, times: int) -> "Estimate":
        """The same where the list of pairs stands so many times in turn: what all copies of a pair add."""
        return Estimate(self.value, self.influence.reshape(times, -1).sum(axis=0), self.extra)


@dataclass(frozen=True, eq=False)
class Judged:
    """Scores of pairs with the truth, folds numbered from 0, and people: `(P,)` each."""

    scores: NDArray[Any]
    same: Flags
    folds: Numbers
    trials: Trials
    ties: v.Ties = "accept"

    @classmethod
    def of(cls, scores: NDArray[Any], same: ArrayLike, folds: ArrayLike, trials: Trials, ties: v.Ties) -> "Judged":
        """Folds of any names."""
        return cls(scores, np.asarray(same, np.bool_), v.numbered(np.asarray(folds))[1].astype(np.int32), trials, ties)

    @cached_property
    def curve(self) -> v.Roc:
        """That of all pairs."""
        return v.roc(self.scores, self.same, self.ties)

    @cached_property
    def best(self) -> v.FoldRates:
        """Each fold at the threshold that is most accurate on the others."""
        return v.best_over_folds(self.scores, self.same, self.folds, self.ties)

    def held(self, far: float) -> Floats:
        """For each fold `(F,)` the threshold of `at_far` on all others, without their curves; Refused as there."""
        (scores, folds), (genuine, theirs) = self._sorted
        return np.array(
            [self._kept_out(scores, folds != k, genuine, theirs != k, far) for k in range(int(folds.max()) + 1)]
        )

    @cached_property
    def _sorted(self) -> tuple[tuple[NDArray[Any], Numbers], tuple[NDArray[Any], Numbers]]:
        """Scores and folds of impostor pairs, falling, and of genuine ones, rising."""
        impostors, genuine = self.scores[~self.same], self.scores[self.same]
        falling, rising = np.argsort(impostors)[::-1], np.argsort(genuine)
        return (impostors[falling], self.folds[~self.same][falling]), (genuine[rising], self.folds[self.same][rising])

    def _kept_out(
        self, impostors: NDArray[Any], others: Flags, genuine: NDArray[Any], theirs: Flags, far: float
    ) -> float:
        """The lowest score above the impostor pair that would be one too many, of falling impostors and rising genuine.

        Where ties are rejected the threshold is that pair's.
        """
        rank = np.cumsum(others, dtype=np.int32)
        count = int(rank[-1])
        v.refuse_far(count // self.trials.repeats, far)
        allowed = min(count, int(far * count) + 1)
        allowed -= allowed / count > far  # the product is rounded: the quotient decides
        many = impostors[np.searchsorted(rank, allowed + 1)] if allowed < count else -np.inf
        if self.ties == "reject":
            return float(many)
        above = impostors.size - int(np.searchsorted(impostors[::-1], many, side="right"))
        lowest = [impostors[:above][others[:above]][-1:], genuine[theirs & (genuine > many)][:1]]
        return float(np.concatenate(lowest).min(initial=np.inf))

    def accuracy(self) -> Estimate:
        """Mean over folds."""
        found = self._right(self.best.thresholds)
        cost = self._right(np.array([v.best_threshold(self.curve)])).value - found.value
        return Estimate(found.value, found.influence, cost**2 / 2)

    def _right(self, thresholds: Floats) -> Estimate:
        right = self._accepted(thresholds) == self.same
        return share_over_folds(right, np.ones_like(right), self.folds)

    def rates(self, thresholds: Floats) -> tuple[Estimate, Estimate]:
        """TAR and FAR at given thresholds of the folds, means over folds; of all pairs at once for a single one."""
        accepted = self._accepted(thresholds)
        folds = self.folds if thresholds.size > 1 else np.zeros_like(self.folds)
        return share_over_folds(accepted, self.same, folds), share_over_folds(accepted, ~self.same, folds)

    def at_far(self, far: float, thresholds: Floats) -> tuple[Share, Share]:
        """TAR and FAR at thresholds chosen to have the FAR; the interval of the TAR knows that chance moves them."""
        rates = self.rates(thresholds)
        variances = [self._variance(rate) for rate in rates]
        tar, achieved = (self._share(*each) for each in zip(rates, variances, (self.same, ~self.same), strict=True))
        alike = -self._correlation(rates, variances)
        return replace(tar, ci95=around(self.curve, far, tar, reach(far, achieved), alike)[0]), achieved

    def _correlation(self, both: tuple[Estimate, Estimate], variances: list[float]) -> float:
        """Of two figures, which people have in common; 0 where one of them does not vary."""
        if not all(variances):
            return 0.0
        one, other = (1 / math.sqrt(variance) for variance in variances)
        total = both[0].influence * one
        total += both[1].influence * other
        return float(np.clip(self.trials.variance(total) / 2 - 1, -1, 1))

    def moving(self, far: float, rates: tuple[Estimate, Estimate]) -> Estimate:
        """The TAR of `rates` where chance moves its threshold, so that the FAR stays what it is; for a comparison.

        The slope is that of a chord over the logarithm of false accept rates that chance gives. A TAR near 0 or 1 is
        lopsided, which cancels between two models and not in one: see `at_far`.
        """
        curve, (tar, achieved) = self.curve, rates
        pairs = curve.impostors / self.trials.repeats
        error = math.sqrt(max(self._variance(achieved), far * (1 - far) / pairs))
        ends = (max(1 / pairs, far * math.exp(side * error / far)) for side in (-Z, Z))
        low, high = (curve.point(max(1, curve.last_within(end))) for end in ends)
        run = far * math.log(high.far / low.far) if low.far else 0.0
        slope = (high.tar - low.tar) / run if run > 0 else 0.0
        return Estimate(tar.value, tar.influence - slope * achieved.influence)

    def equal_error(self) -> Estimate:
        """The equal error rate."""
        rate, threshold = v.equal_error(self.curve)
        tar, far = self.rates(np.array([threshold]))
        spread = Z * math.sqrt(self._variance(Estimate(rate, far.influence + tar.influence)))
        size = self.curve.thresholds.size
        ends = (bisect_left(range(size), end, key=self.curve.excess) for end in (-spread, spread))
        first, last = (self.curve.point(min(at, size - 1)) for at in ends)
        steps = last.far - first.far, last.tar - first.tar
        share = steps[1] / sum(steps) if sum(steps) else 0.5
        return Estimate(rate, share * far.influence - (1 - share) * tar.influence)

    def share(self, estimate: Estimate) -> Share:
        """An estimate as a share of all pairs."""
        variance = self._variance(estimate) + estimate.extra
        return self._share(estimate, variance, np.ones_like(self.same))

    def _share(self, estimate: Estimate, variance: float, among: Flags) -> Share:
        pairs = int(among.sum()) // self.trials.repeats
        return share_of(estimate.value, pairs, self.trials.people_among(among), variance)

    def _variance(self, estimate: Estimate) -> float:
        """Over people, without what choosing a threshold costs; one person shows none."""
        return self.trials.variance(estimate.influence) if self.trials.people > 1 else 0.0

    def _accepted(self, thresholds: Floats) -> Flags:
        """Each pair at the threshold of its fold, or at the only one."""
        return v.accepts(self.scores, thresholds[self.folds] if thresholds.size > 1 else thresholds, self.ties)


def share_over_folds(hits: Flags, among: Flags, folds: Numbers) -> Estimate:
    """The share of `hits` `(P,)` among some of the pairs in each fold, mean over folds; `folds` `(P,)` from 0."""
    sizes = np.bincount(folds[among], minlength=int(folds.max()) + 1)
    value = float((np.bincount(folds[among & hits], minlength=sizes.size) / sizes).mean())
    influence = hits.astype(np.float64) - value
    influence[~among] = 0
    influence /= (sizes.size * sizes)[folds] if sizes.size > 1 else sizes
    return Estimate(value, influence)


def difference(first: Estimate, second: Estimate, trials: Trials) -> tuple[float, Interval, float]:
    """By how much the second figure is above the first, its 95 % interval, and the two-sided p of no difference.

    Both are of the same pairs; interval and p are Student's, so that the interval leaves out 0 where p is below 5 %.
    Figures that no pair moves apart are no certainty: the rule of 3 over people bounds what they may hide, and the p is
    that of the bound that just reaches 0.
    """
    value, people = second.value - first.value, trials.people
    variance = trials.variance(second.influence - first.influence)
    if variance == 0:
        half = interval_of(0.0, people, people)[1]
        p = min(1.0, 2 * (1 - min(1.0, abs(value))) ** known_trials(people, people))
    else:
        # Both chose on the same pairs: what that costs counts once, the larger (coverage: docs/calibration.md).
        variance += max(first.extra, second.extra)
        half = t_quantile(0.95, people - 1) * math.sqrt(variance)
        p = incomplete_beta((people - 1) / 2, 0.5, (people - 1) / (people - 1 + value**2 / variance))
    return value, (max(-1.0, value - half), min(1.0, value + half)), p
