"""What a score of a model means: its log-likelihood ratio, on whom that was fitted, and where it holds.

It stands in the model's card, beside the thresholds that were found on the same people.
"""

import math
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import numpy as np

from facespace.core.calibration import Isotonic, Logistic
from facespace.core.drift import ImpostorScores
from facespace.core.similarity import GroupAware
from facespace.models.keys import KeyReader


@dataclass(frozen=True)
class Steps:
    """A rising function by its corners: `scores` rise, `ratios` do not fall."""

    scores: tuple[float, ...]
    ratios: tuple[float, ...]


@dataclass(frozen=True)
class Calibration:
    """Score to log-likelihood ratio, by a `logistic` line or `isotonic` steps: one of the two is there.

    It holds for vectors of `contract` that are compared by `similarity`; faces were found by `detector`. `data` is the
    digest of the photos, `failures` of which gave no face. A ratio stays within `least` and `most`, the natural
    logarithms that so many people can show. `cllr` and `cllr_min` are in bits, on the people it was fitted to.
    """

    contract: str
    similarity: str
    detector: str
    data: str
    people: int
    photos: int
    failures: int
    genuine_pairs: int
    impostor_pairs: int
    least: float
    most: float
    cllr: float
    cllr_min: float
    impostors: ImpostorScores
    logistic: Logistic | None = None
    isotonic: Steps | None = None

    def log_likelihood_ratio(self, similarity: float) -> float:
        """The natural logarithm of how much likelier the similarity is from one person than from two."""
        if self.logistic is not None:
            ratio = self.logistic.log_likelihood_ratio(similarity)
        else:
            assert self.isotonic is not None
            steps = Isotonic(np.array(self.isotonic.scores), np.array(self.isotonic.ratios))
            ratio = steps.log_likelihood_ratio(similarity)
        return float(np.clip(ratio, self.least, self.most))

    def as_json(self) -> dict[str, Any]:
        """Its part of the card's document."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def limits(people_with_mates: int, pairs_of_people: int) -> tuple[float, float]:
    """The least and the most that a log-likelihood ratio may claim, at least 0 away from nothing.

    By the rule of 3, n people who all were accepted do not exclude that one in n / 3 is missed, nor n pairs of people
    that one in n / 3 is accepted.
    """
    return -max(0.0, math.log(people_with_mates / 3)), max(0.0, math.log(pairs_of_people / 3))


def similarity_name(group_aware: GroupAware | None) -> str:
    """How vectors are compared, in words that differ where scores would."""
    if group_aware is None:
        return "cosine"
    how = group_aware
    return f"group-aware (split {how.split}, beta {how.beta!r}, gamma {how.gamma!r}, {how.distance})"


def read_calibration(reader: KeyReader, document: Any) -> Calibration | None:
    """The calibration in a card's document; None where there is none, BadCard where it is malformed."""
    if document is None:
        return None
    where = "calibration."
    known = reader.known(document, Calibration, "calibration")
    reader.needed(known, where, *(field.name for field in fields(Calibration) if field.default is MISSING))
    reader.texts(known, where, "contract", "similarity", "detector", "data")
    for key in ("people", "photos", "failures", "genuine_pairs", "impostor_pairs"):
        reader.whole(known, key, 0, where)
    for key in ("least", "most", "cllr", "cllr_min"):
        known[key] = reader.number(known, key, where)
    if not known["least"] <= 0 <= known["most"]:
        reader.fail(f"{where}least", "must be at most 0, and most at least 0")
    known["impostors"] = _impostors(reader, known["impostors"])
    if (known.get("logistic") is None) == (known.get("isotonic") is None):
        reader.fail("calibration", "must be either logistic or isotonic")
    if known.get("logistic") is not None:
        known["logistic"] = _logistic(reader, known["logistic"])
    else:
        known["isotonic"] = _steps(reader, known["isotonic"])
    return Calibration(**known)


def _logistic(reader: KeyReader, document: Any) -> Logistic:
    where = "calibration.logistic."
    known = reader.known(document, Logistic, where[:-1])
    reader.needed(known, where, "slope", "offset")
    slope, offset = (reader.number(known, key, where) for key in ("slope", "offset"))
    if slope <= 0:
        reader.fail(f"{where}slope", f"must be more than 0, not {slope}")
    return Logistic(slope, offset)


def _steps(reader: KeyReader, document: Any) -> Steps:
    where = "calibration.isotonic."
    known = reader.known(document, Steps, where[:-1])
    reader.needed(known, where, "scores", "ratios")
    steps = Steps(reader.numbers(known, "scores", where), reader.numbers(known, "ratios", where))
    if not steps.scores or len(steps.scores) != len(steps.ratios):
        reader.fail(f"{where}ratios", "must be as many as the scores, one or more")
    for key, values in asdict(steps).items():
        if list(values) != sorted(values):
            reader.fail(where + key, "must rise")
    return steps


def _impostors(reader: KeyReader, document: Any) -> ImpostorScores:
    where = "calibration.impostors."
    known = reader.known(document, ImpostorScores, where[:-1])
    reader.needed(known, where, "levels", "scores", "stderr", "people")
    reader.whole(known, "people", 2, where)
    levels, scores, stderr = (reader.numbers(known, key, where) for key in ("levels", "scores", "stderr"))
    if not levels or not len(levels) == len(scores) == len(stderr):
        reader.fail(f"{where}scores", "must be as many as the levels and stderr, one or more")
    return ImpostorScores(levels, scores, stderr, known["people"])
