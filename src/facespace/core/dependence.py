"""How sure a share is whose trials share people: pairs of photos, or searches of a gallery.

Trials with a person in common rise and fall together. The variance of a figure is therefore the sum, over all trials
and all couples of trials that share a person, of the products of what each adds to it (its influence): for pairs the
dyadic-robust variance of Fafchamps and Gubert, "The formation of risk sharing networks", Journal of Development
Economics 83 (2007). It is what a bootstrap over people aims at, without the draws; that bootstrap, which multiplies how
often both people of an impostor pair were drawn, counts the pair's own noise three times over (Owen, "The pigeonhole
bootstrap", Annals of Applied Statistics 1 (2007)), which matters where people come in few pairs.

A share is worth as many independent trials as would have its variance. Its interval is the exact one of so many trials:
Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated from
survey data", Survey Methodology 24 (1998). Wilson's of the same number was tried, and covers less (docs/notes.md).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.intervals import Interval, clopper_pearson_share, require_30, t_quantile
from facespace.core.verification import OperatingPoint, Roc, accepts, at_far, numbered, roc
from facespace.errors import DataError

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
Z = 1.959963984540054
"""95 % of a normal law lie within."""


@dataclass(frozen=True, eq=False)
class Trials:
    """Whose trials: people numbered from 0, two for each trial, or one twice."""

    first: Ids
    """`(P,)`."""
    second: Ids
    """`(P,)`."""
    people: int
    repeats: int = 1
    """How often each trial stands among them."""

    @classmethod
    def of(cls, a: ArrayLike, b: ArrayLike | None = None, repeats: int = 1) -> "Trials":
        """Trials of the people `a` `(P,)`, or `a` and `b`, named by numbers or strings."""
        one = np.asarray(a)
        both = one if b is None else np.concatenate((one, np.asarray(b)))
        people, numbers = numbered(both)
        return cls(numbers[: one.size], numbers[-one.size :], people, repeats)

    def only(self, kept: NDArray[np.bool_]) -> "Trials":
        """Those trials, and their people."""
        return Trials.of(self.first[kept], self.second[kept], self.repeats)

    def variance(self, influence: ArrayLike) -> float:
        """The variance of a sum of `influence` `(P,)` over the trials.

        No less than if trials were independent: a smaller sum is chance. Raises DataError for one person.
        """
        each = np.asarray(influence, np.float64)
        if self.people < 2:
            raise DataError("all trials are of one person: they do not show how people differ")
        two, cells = self._couples
        sums = np.bincount(self.first, each, self.people) + np.bincount(self.second[two], each[two], self.people)
        twice = np.bincount(cells, each[two])  # trials of the same two are in the sums of both
        shared = float(sums @ sums - twice @ twice) * self.people / (self.people - 1)
        return max(shared, self.repeats * float(each @ each))

    @cached_property
    def _couples(self) -> tuple[Ids, Ids]:
        """Which trials are of two people, and which of these are of the same two."""
        two = np.flatnonzero(self.first != self.second)
        low, high = np.minimum(self.first[two], self.second[two]), np.maximum(self.first[two], self.second[two])
        return two, np.unique(low * self.people + high, return_inverse=True)[1]


def people_variance(influence: ArrayLike, a: ArrayLike, b: ArrayLike | None = None) -> float:
    """`Trials.variance` of trials of the people `a` `(P,)`, or `a` and `b`."""
    return Trials.of(a, b).variance(influence)


@dataclass(frozen=True)
class Share:
    """A share of trials, and its 95 % interval for other people.

    `effective` is how many independent trials would be as sure.
    """

    rate: float
    trials: int
    people: int
    effective: float
    ci95: Interval

    @property
    def log_variance(self) -> float:
        """Variance of the logarithm of a rate above 0."""
        return (1 - self.rate) / (self.rate * self.effective)

    def as_json(self) -> dict[str, Any]:
        """`{"rate", "ci95", "trials", "people"}`."""
        return {"rate": self.rate, "ci95": self.ci95, "trials": self.trials, "people": self.people}


def share_over_people(hits: ArrayLike, first: ArrayLike, second: ArrayLike | None = None) -> Share:
    """The share of `hits` bool `(T,)` among trials of the persons `first` `(T,)`, and `second` where there are two.

    Where all trials end alike the people show no spread, and each counts as one trial. Raises DataError for no trials.
    """
    return share_of_trials(hits, Trials.of(first, second))


def share_of_trials(hits: ArrayLike, trials: Trials, weights: ArrayLike | None = None) -> Share:
    """As `share_over_people`; `weights` `(T,)`, whose sum is 1, say how much each trial counts."""
    hit = np.asarray(hits, np.float64)
    if not hit.size:
        raise DataError("no trials: a share of nothing has no value")
    weight = np.full(hit.size, 1 / hit.size) if weights is None else np.asarray(weights, np.float64)
    rate = float(hit.mean() if weights is None else weight @ hit)
    variance = trials.variance(weight * (hit - rate)) if trials.people > 1 else 0.0
    return share_of(rate, hit.size // trials.repeats, trials.people, variance)


def share_of(rate: float, trials: int, people: int, variance: float, most: float | None = None) -> Share:
    """The share whose estimate has this variance over people; it is worth at most `most` trials, or all of them."""
    effective = rate * (1 - rate) / variance if variance > 0 else people
    effective = max(1.0, min(most or trials, effective))
    return Share(rate, trials, people, effective, interval_of(rate, effective, people))


def interval_of(rate: float, effective: float, people: int) -> Interval:
    """Clopper and Pearson's 95 % interval for a rate of so many independent trials, not a whole number.

    With few people their number of trials is itself in doubt, and Student's quantile takes the normal one's place. One
    person says nothing of others: 0 to 1.
    """
    if people < 2:
        return 0.0, 1.0
    trials = effective * (Z / t_quantile(0.95, people - 1)) ** 2
    return clopper_pearson_share(rate, trials)


@dataclass(frozen=True)
class Threshold:
    """A threshold for an asked FMR, what it was measured to do, and how sure that is: 95 % intervals over people."""

    asked_fmr: float
    threshold: float
    threshold_ci95: Interval
    """Where the threshold with exactly the asked FMR lies."""
    fmr: float
    """Achieved on these pairs, never above the asked one."""
    fmr_ci95: Interval
    """Of all people like these."""
    fnmr: float
    fnmr_ci95: Interval
    """Of 1 - TAR at the asked FMR: how unsure the threshold is counts too."""
    genuine: int
    impostors: int
    people: int


def threshold_at_fmr(scores: ArrayLike, a: ArrayLike, b: ArrayLike, fmr: float) -> Threshold:
    """The lowest threshold whose FMR is at most `fmr` on pairs `(P,)` of the people `a` and `b` `(P,)`.

    Raises `Refused` for fewer than 30 / fmr impostor pairs (rule of 30): a threshold is a claim about people not met.
    """
    pairs = Trials.of(a, b)
    same = pairs.first == pairs.second
    require_30(int((~same).sum()), fmr)
    curve = roc(scores, same)
    point = at_far(curve, fmr)
    accepted = accepts(np.asarray(scores), point.threshold)
    tar, far = (share_of_trials(accepted[kind], pairs.only(kind)) for kind in (same, ~same))
    (low, high), ends = _around(curve, point, fmr, tar, far)
    return Threshold(
        asked_fmr=fmr,
        threshold=point.threshold,
        threshold_ci95=ends,
        fmr=point.far,
        fmr_ci95=far.ci95,
        fnmr=1 - point.tar,
        fnmr_ci95=(1 - high, 1 - low),
        genuine=curve.genuine,
        impostors=curve.impostors,
        people=pairs.people,
    )


def _around(curve: Roc, point: OperatingPoint, far: float, tar: Share, achieved: Share) -> tuple[Interval, Interval]:
    """Intervals of a TAR at the threshold with exactly the FAR, and of that threshold; `point` is that of the curve.

    At that threshold the share of false accepts met here is within 1.96 of its own standard errors; so the threshold
    lies between those of the two ends (Woodruff, "Confidence intervals for medians", JASA 47 (1952)). How far TAR moves
    between them, and how unsure `tar` is at a given threshold, add up as squares, for each side of its own (Zou and
    Donner, "Construction of confidence limits", Statistics in Medicine 27 (2008)).
    """
    spread = Z * math.sqrt(far * (1 - far) / achieved.effective)
    lowest, highest = within(curve, far + spread), within(curve, far - spread)
    low, high = tar.ci95
    tar_ci95 = (
        max(0.0, tar.rate - math.hypot(tar.rate - low, point.tar - highest.tar)),
        min(1.0, tar.rate + math.hypot(high - tar.rate, lowest.tar - point.tar)),
    )
    return tar_ci95, (lowest.threshold, highest.threshold)


def within(curve: Roc, far: float) -> OperatingPoint:
    """As `at_far` without a refusal; where that accepts no pair, the highest score."""
    at = max(1, int(np.searchsorted(curve.far, max(0.0, far), side="right")) - 1)
    return OperatingPoint(
        float(curve.thresholds[at]),
        int(curve.true_accepts[at]),
        curve.genuine,
        int(curve.false_accepts[at]),
        curve.impostors,
    )
