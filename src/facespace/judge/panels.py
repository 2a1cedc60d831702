"""The charts of a report, from the figures of an evaluation."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from facespace.core.verification import Roc
from facespace.judge.charts import Axis, Series, histogram, line_chart, point_chart, thinned
from facespace.judge.figures import Figures, RateAtFar
from facespace.judge.measures import DISCARD_FMR, Calibrated, Discard, PeopleMap
from facespace.judge.run import Evaluation


def roc_chart(figures: Sequence[tuple[str, Figures]]) -> str:
    """True over false accept rate of one model or several; FAR is logarithmic from one false accept of all pairs."""
    x = _rate_axis("false accept rate (FAR, FMR)", max(f.curve.impostors for _, f in figures))
    low = min(float(np.interp(x.low, f.curve.far, f.curve.tar)) for _, f in figures)
    y = Axis("true accept rate (TAR, VAL)", min(math.floor(10 * low) / 10, 0.9), 1.0, percent=True)
    lines = [Series(name, *_points(f.curve, x), stepped=True) for name, f in figures]
    return line_chart("ROC", x, y, lines, _marks(figures[0][1].tar_at_far) if len(figures) == 1 else ())


def det_chart(figures: Sequence[tuple[str, Figures]]) -> str:
    """Detection error trade-off: misses over false accepts, both logarithmic."""
    x = _rate_axis("false accept rate (FAR, FMR)", max(f.curve.impostors for _, f in figures))
    y = _rate_axis("miss rate (FNMR)", max(f.curve.genuine for _, f in figures))
    lines = []
    for name, f in figures:
        far, tar = _points(f.curve, x)
        lines.append(Series(name, far, 1 - np.asarray(tar), stepped=True))
    return line_chart("DET", x, y, lines, legend_below=True)


def score_chart(evaluation: Evaluation) -> str:
    """Scores of genuine and impostor pairs and the threshold; pairs without faces have no place on the axis."""
    same, scores = evaluation.protocol.same, evaluation.scores
    groups = [("genuine pairs", scores[same]), ("impostor pairs", scores[~same])]
    return histogram("scores", "similarity", groups, evaluation.figures.threshold)


def reliability_chart(found: Calibrated) -> str:
    """Observed over predicted shares of genuine pairs; what is predicted rightly lies on the diagonal."""
    x, y = (Axis(label, 0, 1, percent=True) for label in ("predicted: one person", "observed: one person"))
    bins = found.bins
    lines = [Series("measured", bins.predicted, bins.observed), Series("perfect", [0, 1], [0, 1])]
    return line_chart(
        "reliability", x, y, lines, list(zip(bins.predicted.tolist(), bins.observed.tolist(), strict=True))
    )


def discard_chart(found: Discard) -> str:
    """Misses over the share of genuine pairs left out, worst quality first."""
    x = Axis("genuine pairs left out", 0, 1, percent=True)
    y = Axis(
        f"FNMR of the rest, FMR {100 * DISCARD_FMR:g} %", 0, max(1.1 * float(found.fnmr.max()), 0.01), percent=True
    )
    return line_chart("error versus discard", x, y, [Series("FNMR", found.left_out, found.fnmr, stepped=True)])


def map_chart(found: PeopleMap) -> str:
    """Photos on the plane in which they differ most."""
    axes = [
        _fitting(f"axis {i + 1}: {100 * share:.0f} % of the variance", 1.05 * found.points[:, i])  # none on the edge
        for i, share in enumerate(found.shares)
    ]
    return point_chart("map of people", axes[0], axes[1], found.points, found.colours)


def curve_chart(name: str, x: ArrayLike, y: ArrayLike) -> str:
    """One line over linear axes that fit it."""
    across, up = (np.asarray(values, dtype=np.float64) for values in (x, y))
    return line_chart(name, _fitting("step", across), _fitting(name, up), [Series(name, across, up)])


def _points(curve: Roc, x: Axis) -> tuple[Any, Any]:
    return thinned(curve.far, curve.tar, x)


def _rate_axis(label: str, pairs: int) -> Axis:
    """From the least rate that so many pairs can show (at most 1 %) to 1."""
    return Axis(label, min(0.01, 1 / pairs), 1.0, "log", percent=True)


def _fitting(label: str, values: np.ndarray[Any, np.dtype[np.float64]]) -> Axis:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return Axis(label, low, high if high > low else low + 1)


def _marks(rates: Sequence[RateAtFar]) -> list[tuple[float, float]]:
    return [(rate.achieved_far, rate.rate) for rate in rates if rate.achieved_far and rate.rate is not None]
