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
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core import verification as v
from facespace.core.dependence import (
    Floats,
    Ids,
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
    folds: Ids
    trials: Trials
    ties: v.Ties = "accept"

    @classmethod
    def of(cls, scores: NDArray[Any], same: ArrayLike, folds: ArrayLike, trials: Trials, ties: v.Ties) -> "Judged":
        """Folds of any names."""
        return cls(scores, np.asarray(same, np.bool_), v.numbered(np.asarray(folds))[1], trials, ties)

    @cached_property
    def curve(self) -> v.Roc:
        """That of all pairs."""
        return v.roc(self.scores, self.same, self.ties)

    @cached_property
    def best(self) -> v.FoldRates:
        """Each fold at the threshold that is most accurate on the others."""
        return v.best_over_folds(self.scores, self.same, self.folds, self.ties)

    def held(self, far: float) -> v.FoldRates:
        """Each fold at the threshold that has at most this FAR on the others; Refused as `at_far`."""
        repeats = self.trials.repeats
        return v.over_folds(
            self.scores, self.same, self.folds, lambda curve: v.at_far(curve, far, repeats).threshold, self.ties
        )

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

    def tar_interval(self, far: float, rates: tuple[Estimate, Estimate]) -> Interval:
        """The 95 % interval of the TAR of `rates`, whose threshold was chosen to have the FAR."""
        tar, achieved = rates
        shares = self.share(tar, self.same), self.share(achieved, ~self.same)
        return around(self.curve, far, shares[0], reach(far, shares[1]), -self._correlation(tar, achieved))[0]

    def _correlation(self, one: Estimate, other: Estimate) -> float:
        """Of two figures, which people have in common; 0 where one of them does not vary."""
        variances = [self._variance(estimate) for estimate in (one, other)]
        if not all(variances):
            return 0.0
        scaled = [e.influence / math.sqrt(v) for e, v in zip((one, other), variances, strict=True)]
        return float(np.clip(self.trials.variance(scaled[0] + scaled[1]) / 2 - 1, -1, 1))

    def moving(self, far: float, rates: tuple[Estimate, Estimate]) -> Estimate:
        """The TAR of `rates` where chance moves its threshold, so that the FAR stays what it is; for a comparison.

        The slope is that of a chord over the logarithm of false accept rates that chance gives. A TAR near 0 or 1 is
        lopsided, which cancels between two models and not in one: see `tar_interval`.
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
        gap = self.curve.far - (1 - self.curve.tar)  # rises along the curve
        spread = Z * math.sqrt(self._variance(Estimate(rate, far.influence + tar.influence)))
        first, last = (min(int(np.searchsorted(gap, end)), gap.size - 1) for end in (-spread, spread))
        steps = self.curve.far[last] - self.curve.far[first], self.curve.tar[last] - self.curve.tar[first]
        share = float(steps[1] / sum(steps)) if sum(steps) else 0.5
        return Estimate(rate, share * far.influence - (1 - share) * tar.influence)

    def share(self, estimate: Estimate, among: Flags | None = None) -> Share:
        """An estimate as a share of the pairs `among` bool `(P,)` all."""
        kept = np.ones_like(self.same) if among is None else among
        people, pairs = self.trials.people_among(kept), int(kept.sum()) // self.trials.repeats
        return share_of(estimate.value, pairs, people, self._variance(estimate) + estimate.extra)

    def _variance(self, estimate: Estimate) -> float:
        """Over people, without what choosing a threshold costs; one person shows none."""
        return self.trials.variance(estimate.influence) if self.trials.people > 1 else 0.0

    def _accepted(self, thresholds: Floats) -> Flags:
        """Each pair at the threshold of its fold, or at the only one."""
        return v.accepts(self.scores, thresholds[self.folds] if thresholds.size > 1 else thresholds, self.ties)


def share_over_folds(hits: Flags, among: Flags, folds: Ids) -> Estimate:
    """The share of `hits` `(P,)` among some of the pairs in each fold, mean over folds; `folds` `(P,)` from 0."""
    sizes = np.bincount(folds[among], minlength=int(folds.max()) + 1)
    value = float((np.bincount(folds[among & hits], minlength=sizes.size) / sizes).mean())
    return Estimate(value, (among / (sizes.size * sizes)[folds]) * (hits - value))


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
