"""What a report says beyond the protocol's figures: what the scores mean, where people stand, what it was made by."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from facespace.core.calibration import Logistic, Reliability, cllr, cllr_min, expected_calibration_error, reliability
from facespace.core.maps import neighbour_map
from facespace.core.verification import error_versus_discard
from facespace.errors import DataError, Refused
from facespace.judge.embedding import Embedded
from facespace.judge.run import Evaluation

P = ParamSpec("P")
T = TypeVar("T")
DISCARD_FMR = 1e-2
MOST_POINTS = 400
"""Points of a map: more cannot be told apart, and take long to place."""
MOST_OF_ONE = 20
"""Photos of one person on it."""
NAMED = 8
"""People of a map that have a colour of their own."""


@dataclass(frozen=True)
class FittedLine:
    """How well a straight line through the scores, fitted on the other folds, says how likely one person is."""

    cllr: float
    """Bits; 0 is perfect, 1 is knowing nothing."""
    cllr_min: float
    """What any rising function of the scores would reach at best."""
    bins: Reliability
    expected_error: float
    """Mean distance of predicted and observed shares."""

    def as_json(self) -> dict[str, Any]:
        """`{"cllr", "cllr_min", "ece", "reliability"}`."""
        bins = {key: value.tolist() for key, value in vars(self.bins).items()}
        return {"cllr": self.cllr, "cllr_min": self.cllr_min, "ece": self.expected_error, "reliability": bins}


def calibrated(evaluation: Evaluation) -> FittedLine:
    """Each fold by the line through all others, so that nothing is judged by what it was fitted to.

    Raises Refused where scores mean nothing, DataError where a kind of pairs is missing.
    """
    scores, same, folds = evaluation.scores, evaluation.protocol.same, evaluation.protocol.folds
    ratios = np.empty(len(scores))
    for fold in np.unique(folds):
        held = folds == fold
        ratios[held] = Logistic.fit(scores[~held], same[~held]).log_likelihood_ratio(scores[held])
    bins = reliability(ratios, same)
    return FittedLine(cllr(ratios, same), cllr_min(scores, same), bins, expected_calibration_error(bins))


@dataclass(frozen=True)
class Discard:
    """Misses among the genuine pairs that are left when those of the worst photos are left out, `(K,)` each."""

    left_out: NDArray[np.float64]
    """Share of genuine pairs left out, rising from 0."""
    fnmr: NDArray[np.float64]
    threshold: float
    """With an FMR of at most `DISCARD_FMR` on all pairs."""

    def as_json(self) -> dict[str, Any]:
        """`{"quality", "fmr", "threshold", "left_out", "fnmr"}`."""
        curve = {"left_out": self.left_out.tolist(), "fnmr": self.fnmr.tolist()}
        return {"quality": "detector score", "fmr": DISCARD_FMR, "threshold": self.threshold, **curve}


def discarded(evaluation: Evaluation) -> Discard:
    """Error versus discard; a pair is as good as its worse photo's detector score, 0 where there is no face.

    Raises Refused where all faces are of one quality, which then tells nothing apart, or impostor pairs are too few.
    """
    protocol, embedded = evaluation.protocol, evaluation.compared
    if np.unique(embedded.detector_scores[embedded.acquired]).size < 2:
        raise Refused("the detector gives all faces the same score")
    quality = np.minimum(embedded.detector_scores[protocol.first], embedded.detector_scores[protocol.second])
    shares = np.linspace(0, 0.95, 96)
    threshold, fnmr = error_versus_discard(evaluation.scores, protocol.same, quality, DISCARD_FMR, shares)
    return Discard(shares, fnmr, threshold)


@dataclass(frozen=True)
class PeopleMap:
    """Photos on a plane where those of like vectors stand together; `colours` `(N,)` are places in `names`, or -1."""

    points: NDArray[np.float64]
    colours: NDArray[np.int64]
    names: tuple[str, ...]
    left_out: int
    """Photos that are not shown because there are too many."""


def people_map(whose: Sequence[str] | None, embedded: Embedded) -> PeopleMap:
    """The people with most photos that gave a face, the first eight of them in colours, by t-SNE.

    `whose` each photo is `(N,)`, is said by name. Raises DataError where the data do not say who is in the photos, or
    the vectors have no extent.
    """
    if whose is None:
        raise DataError("the data do not name the people")
    there = np.flatnonzero(embedded.acquired)
    found, people, counts = np.unique(np.array(whose)[there], return_inverse=True, return_counts=True)
    place = np.empty(len(counts), np.int64)
    place[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    order = np.argsort(place[people], kind="stable")
    within = np.arange(len(order)) - np.searchsorted(place[people][order], place[people][order])
    shown = order[within < MOST_OF_ONE][:MOST_POINTS]
    colours = np.where(place[people] < NAMED, place[people], -1)[shown]
    points = neighbour_map(embedded.vectors[there[shown]])
    names = tuple(found[np.argsort(place)[:NAMED]].tolist())
    return PeopleMap(points, colours, names, len(there) - len(shown))


def recipe_of(weights: Path) -> dict[str, Any] | None:
    """The recipe in the folder of the run that left these weights; None where they come from elsewhere."""
    try:
        recipe = json.loads((weights.parent / "run.json").read_bytes())["recipe"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return recipe if isinstance(recipe, dict) else None


def attempt(measure: Callable[P, T], *args: P.args, **options: P.kwargs) -> T | str:
    """What `measure` gives, or why it is not measured."""
    try:
        return measure(*args, **options)
    except (DataError, Refused) as error:
        return error.message
