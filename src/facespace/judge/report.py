"""An evaluation as one page of HTML: figures, charts, worst pairs as pictures; no script, nothing from the network."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import ArrayLike
from PIL import Image

from facespace.core.intervals import Interval
from facespace.core.verification import accepts
from facespace.judge.charts import Axis, Series, histogram, line_chart, thinned
from facespace.judge.figures import RateAtFar
from facespace.judge.run import Evaluation, worst_pairs

PICTURES = 12
"""Worst pairs of each kind that a report shows; hand it to `run` as `pictures`."""

Curve = tuple[str, ArrayLike, ArrayLike]
"""Name, x and y of a line such as the loss over the steps of a training."""


def write_report(
    evaluation: Evaluation,
    path: Path,
    *,
    title: str | None = None,
    about: Mapping[str, Any] | None = None,
    curves: Sequence[Curve] = (),
) -> None:
    """Write the page to `path`; see `render`."""
    path.write_text(render(evaluation, title=title, about=about, curves=curves), encoding="utf-8")


def render(
    evaluation: Evaluation,
    *,
    title: str | None = None,
    about: Mapping[str, Any] | None = None,
    curves: Sequence[Curve] = (),
) -> str:
    """The page as text; `about` is what is known of the model (card, recipe), `curves` those of its training."""
    templates = Environment(
        loader=PackageLoader("facespace.judge"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"percent": percent, "span": span, "plain": _plain}
    return templates.get_template("report.html").render(
        title=title or f"{evaluation.model['name']} on {evaluation.protocol.name}",
        e=evaluation,
        f=evaluation.figures,
        roc=roc_chart(evaluation),
        det=det_chart(evaluation),
        scores=score_chart(evaluation),
        curves=[curve_chart(*curve) for curve in curves],
        genuine=_pictured(evaluation, same=True),
        impostors=_pictured(evaluation, same=False),
        folds=_fold_rows(evaluation),
        about=about or {},
    )


def roc_chart(evaluation: Evaluation) -> str:
    """True over false accept rate, the latter logarithmic from one false accept among all impostor pairs."""
    curve = evaluation.figures.curve
    x = _rate_axis("false accept rate (FAR, FMR)", curve.impostors)
    far, tar = thinned(curve.far, curve.tar, x)
    low = math.floor(10 * float(np.interp(x.low, curve.far, curve.tar))) / 10
    y = Axis("true accept rate (TAR, VAL)", min(low, 0.9), 1.0, percent=True)
    return line_chart("ROC", x, y, [Series("ROC", far, tar, stepped=True)], _marks(evaluation.figures.tar_at_far))


def det_chart(evaluation: Evaluation) -> str:
    """Detection error trade-off: misses over false accepts, both logarithmic."""
    curve = evaluation.figures.curve
    x = _rate_axis("false accept rate (FAR, FMR)", curve.impostors)
    y = _rate_axis("miss rate (FNMR)", curve.genuine)
    far, tar = thinned(curve.far, curve.tar, x)
    return line_chart("DET", x, y, [Series("DET", far, 1 - tar, stepped=True)])


def score_chart(evaluation: Evaluation) -> str:
    """Scores of genuine and impostor pairs and the threshold; pairs without faces have no place on the axis."""
    same, scores = evaluation.protocol.same, evaluation.scores
    groups = [("genuine pairs", scores[same]), ("impostor pairs", scores[~same])]
    return histogram("scores", "similarity", groups, evaluation.figures.threshold)


def curve_chart(name: str, x: ArrayLike, y: ArrayLike) -> str:
    """One line over linear axes that fit it."""
    across, up = (np.asarray(values, dtype=np.float64) for values in (x, y))
    return line_chart(name, _fitting("step", across), _fitting(name, up), [Series(name, across, up)])


def percent(share: float | None, digits: int = 2) -> str:
    """A share as a percentage: `98.48 %`; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def span(interval: Interval | None, digits: int = 2) -> str:
    """An interval of shares: `98.1 to 98.9 %`."""
    return "–" if interval is None else f"{100 * interval[0]:.{digits}f} to {100 * interval[1]:.{digits}f} %"


def _plain(value: object) -> str:
    """A setting as people read it: text as it is, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _rate_axis(label: str, pairs: int) -> Axis:
    """From the least rate that so many pairs can show (at most 1 %) to 1."""
    return Axis(label, min(0.01, 1 / pairs), 1.0, "log", percent=True)


def _fitting(label: str, values: np.ndarray[Any, np.dtype[np.float64]]) -> Axis:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return Axis(label, low, high if high > low else low + 1)


def _marks(rates: Sequence[RateAtFar]) -> list[tuple[float, float]]:
    return [(rate.achieved_far, rate.rate) for rate in rates if rate.achieved_far and rate.rate is not None]


def _fold_rows(evaluation: Evaluation) -> list[tuple[int, float, float, float, float]]:
    """Number, threshold, accuracy, VAL and FAR of each fold."""
    folds = evaluation.figures.folds
    numbers = np.unique(evaluation.protocol.folds).tolist()
    columns = (folds.thresholds.tolist(), folds.accuracy.tolist(), folds.val.tolist(), folds.far.tolist())
    return list(zip(numbers, *columns, strict=True))


def _pictured(evaluation: Evaluation, same: bool) -> list[dict[str, Any]]:
    """The worst pairs whose faces were kept: names, score, whether the decision is wrong, and the two pictures."""
    rows = []
    for first, second, score in worst_pairs(evaluation.protocol, evaluation.scores, same, PICTURES):
        if {first, second} <= evaluation.crops.keys():
            pictures = [_jpeg(evaluation.crops[name]) for name in (first, second)]
            wrong = bool(accepts(np.array(score), evaluation.figures.threshold, evaluation.figures.ties)) != same
            rows.append({"names": (first, second), "score": score, "wrong": wrong, "pictures": pictures})
    return rows


def _jpeg(face: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    """A face as a data URL."""
    stream = BytesIO()
    Image.fromarray(face).save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
