"""How sure a share is whose trials share people: pairs of photos, or searches of a gallery.

Trials with a person in common rise and fall together. The variance of a figure is therefore the sum, over all trials
and all couples of trials that share a person, of the products of what each adds to it (its influence): for pairs the
dyadic-robust variance of Fafchamps and Gubert, "The formation of risk sharing networks", Journal of Development
Economics 83 (2007). It is what a bootstrap over people aims at, without the draws; that bootstrap, which multiplies how
often both people of an impostor pair were drawn, counts the pair's own noise three times over (Owen, "The pigeonhole
bootstrap", Annals of Applied Statistics 1 (2007)), which matters where people come in few pairs.

The interval is Wilson's, with as many trials as would give this variance if they were independent: it stays within
0..1, and is not symmetric near its ends.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.intervals import Interval, require_30, wilson_share
from facespace.core.verification import OperatingPoint, Roc, accepts, at_far, roc
from facespace.errors import DataError

Ids = NDArray[np.int64]
_Z = 1.959963984540054  # 95 % of a normal law lie within


def people_variance(influence: ArrayLike, a: ArrayLike, b: ArrayLike | None = None) -> float:
    """The variance of a sum of `influence` `(P,)` over trials of the people `a` `(P,)`, or `a` and `b`.

    A trial with a = b is one person's; without `b` all are. No less than if trials were independent: a smaller sum is
    chance.
    """
    each = np.asarray(influence, np.float64)
    first, second, people = _numbered(a, b)
    if people < 2:
        raise DataError("all trials are of one person: they do not show how people differ")
    two = first != second
    sums = np.bincount(first, each, people) + np.bincount(second[two], each[two], people)
    low, high = np.minimum(first[two], second[two]), np.maximum(first[two], second[two])
    _, cell = np.unique(low * people + high, return_inverse=True)  # trials of the same two are in the sums of both
    twice = np.bincount(cell, each[two])
    shared = float(sums @ sums - twice @ twice) * people / (people - 1)
    alone = float(each @ each)
    return max(shared, alone)


def share_ci95(hits: ArrayLike, a: ArrayLike, b: ArrayLike | None = None) -> Interval:
    """The 95 % interval of the share of `hits` bool `(P,)` among trials of the people `a`, or `a` and `b`, `(P,)`.

    FMR or FNMR at a given threshold, the share of strangers that a gallery takes for someone (FPIR), and the like.
    """
    hit = np.asarray(hits, np.float64)
    return wilson_share(float(hit.mean()), trials_worth(hit, a, b))


def trials_worth(hits: ArrayLike, a: ArrayLike, b: ArrayLike | None = None) -> float:
    """As how many independent trials, at most all, the trials of `share_ci95` are worth; all where none or all hit."""
    hit = np.asarray(hits, np.float64)
    rate = float(hit.mean())
    variance = people_variance((hit - rate) / hit.size, a, b)
    return min(rate * (1 - rate) / variance, hit.size) if 0 < rate < 1 else hit.size


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
    first, second, people = _numbered(a, b)
    require_30(int((first != second).sum()), fmr)
    curve = roc(scores, first == second)
    point = at_far(curve, fmr)
    accepted, other = accepts(np.asarray(scores), point.threshold), first != second
    (low, high), ends = _at_point(np.asarray(scores), first, second, curve, point, fmr)
    return Threshold(
        asked_fmr=fmr,
        threshold=point.threshold,
        threshold_ci95=ends,
        fmr=point.far,
        fmr_ci95=share_ci95(accepted[other], first[other], second[other]),
        fnmr=1 - point.tar,
        fnmr_ci95=(1 - high, 1 - low),
        genuine=curve.genuine,
        impostors=curve.impostors,
        people=people,
    )


def tar_at_far_ci95(scores: ArrayLike, a: ArrayLike, b: ArrayLike, far: float) -> Interval:
    """The 95 % interval of TAR at the threshold with that FAR, which is unsure too; `at_far` tells the rate itself.

    `scores` `(P,)` of pairs of the people `a` and `b`. Raises `Refused` as `at_far` does.
    """
    first, second, _ = _numbered(a, b)
    curve = roc(scores, first == second)
    return _at_point(np.asarray(scores), first, second, curve, at_far(curve, far), far)[0]


def _at_point(
    scores: NDArray[np.floating], first: Ids, second: Ids, curve: Roc, point: OperatingPoint, far: float
) -> tuple[Interval, Interval]:
    """Intervals of TAR, and of the threshold that has exactly the FAR.

    At that threshold the share of false accepts met here is within 1.96 of its own standard errors; so the threshold
    lies between those of the two ends (Woodruff, "Confidence intervals for medians", JASA 47 (1952)). How far TAR moves
    between them, and how unsure it is at a given threshold, add up as squares, for each side of its own (Zou and
    Donner, "Construction of confidence limits", Statistics in Medicine 27 (2008)).
    """
    same, accepted = first == second, accepts(scores, point.threshold)
    spread = _Z * math.sqrt(far * (1 - far) / trials_worth(accepted[~same], first[~same], second[~same]))
    lowest, highest = _within(curve, far + spread), _within(curve, far - spread)
    low, high = wilson_share(point.tar, trials_worth(accepted[same], first[same]))
    tar_ci95 = (
        max(0.0, point.tar - math.hypot(point.tar - low, point.tar - highest.tar)),
        min(1.0, point.tar + math.hypot(high - point.tar, lowest.tar - point.tar)),
    )
    return tar_ci95, (lowest.threshold, highest.threshold)


def _within(curve: Roc, far: float) -> OperatingPoint:
    """As `at_far`, but the highest score where even one false accept is too many."""
    at = max(1, int(np.searchsorted(curve.far, far, side="right")) - 1)
    return OperatingPoint(
        float(curve.thresholds[at]),
        int(curve.true_accepts[at]),
        curve.genuine,
        int(curve.false_accepts[at]),
        curve.impostors,
    )


def _numbered(a: ArrayLike, b: ArrayLike | None) -> tuple[Ids, Ids, int]:
    """People `(P,)` numbered from 0, and how many there are."""
    a = np.asarray(a)
    names, numbers = np.unique(np.concatenate((a, a if b is None else np.asarray(b))), return_inverse=True)
    return numbers[: a.size], numbers[a.size :], names.size
