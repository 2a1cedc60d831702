"""An evaluation as one page of HTML: figures, charts, worst pairs as pictures; no script, nothing from the network.

Beside the page stands the same as JSON, with the scores of all pairs, for `facespace compare`.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from facespace.core.verification import accepts
from facespace.judge.groups import NOT_MEASURED
from facespace.judge.measures import attempt, calibrated, discarded, people_map
from facespace.judge.page import check_report, templates
from facespace.judge.panels import (
    curve_chart,
    det_chart,
    discard_chart,
    map_chart,
    reliability_chart,
    roc_chart,
    score_chart,
)
from facespace.judge.run import Evaluation, worst_pairs
from facespace.judge.scored import Scored

PICTURES = 12
"""Worst pairs of each kind that a report shows; hand it to `run` as `pictures`."""
MOST_FAILURES = 100
"""Rows of the page; the document beside it has all."""

Curve = tuple[str, ArrayLike, ArrayLike]
"""Name, x and y of a line such as the loss over the steps of a training."""


def write_report(
    evaluation: Evaluation,
    path: Path,
    *,
    title: str | None = None,
    about: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    curves: Sequence[Curve] = (),
    groups: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write the page to `path` and its figures beside it as `.json`; see `render` and `document`."""
    check_report(path)
    text = render(evaluation, title=title, about=about, recipe=recipe, curves=curves, groups=groups)
    path.write_text(text, encoding="utf-8")
    figures = json.dumps(document(evaluation, about, recipe, groups), allow_nan=False)
    path.with_suffix(".json").write_text(figures + "\n", encoding="utf-8")


def document(
    evaluation: Evaluation,
    about: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    groups: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """All that the page says, and every pair with its score; null for what is not measured."""
    extra = {"calibration": attempt(calibrated, evaluation), "error_versus_discard": attempt(discarded, evaluation)}
    return {
        **evaluation.as_json(),
        **{key: None if isinstance(found, str) else found.as_json() for key, found in extra.items()},
        "groups": NOT_MEASURED if groups is None else list(groups),
        "card": None if about is None else dict(about),
        "recipe": None if recipe is None else dict(recipe),
        "pairs_scored": Scored.of(evaluation).pairs_as_json(),
    }


def render(
    evaluation: Evaluation,
    *,
    title: str | None = None,
    about: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    curves: Sequence[Curve] = (),
    groups: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """The page as text.

    `about` is the model's card, `recipe` that of its training, `curves` are those of its training, `groups`
    the documents of `judge.groups.Differential`.
    """
    one = [(str(evaluation.model["name"]), evaluation.figures)]
    calibration, discard = attempt(calibrated, evaluation), attempt(discarded, evaluation)
    people = attempt(people_map, evaluation)
    return (
        templates()
        .get_template("report.html")
        .render(
            title=title or f"{evaluation.model['name']} on {evaluation.protocol.name}",
            e=evaluation,
            f=evaluation.figures,
            roc=roc_chart(one),
            det=det_chart(one),
            scores=score_chart(evaluation),
            calibration=calibration,
            discard=discard,
            people=people,
            drawn=(
                None if isinstance(calibration, str) else reliability_chart(calibration),
                None if isinstance(discard, str) else discard_chart(discard),
                None if isinstance(people, str) else map_chart(people),
            ),
            curves=[curve_chart(*curve) for curve in curves],
            genuine=_pictured(evaluation, same=True),
            impostors=_pictured(evaluation, same=False),
            folds=_fold_rows(evaluation),
            most_failures=MOST_FAILURES,
            about=about or {},
            recipe=recipe or {},
            groups=groups or (),
            not_measured=NOT_MEASURED,
        )
    )


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
