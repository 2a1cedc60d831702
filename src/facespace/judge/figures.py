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
    per_fold: tuple[float, ...] | None = None
    """Of VAL, the rate of each fold."""

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

    ties: v.Ties
    """What becomes of a pair exactly at a threshold."""
    curve: v.Roc
    folds: v.FoldRates
    accuracy: float
    accuracy_stderr: float
    """Of the mean over folds; times the root of their number it is the standard deviation from fold to fold."""
    accuracy_ci95: Interval
    val_at_far: tuple[RateAtFar, ...]
    tar_at_far: tuple[RateAtFar, ...]
    eer: float
    eer_threshold: float
    auc: float
    threshold: float

    def as_json(self) -> dict[str, Any]:
        """Their part of the document of `evaluate --json`."""
        per_fold = self.folds.accuracy
        return {
            "accuracy": {
                "mean": self.accuracy,
                "stderr": self.accuracy_stderr,
                "std": float(per_fold.std(ddof=1)),
                "ci95": self.accuracy_ci95,
                "per_fold": per_fold.tolist(),
            },
            "val_at_far": [rate.as_json() for rate in self.val_at_far],
            "tar_at_far": [rate.as_json() for rate in self.tar_at_far],
            "eer": {"rate": self.eer, "threshold": _finite(self.eer_threshold)},
            "auc": self.auc,
            "threshold": _finite(self.threshold),
            "ties": self.ties,
        }


def figures_of(
    scores: NDArray[Any],
    same: NDArray[np.bool_],
    folds: NDArray[np.int64],
    ties: v.Ties = "accept",
    repeats: int = 1,
) -> Figures:
    """All figures of scores `(P,)`, `same` bool `(P,)` and folds `(P,)`.

    `repeats` is how often each pair of photos stands among the scores: intervals and refusals count pairs of photos.
    """
    curve = v.roc(scores, same, ties)
    best = v.over_folds(scores, same, folds, v.best_threshold, ties)
    eer, eer_threshold = v.equal_error(curve)
    return Figures(
        ties=ties,
        curve=curve,
        folds=best,
        accuracy=float(best.accuracy.mean()),
        accuracy_stderr=standard_error(best.accuracy),
        accuracy_ci95=_over_folds_ci95(best.accuracy, len(scores) // repeats),
        val_at_far=tuple(_val_at_far(scores, same, folds, ties, repeats, far) for far in FARS),
        tar_at_far=tuple(_tar_at_far(curve, far, repeats) for far in FARS),
        eer=eer,
        eer_threshold=eer_threshold,
        auc=v.auc(curve),
        threshold=float(np.median(best.thresholds)),
    )


def _val_at_far(
    scores: NDArray[Any], same: NDArray[np.bool_], folds: NDArray[np.int64], ties: v.Ties, repeats: int, far: float
) -> RateAtFar:
    """FaceNet's VAL@FAR: threshold from the other folds, VAL and FAR of the held-out one, mean over folds."""
    try:
        held = v.over_folds(scores, same, folds, lambda curve: v.at_far(curve, far, repeats).threshold, ties)
    except Refused as refusal:
        return RateAtFar(far, refused=refusal.message)
    genuine = int(same.sum())
    return RateAtFar(
        far,
        rate=float(held.val.mean()),
        ci95=_over_folds_ci95(held.val, genuine // repeats),
        achieved_far=float(held.far.mean()),
        achieved_far_ci95=_over_folds_ci95(held.far, (len(same) - genuine) // repeats),
        per_fold=tuple(held.val.tolist()),
    )


def _tar_at_far(curve: v.Roc, far: float, repeats: int) -> RateAtFar:
    """TAR over all pairs at the threshold whose FAR over all impostor pairs is at most `far`."""
    try:
        point = v.at_far(curve, far, repeats)
    except Refused as refusal:
        return RateAtFar(far, refused=refusal.message)
    return RateAtFar(
        far,
        rate=point.tar,
        ci95=wilson(round(point.true_accepts / repeats), point.genuine // repeats),
        achieved_far=point.far,
        achieved_far_ci95=clopper_pearson(round(point.false_accepts / repeats), point.impostors // repeats),
    )


def _over_folds_ci95(rates: NDArray[np.float64], trials: int) -> Interval:
    """Student's interval over folds, within 0..1; folds that agree are no certainty: then Wilson's over all pairs."""
    if np.ptp(rates) == 0:
        return wilson(round(float(rates[0]) * trials), trials)
    low, high = t_interval(rates)
    return max(0.0, low), min(1.0, high)


def _finite(value: float) -> float | None:
    """JSON knows no infinity: null for a threshold that accepts nothing, or all."""
    return value if np.isfinite(value) else None
