"""What a report says beyond the protocol's figures: what the scores mean, where people stand, what it was made by."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from facespace.core.calibration import Logistic, Reliability, cllr, cllr_min, expected_calibration_error, reliability
from facespace.core.maps import principal_map
from facespace.core.verification import error_versus_discard
from facespace.errors import DataError, Refused
from facespace.judge.run import Evaluation
from facespace.judge.scored import people_of

T = TypeVar("T")
DISCARD_FMR = 1e-2
MOST_POINTS = 2_000
"""Points of a map: more cannot be told apart, and pages must stay small."""
NAMED = 8
"""People of a map that have a colour of their own."""


@dataclass(frozen=True)
class Calibrated:
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


def calibrated(evaluation: Evaluation) -> Calibrated:
    """Each fold by the line through all others, so that nothing is judged by what it was fitted to.

    Raises Refused where scores mean nothing, DataError where a kind of pairs is missing.
    """
    scores, same, folds = evaluation.scores, evaluation.protocol.same, evaluation.protocol.folds
    ratios = np.empty(len(scores))
    for fold in np.unique(folds):
        held = folds == fold
        ratios[held] = Logistic.fit(scores[~held], same[~held]).log_likelihood_ratio(scores[held])
    bins = reliability(ratios, same)
    return Calibrated(cllr(ratios, same), cllr_min(scores, same), bins, expected_calibration_error(bins))


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
    protocol, embedded = evaluation.protocol, evaluation.embedded
    if np.unique(embedded.detector_scores[embedded.acquired]).size < 2:
        raise Refused("the detector gives all faces the same score")
    quality = np.minimum(embedded.detector_scores[protocol.first], embedded.detector_scores[protocol.second])
    shares = np.linspace(0, 0.95, 96)
    threshold, fnmr = error_versus_discard(evaluation.scores, protocol.same, quality, DISCARD_FMR, shares)
    return Discard(shares, fnmr, threshold)


@dataclass(frozen=True)
class PeopleMap:
    """Photos on the plane in which they differ most; `colours` `(N,)` are the places in `names`, or -1."""

    points: NDArray[np.float64]
    colours: NDArray[np.int64]
    names: tuple[str, ...]
    shares: tuple[float, float]
    left_out: int
    """Photos that are not shown because there are too many."""


def people_map(evaluation: Evaluation) -> PeopleMap:
    """The photos that gave a face, the eight people with most of them in colours.

    Raises DataError where the protocol does not say who is in the photos, or the vectors have no extent.
    """
    protocol, there = evaluation.protocol, np.flatnonzero(evaluation.embedded.acquired)
    people, named = people_of(protocol.photos, protocol.first, protocol.second, protocol.same)
    if not named:
        raise DataError("the protocol does not name the people")
    found = principal_map(evaluation.embedded.vectors[there])
    counts = np.bincount(people[there])
    chosen = np.argsort(-counts, kind="stable")[:NAMED]
    place = np.full(len(counts), -1)
    place[chosen] = np.arange(len(chosen))
    colours = place[people[there]]
    shown = np.argsort(colours < 0, kind="stable")[:MOST_POINTS]
    folder = {int(person): protocol.photos[photo].rpartition("/")[0] for photo, person in enumerate(people)}
    names = tuple(folder[int(person)] for person in chosen if counts[person])
    return PeopleMap(found.points[shown], colours[shown], names, found.shares, len(there) - len(shown))


def recipe_of(weights: Path) -> dict[str, Any] | None:
    """The recipe in the folder of the run that left these weights; None where they come from elsewhere."""
    try:
        recipe = json.loads((weights.parent / "run.json").read_bytes())["recipe"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return recipe if isinstance(recipe, dict) else None


def attempt(measure: Callable[[Evaluation], T], evaluation: Evaluation) -> T | str:
    """What `measure` gives, or why it is not measured."""
    try:
        return measure(evaluation)
    except (DataError, Refused) as error:
        return error.message
