"""The figures that scores of pairs show, each with its interval, or refused."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facespace.core import verification as v
from facespace.core.intervals import Interval, clopper_pearson, standard_error, t_interval, wilson
from facespace.errors import Refused

FARS = (1e-2, 1e-3, 1e-4)


@dataclass(frozen=True)
class RateAtFar:
    """The share of genuine pairs accepted at an asked FAR, with the FAR achieved; or the reason why it is refused."""

    far: float
    rate: float | None = None
    ci95: Interval | None = None
    achieved_far: float | None = None
    achieved_far_ci95: Interval | None = None
    refused: str | None = None

    def as_json(self) -> dict[str, Any]:
        """`{"far", "val", "achieved_far", "ci95", "achieved_far_ci95", "refused"}`; null where refused."""
        return {
            "far": self.far,
            "val": self.rate,
            "achieved_far": self.achieved_far,
            "ci95": self.ci95,
            "achieved_far_ci95": self.achieved_far_ci95,
            "refused": self.refused,
        }


@dataclass(frozen=True)
class Figures:
    """What the scores of a protocol show. `threshold` is the median of the folds' own."""

    curve: v.Roc
    folds: v.FoldRates
    accuracy: float
    accuracy_stderr: float
    accuracy_ci95: Interval
    val_at_far: tuple[RateAtFar, ...]
    tar_at_far: tuple[RateAtFar, ...]
    eer: float
    eer_threshold: float
    auc: float
    threshold: float


def figures_of(scores: NDArray[Any], same: NDArray[np.bool_], folds: NDArray[np.int64]) -> Figures:
    """All figures of scores `(P,)`, `same` bool `(P,)` and folds `(P,)`."""
    curve = v.roc(scores, same)
    best = v.over_folds(scores, same, folds, v.best_threshold)
    eer, eer_threshold = v.equal_error(curve)
    return Figures(
        curve=curve,
        folds=best,
        accuracy=float(best.accuracy.mean()),
        accuracy_stderr=standard_error(best.accuracy),
        accuracy_ci95=_over_folds_ci95(best.accuracy, len(scores)),
        val_at_far=tuple(_val_at_far(scores, same, folds, far) for far in FARS),
        tar_at_far=tuple(_tar_at_far(curve, far) for far in FARS),
        eer=eer,
        eer_threshold=eer_threshold,
        auc=v.auc(curve),
        threshold=float(np.median(best.thresholds)),
    )


def _val_at_far(scores: NDArray[Any], same: NDArray[np.bool_], folds: NDArray[np.int64], far: float) -> RateAtFar:
    """FaceNet's VAL@FAR: threshold from the other folds, VAL and FAR of the held-out one, mean over folds."""
    try:
        held = v.over_folds(scores, same, folds, lambda curve: v.at_far(curve, far).threshold)
    except Refused as refusal:
        return RateAtFar(far, refused=refusal.message)
    genuine = int(same.sum())
    return RateAtFar(
        far,
        rate=float(held.val.mean()),
        ci95=_over_folds_ci95(held.val, genuine),
        achieved_far=float(held.far.mean()),
        achieved_far_ci95=_over_folds_ci95(held.far, len(same) - genuine),
    )


def _tar_at_far(curve: v.Roc, far: float) -> RateAtFar:
    """TAR over all pairs at the threshold whose FAR over all impostor pairs is at most `far`."""
    try:
        point = v.at_far(curve, far)
    except Refused as refusal:
        return RateAtFar(far, refused=refusal.message)
    return RateAtFar(
        far,
        rate=point.tar,
        ci95=wilson(point.true_accepts, point.genuine),
        achieved_far=point.far,
        achieved_far_ci95=clopper_pearson(point.false_accepts, point.impostors),
    )


def _over_folds_ci95(rates: NDArray[np.float64], trials: int) -> Interval:
    """Student's interval over folds, within 0..1; folds that agree are no certainty: then Wilson's over all pairs."""
    if np.ptp(rates) == 0:
        return wilson(round(float(rates[0]) * trials), trials)
    low, high = t_interval(rates)
    return max(0.0, low), min(1.0, high)
