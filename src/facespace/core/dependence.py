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

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.intervals import Interval, require_30, wilson_share
from facespace.core.verification import OperatingPoint, Roc, accepts, at_far, roc
from facespace.errors import DataError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ids = NDArray[np.int64]


def people_variance(influence: ArrayLike, a: ArrayLike, b: ArrayLike | None = None) -> float:
    """The variance of a sum of `influence` `(P,)` over trials of the people `a` `(P,)`, or `a` and `b`.

    A trial with a = b is one person's; without `b` all are. No less than if trials were independent: a smaller sum is
    chance.
    """
    each = np.asarray(influence, np.float64)
    first, second, people = _numbered(a, b)
    sums = np.bincount(first, each, people)
    two = first != second
    sums += np.bincount(second[two], each[two], people)
    alone = float(each @ each)
    if people < 2:
        raise DataError("all trials are of one person: they do not show how people differ")
    shared = float(sums @ sums - each[two] @ each[two]) * people / (people - 1)
    return max(shared, alone)


def share_ci95(hits: ArrayLike, a: ArrayLike, b: ArrayLike | None = None) -> Interval:
    """The 95 % interval of the share of `hits` bool `(P,)` among trials of the people `a`, or `a` and `b`, `(P,)`.

    FMR or FNMR at a given threshold, the share of strangers that a gallery takes for someone (FPIR), and the like.
    """
    hit = np.asarray(hits, np.float64)
    rate = float(hit.mean())
    return _wilson(rate, people_variance((hit - rate) / hit.size, a, b), hit.size)


def accuracy_ci95(right: ArrayLike, a: ArrayLike, b: ArrayLike) -> Interval:
    """The 95 % interval of accuracy from which pairs `(P,)` were decided rightly; genuine where a = b.

    At a threshold of most right decisions accuracy does not change with the threshold, to first order: that it was
    chosen on other folds adds no variance.
    """
    right = np.asarray(right, np.float64)
    return _wilson(float(right.mean()), people_variance(accuracy_influence(right, a, b), a, b), right.size)


def accuracy_influence(right: ArrayLike, a: ArrayLike, b: ArrayLike) -> Floats:
    """What each pair `(P,)` adds to accuracy, less what its kind adds on average: how many of each is no chance."""
    right, (first, second, _) = np.asarray(right, np.float64), _numbered(a, b)
    influence = np.empty(right.size)
    for kind in (first == second, first != second):
        influence[kind] = (right[kind] - (right[kind].mean() if kind.any() else 0)) / right.size
    return influence


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
    fmr_ci95, fnmr_ci95, ends = _at_point(np.asarray(scores), first, second, curve, point)
    return Threshold(
        fmr,
        point.threshold,
        ends,
        point.far,
        fmr_ci95,
        1 - point.tar,
        fnmr_ci95,
        curve.genuine,
        curve.impostors,
        people,
    )


def tar_at_far_ci95(scores: ArrayLike, a: ArrayLike, b: ArrayLike, far: float) -> Interval:
    """The 95 % interval of TAR at the threshold with that FAR, which is unsure too; `at_far` tells the rate itself.

    `scores` `(P,)` of pairs of the people `a` and `b`. Raises `Refused` as `at_far` does.
    """
    first, second, _ = _numbered(a, b)
    curve = roc(scores, first == second)
    _, (low, high), _ = _at_point(np.asarray(scores), first, second, curve, at_far(curve, far))
    return 1 - high, 1 - low


def _at_point(
    scores: NDArray[np.floating], first: Ids, second: Ids, curve: Roc, point: OperatingPoint
) -> tuple[Interval, Interval, Interval]:
    """Intervals of FMR, of FNMR, and of the threshold, whose ends are those of the FMR (Woodruff, JASA 47 (1952))."""
    same, accepted = first == second, accepts(scores, point.threshold)
    fmr_ci95 = share_ci95(accepted[~same], first[~same], second[~same])
    lowest, highest = (_within(curve, rate) for rate in (fmr_ci95[1], fmr_ci95[0]))
    influence = np.where(same, (point.tar - accepted) / curve.genuine, 0.0)
    if lowest.far > highest.far:  # FNMR falls as FMR rises, along the curve between the ends of the interval
        slope = (lowest.tar - highest.tar) / (lowest.far - highest.far)
        influence += np.where(same, 0.0, slope * (accepted - point.far) / curve.impostors)
    fnmr_ci95 = _wilson(1 - point.tar, people_variance(influence, first, second), curve.genuine)
    return fmr_ci95, fnmr_ci95, (lowest.threshold, highest.threshold)


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


def _wilson(rate: float, variance: float, trials: int) -> Interval:
    """Wilson's interval of as many independent trials as have this variance, at most all; all where none or all hit."""
    alone = rate * (1 - rate)
    return wilson_share(rate, min(alone / variance, trials) if alone else trials)


def _numbered(a: ArrayLike, b: ArrayLike | None) -> tuple[Ids, Ids, int]:
    """People `(P,)` numbered from 0, and how many there are."""
    a = np.asarray(a)
    names, numbers = np.unique(np.concatenate((a, a if b is None else np.asarray(b))), return_inverse=True)
    return numbers[: a.size], numbers[a.size :], names.size
