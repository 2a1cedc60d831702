"""The figures that scores of pairs show, each with its interval, or refused."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facespace.core import verification as v
from facespace.core.dependence import Trials
from facespace.core.intervals import Interval, standard_error
from facespace.core.over_people import Judged
from facespace.errors import Refused
from facespace.judge.people import PairPeople

FARS = (1e-2, 1e-3, 1e-4)
LOWER_FARS = (1e-5, 1e-6, 1e-7)
"""Of a TAR, where there are impostor pairs enough that one false accept is not more; others are not mentioned."""
Intervals = Literal["people", "inferred people", "pairs"]
"""Whom the intervals are for: other people, named by the data or as far as genuine pairs tell, or other pairs."""


@dataclass(frozen=True)
class RateAtFar:
    """The share of genuine pairs accepted at an asked FAR, with the FAR achieved; or the reason why it is refused."""

    far: float
    rate: float | None = None
    ci95: Interval | None = None
    achieved_far: float | None = None
    achieved_far_ci95: Interval | None = None
    refused: str | None = None
    thresholds: NDArray[np.float64] | None = None
    """Of VAL those of the folds `(F,)`, of TAR that of all pairs `(1,)`."""

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
    intervals: Intervals
    judged: Judged
    curve: v.Roc
    folds: v.FoldRates
    accuracy: float
    accuracy_stderr: float
    """Of the mean over folds; times the root of their number it is the standard deviation from fold to fold."""
    accuracy_ci95: Interval
    val_at_far: tuple[RateAtFar, ...]
    tar_at_far: tuple[RateAtFar, ...]
    eer: float
    eer_ci95: Interval
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
            "eer": {"rate": self.eer, "ci95": self.eer_ci95, "threshold": _finite(self.eer_threshold)},
            "auc": self.auc,
            "threshold": _finite(self.threshold),
            "ties": self.ties,
            "intervals": self.intervals,
        }


def figures_of(
    scores: NDArray[Any],
    same: NDArray[np.bool_],
    folds: NDArray[np.int64],
    ties: v.Ties = "accept",
    repeats: int = 1,
    people: PairPeople | None = None,
) -> Figures:
    """All figures of scores `(P,)`, `same` bool `(P,)` and folds `(P,)`; intervals are for other people.

    `people` are those of each pair of photos; without them each counts as of people of its own. `repeats` is how often
    the list of pairs stands among the scores, in turn: intervals and refusals count pairs of photos.
    """
    judged = Judged.of(scores, same, folds, _trials(len(scores), repeats, people), ties)
    curve, best = judged.curve, judged.best
    lower = [far for far in LOWER_FARS if far * (curve.impostors // repeats) >= 1]
    return Figures(
        ties=ties,
        intervals="pairs" if people is None else "people" if people.named else "inferred people",
        judged=judged,
        curve=curve,
        folds=best,
        accuracy=float(best.accuracy.mean()),
        accuracy_stderr=standard_error(best.accuracy),
        accuracy_ci95=judged.share(judged.accuracy()).ci95,
        val_at_far=tuple(_val_at_far(judged, far) for far in FARS),
        tar_at_far=tuple(_tar_at_far(judged, far) for far in (*FARS, *lower)),
        eer=v.equal_error(curve)[0],
        eer_ci95=judged.share(judged.equal_error()).ci95,
        eer_threshold=v.equal_error(curve)[1],
        auc=v.auc(curve),
        threshold=float(np.median(best.thresholds)),
    )


def _trials(scores: int, repeats: int, people: PairPeople | None) -> Trials:
    if people is None:
        return Trials.of(np.tile(np.arange(scores // repeats), repeats), repeats=repeats)
    return Trials.of(np.tile(people.a, repeats), np.tile(people.b, repeats), repeats)


def _val_at_far(judged: Judged, far: float) -> RateAtFar:
    """FaceNet's VAL@FAR: threshold from the other folds, VAL and FAR of the held-out one, mean over folds."""
    try:
        held = judged.held(far)
    except Refused as refusal:
        return RateAtFar(far, refused=refusal.message)
    return _rate_at_far(judged, far, held)


def _tar_at_far(judged: Judged, far: float) -> RateAtFar:
    """TAR over all pairs at the threshold whose FAR over all impostor pairs is at most `far`."""
    try:
        point = v.at_far(judged.curve, far, judged.trials.repeats)
    except Refused as refusal:
        return RateAtFar(far, refused=refusal.message)
    return _rate_at_far(judged, far, np.array([point.threshold]))


def _rate_at_far(judged: Judged, far: float, thresholds: NDArray[np.float64]) -> RateAtFar:
    tar, achieved = judged.at_far(far, thresholds)
    return RateAtFar(
        far,
        rate=tar.rate,
        ci95=tar.ci95,
        achieved_far=achieved.rate,
        achieved_far_ci95=achieved.ci95,
        thresholds=thresholds,
    )


def _finite(value: float) -> float | None:
    """JSON knows no infinity: null for a threshold that accepts nothing, or all."""
    return value if np.isfinite(value) else None
