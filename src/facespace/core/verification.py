"""Verification, one photo against one: ROC, accuracy over folds, VAL@FAR, TAR@FAR, EER, AUC; exact, by sorting.

A pair is accepted when its score (a similarity) is at least the threshold, or where ties are rejected, above it. Every
distinct score is a threshold, and one above all scores accepts nothing. A score of -inf means that a photo gave no
face: the pair counts, and no threshold accepts it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.intervals import rule_of_3
from facespace.errors import DataError, Refused, UsageError

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Ties = Literal["accept", "reject"]
"""What becomes of a pair exactly at the threshold: accepted (FaceNet, D <= d), or rejected (ArcFace's code, D < d).

On the pairs that a threshold is chosen on, nothing changes but its name: the lowest score accepted, or the highest
rejected. On other pairs those between the two are decided differently.
"""


@dataclass(frozen=True)
class Roc:
    """Pairs accepted at every distinct threshold; the thresholds `(T,)` fall.

    The first is +inf and accepts nothing; where ties are rejected that is the highest score, and the last is -inf.
    """

    thresholds: Floats
    true_accepts: Counts
    false_accepts: Counts
    genuine: int
    impostors: int

    @property
    def tar(self) -> Floats:
        """True accept rate `(T,)`, also VAL and 1 - FNMR."""
        return self.true_accepts / self.genuine

    @property
    def far(self) -> Floats:
        """False accept rate `(T,)`, also FMR."""
        return self.false_accepts / self.impostors

    def last_within(self, far: float) -> int:
        """The last point, which accepts most, whose FAR is not above `far` >= 0; FAR rises along the curve."""
        return bisect_right(self.false_accepts, far, key=lambda accepts: accepts / self.impostors) - 1

    def excess(self, at: int) -> float:
        """FAR less FNMR at a point, or past the last, where all are accepted; it rises along the curve."""
        if at == self.thresholds.size:
            return 1.0
        return float(self.false_accepts[at] / self.impostors - (1 - self.true_accepts[at] / self.genuine))

    def point(self, at: int) -> "OperatingPoint":
        """One of the points."""
        return OperatingPoint(
            float(self.thresholds[at]),
            int(self.true_accepts[at]),
            self.genuine,
            int(self.false_accepts[at]),
            self.impostors,
        )


@dataclass(frozen=True)
class FoldRates:
    """Each fold `(F,)` judged at a threshold that was chosen on the other folds."""

    thresholds: Floats
    accuracy: Floats
    val: Floats
    far: Floats


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and the pairs it accepts among all genuine and all impostor pairs."""

    threshold: float
    true_accepts: int
    genuine: int
    false_accepts: int
    impostors: int

    @property
    def tar(self) -> float:
        """True accept rate."""
        return self.true_accepts / self.genuine

    @property
    def far(self) -> float:
        """The false accept rate that was achieved."""
        return self.false_accepts / self.impostors


def accepts(scores: NDArray[Any], threshold: float | Floats, ties: Ties = "accept") -> NDArray[np.bool_]:
    """Which scores a threshold accepts, or each its own, bool of the same shape."""
    accepted: NDArray[np.bool_] = scores >= threshold if ties == "accept" else scores > threshold
    return accepted


def roc(scores: ArrayLike, same: ArrayLike, ties: Ties = "accept") -> Roc:
    """The curve of scores `(P,)` of pairs, `same` bool `(P,)` true where both photos show one person.

    Raises `DataError` where one of the two kinds is missing, or a score is NaN or +inf.
    """
    scores, same = _checked(scores, same)
    every, genuine = np.sort(scores), np.sort(scores[same])  # values alone sort 20 times faster than pairs
    _require_both(genuine.size, every.size - genuine.size)
    first = np.flatnonzero(np.append(True, every[1:] != every[:-1]) & np.isfinite(every))[::-1]  # of each run of equals
    thresholds = np.append(np.array(np.inf, scores.dtype), every[first])
    true_accepts = genuine.size - np.searchsorted(genuine, thresholds, side="left")
    false_accepts = np.append(0, every.size - first) - true_accepts
    named = _named(thresholds.astype(np.float64), ties)
    return Roc(named, true_accepts, false_accepts, genuine.size, every.size - genuine.size)


def _checked(scores: ArrayLike, same: ArrayLike) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    scores = np.asarray(scores)
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise DataError("a score is not a number", hint="check the vectors of the model")
    return scores, np.asarray(same, dtype=bool)


def _require_both(genuine: int, impostors: int) -> None:
    if not (genuine and impostors):
        raise DataError(f"{genuine} genuine and {impostors} impostor pairs: both kinds are needed")


def _named(thresholds: Floats, ties: Ties) -> Floats:
    """Thresholds that accept ties, from +inf down, or those that accept the same pairs while they reject ties."""
    if ties not in get_args(Ties):
        raise UsageError(f"ties = {ties!r} is unknown", hint="accept or reject")
    return thresholds if ties == "accept" else np.append(thresholds[1:], -np.inf)


def best_threshold(curve: Roc) -> float:
    """The threshold with most pairs decided rightly; of equally good ones the highest, which accepts fewest."""
    right = curve.true_accepts + (curve.impostors - curve.false_accepts)
    return float(curve.thresholds[np.argmax(right)])  # argmax takes the first, and thresholds fall


def at_far(curve: Roc, far: float, repeats: int = 1) -> OperatingPoint:
    """The point with the highest TAR among those whose FAR is at most `far`.

    `repeats` is how often each pair of photos stands in the curve. Raises `Refused` where one false accept is already
    more than `far`: fewer than 1 / far impostor pairs.
    """
    refuse_far(curve.impostors // repeats, far)
    return curve.point(curve.last_within(far))


def refuse_far(impostors: int, far: float) -> None:
    """Raise `Refused` where one false accept among so many impostor pairs is already more than `far`."""
    if 1 / impostors > far:
        raise Refused(
            f"{impostors:,} impostor pairs cannot show a FAR of {far:g}: even without one false accept "
            f"they would only show that it is below {rule_of_3(impostors):.2g}",
            hint=f"judge on at least {1 / far:,.0f} impostor pairs, or ask for a higher FAR",
        )


def det(curve: Roc, points: int = 200) -> tuple[Floats, Floats]:
    """FMR, rising, and FNMR, falling, `(K,)` at the corners of the DET curve; at most about `points`.

    Of more corners those are kept that are next to even steps of log10 FMR. Axes are the drawer's: logarithmic, or
    normal deviates (Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997).
    """
    far, fnmr = curve.far, 1 - curve.tar
    corner = np.flatnonzero((np.diff(far, append=2) > 0) & (np.diff(fnmr, prepend=2) < 0))
    if corner.size > points:
        steps = np.geomspace(1 / curve.impostors, 1, points)
        at = np.searchsorted(far[corner], steps, side="right") - 1  # the FMR never above the step's
        corner = corner[np.unique(np.append(0, at[at >= 0]))]
    return far[corner], fnmr[corner]


def error_versus_discard(
    scores: ArrayLike, same: ArrayLike, qualities: ArrayLike, fmr: float, discard: ArrayLike
) -> tuple[float, Floats]:
    """FNMR `(K,)` of genuine pairs after the share `discard` `(K,)` of poorest quality is left out; the threshold too.

    The quality of a pair `(P,)` is the lower of its photos'. The threshold has an FMR of at most `fmr` among all pairs
    and stays. No more than the share is left out: a run of equal quality stays whole. NaN where no pair is left.
    Grother and Tabassi, "Performance of biometric quality measures", IEEE PAMI 29 (2007).
    """
    scores, same = _checked(scores, same)
    threshold = at_far(roc(scores, same), fmr).threshold
    quality, missed = np.asarray(qualities)[same], ~accepts(scores[same], threshold)
    order = np.argsort(quality, kind="stable")
    quality, missed = quality[order], missed[order]
    start = np.floor(np.asarray(discard, np.float64) * quality.size + 1e-9).astype(np.int64)
    first = np.searchsorted(quality, quality[np.minimum(start, quality.size - 1)])  # of the run that is cut
    start = np.where(start < quality.size, first, start)
    left = quality.size - start
    after = np.append(np.cumsum(missed[::-1])[::-1], 0)[start]
    return threshold, after / np.where(left > 0, left, np.nan)


def over_folds(
    scores: ArrayLike, same: ArrayLike, folds: ArrayLike, choose: Callable[[Roc], float], ties: Ties = "accept"
) -> FoldRates:
    """Each fold at the threshold that `choose` takes from the curve of all other folds.

    `folds` int `(P,)` names the fold of each pair. With `best_threshold` the accuracy is LFW's; with the threshold of
    `at_far`, VAL and FAR are those of FaceNet (arXiv 1503.03832, section 4). Raises `DataError` for fewer than two
    folds, or a fold without both kinds of pairs.
    """
    scores, same = _checked(scores, same)
    order = np.argsort(scores)[::-1]  # once for all folds: what is left of a sorted list is sorted
    scores, same, folds = scores[order], same[order], np.asarray(folds)[order]
    names = np.unique(folds)
    if names.size < 2:
        raise DataError("a threshold is chosen on the other folds: at least two folds are needed")
    rates = [_held_out(scores, same, folds == name, choose, ties) for name in names]
    return FoldRates(*np.array(rates, dtype=np.float64).T)


def numbered(names: NDArray[Any]) -> tuple[int, Counts]:
    """How many names there are, and names `(P,)` as numbers from 0, in their order; small numbers without sorting."""
    if names.size and np.issubdtype(names.dtype, np.integer) and names.min() >= 0 and names.max() < 2 * names.size:
        places = np.cumsum(np.bincount(names) > 0)
        return int(places[-1]), places[names] - 1
    found, numbers = np.unique(names, return_inverse=True)
    return found.size, numbers


def best_over_folds(scores: ArrayLike, same: ArrayLike, folds: ArrayLike, ties: Ties = "accept") -> FoldRates:
    """`over_folds` with `best_threshold`, six times as fast: no curve is built where only its best point is asked."""
    scores, same = _checked(scores, same)
    order = np.argsort(scores)[::-1]
    scores, same, fold = scores[order], same[order], np.asarray(folds)[order]
    names, fold = numbered(fold)
    if names < 2:
        raise DataError("a threshold is chosen on the other folds: at least two folds are needed")
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True) & np.isfinite(scores))  # of runs of equal scores
    gain = np.where(same, np.int8(1), np.int8(-1))  # of accepting a pair
    thresholds = np.array([_best_of_others(scores, gain, fold != name, last, ties) for name in range(names)])
    accepted = accepts(scores, thresholds[fold], ties)
    genuine, pairs = np.bincount(fold[same], minlength=names), np.bincount(fold)
    if not (genuine.all() and (pairs - genuine).all()):
        raise DataError("a fold lacks genuine or impostor pairs: both kinds are needed in each")
    true, every = np.bincount(fold[accepted & same], minlength=names), np.bincount(fold[accepted], minlength=names)
    false, impostors = every - true, pairs - genuine
    return FoldRates(thresholds, (true + impostors - false) / pairs, true / genuine, false / impostors)


