"""What a report says of pairs: folds, calibration, discards, and the worst pairs as pictures."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from facespace.core.verification import accepts
from facespace.judge.measures import Discard, FittedLine, attempt, calibrated, discarded
from facespace.judge.page import Chart, Content, percent
from facespace.judge.panels import det_chart, discard_chart, reliability_chart, roc_chart, score_chart
from facespace.judge.run import Evaluation, worst_pairs
from facespace.judge.scored import Scored
from facespace.judge.sheets import data_url

PICTURES = 12
"""Worst pairs of each kind that a report shows; hand it to `run` as `pictures`."""


def pair_content(evaluation: Evaluation) -> Content:
    """The page of pairs; its document holds every pair with its score, and null for what is not measured."""
    measured: Mapping[str, FittedLine | Discard | str] = {
        "calibration": attempt(calibrated, evaluation),
        "error_versus_discard": attempt(discarded, evaluation),
    }
    figures = evaluation.figures
    one = [(str(evaluation.model["name"]), figures)]
    charts = [
        (
            roc_chart(one),
            f"ROC. The left end is what {figures.curve.impostors:,} impostor pairs can show; circles are the figures "
            "above.",
        ),
        (
            score_chart(evaluation),
            f"Scores of both kinds of pairs; the dashed line is the median threshold of the folds, "
            f"{figures.threshold:.4f}.",
        ),
        (det_chart(one), "Detection error trade-off: misses against false accepts."),
        *(_chart(found) for found in measured.values() if not isinstance(found, str)),
    ]
    pictures = {f"pictured_{name}": _pictured(evaluation, same) for name, same in (("genuine", True), ("other", False))}
    return Content(
        template="pairs.html",
        charts=charts,
        facts={"folds": _fold_rows(evaluation), **pictures},
        extra={
            **{name: None if isinstance(found, str) else found.as_json() for name, found in measured.items()},
            "pairs_scored": Scored.of(evaluation).pairs_as_json(),
        },
        missing={name.replace("_", " "): found for name, found in measured.items() if isinstance(found, str)},
    )


def _chart(found: FittedLine | Discard) -> Chart:
    if isinstance(found, Discard):
        return discard_chart(found), (
            f"Error versus discard: misses at {found.threshold:.4f} when the genuine pairs that the detector scored "
            "lowest are left out."
        )
    return reliability_chart(found), (
        "Reliability of likelihood ratios from a straight line through the scores, fitted on the other folds. Cllr "
        f"{found.cllr:.4f} bits (0 perfect, 1 knows nothing), at best {found.cllr_min:.4f}; expected calibration error "
        f"{percent(found.expected_error)}."
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
            pictures = [data_url(evaluation.crops[name]) for name in (first, second)]
            wrong = bool(accepts(np.array(score), evaluation.figures.threshold, evaluation.figures.ties)) != same
            rows.append({"names": (first, second), "score": score, "wrong": wrong, "pictures": pictures})
    return rows