def _best_of_others(
    falling: NDArray[Any], gain: NDArray[np.int8], others: NDArray[np.bool_], last: Counts, ties: Ties
) -> float:
    """The best threshold on some of the pairs, `last` those that end a run of equal scores."""
    right = np.cumsum(gain * others, dtype=np.int32)[last]
    at = int(right.argmax()) if right.size else 0  # the first, which accepts fewest: a score of the others
    accepted = int(last[at]) + 1 if right.size and right[at] > 0 else 0
    if ties == "accept":
        return float(falling[accepted - 1]) if accepted else np.inf
    below = others[accepted:]
    return float(falling[accepted + int(below.argmax())]) if below.any() else -np.inf


def _held_out(
    scores: NDArray[Any], same: NDArray[np.bool_], held: NDArray[np.bool_], choose: Callable[[Roc], float], ties: Ties
) -> tuple[float, float, float, float]:
    """Threshold of the other pairs, and accuracy, VAL and FAR of the held-out ones; the scores fall."""
    threshold = choose(_sweep(scores[~held], same[~held], ties))
    accepted, truth = accepts(scores[held], threshold, ties), same[held]
    if truth.all() or not truth.any():
        raise DataError("a fold lacks genuine or impostor pairs: both kinds are needed in each")
    return threshold, (accepted == truth).mean(), accepted[truth].mean(), accepted[~truth].mean()


def _sweep(falling: NDArray[Any], same: NDArray[np.bool_], ties: Ties) -> Roc:
    """The curve of `roc` from scores that fall: one pass, equal scores passing together."""
    genuine = int(same.sum())
    _require_both(genuine, same.size - genuine)
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))  # of each run of equal scores
    last = last[np.isfinite(falling[last])]
    accepted = np.append(-1, last) + 1  # at +inf none, then all down to each run's last
    true_accepts = np.append(0, np.cumsum(same)[last])
    thresholds = np.append(np.inf, falling[last].astype(np.float64))
    return Roc(_named(thresholds, ties), true_accepts, accepted - true_accepts, genuine, same.size - genuine)


def equal_error(curve: Roc) -> tuple[float, float]:
    """The equal error rate and its threshold: where the ROC, drawn with straight lines, meets FAR = 1 - TAR.

    The threshold is the first, from above, whose FAR is not below its FNMR.
    """
    size = curve.thresholds.size
    at = bisect_left(range(size), 0.0, key=curve.excess)
    point, last = curve.point(at - 1), curve.point(min(at, size - 1))
    before, after = -curve.excess(at - 1), -curve.excess(at)
    risen = (last.far if at < size else 1.0) - point.far
    return point.far + risen * before / (before - after), last.threshold


def auc(curve: Roc) -> float:
    """The chance that a genuine pair scores above an impostor pair, ties counting half; exact, in whole numbers."""
    accepts = np.append(curve.true_accepts, curve.genuine)
    doubled = int(np.sum(np.diff(curve.false_accepts, append=curve.impostors) * (accepts[1:] + accepts[:-1])))
    return doubled / (2 * curve.genuine * curve.impostors)
