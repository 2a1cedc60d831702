"""Two photos, one question: is it the same person?"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facespace.core.contracts import Detector, Embedder, Face
from facespace.errors import ContractMismatch, Refused, UsageError
from facespace.faces.detect import Policy, YuNet
from facespace.models.calibration import Calibration, similarity_name
from facespace.models.card import OperatingPoint
from facespace.models.embedder import NetEmbedder
from facespace.models.flipped import Flipped
from facespace.models.photos import faces_of
from facespace.models.rescored import Rescored

UNCALIBRATED = OperatingPoint("uncalibrated", 0.35)
"""Used, and named so, where the card states no operating point; no error rate is claimed for it. Of 718,200 impostor
pairs of celebrities and relatives, 0.10 % and 0.13 % reach this cosine with two small public recognisers."""


@dataclass(frozen=True)
class Verdict:
    """The same person or not: `similarity >= threshold`. `at` names the error rate that the threshold stands for.

    `log_likelihood_ratio` (natural) is None where the model has no calibration, or that of another use. `calibrated_on`
    is on whom that was found, also how their faces were. `files` and `faces` are those that were compared.
    """

    same: bool
    similarity: float
    threshold: float
    at: str
    log_likelihood_ratio: float | None
    files: tuple[str, str]
    faces: tuple[Face, Face]
    calibrated_on: Calibration | None = None

    @property
    def other_detector(self) -> str:
        """The detector of the calibration where another one found these faces: error rates may differ. Else empty."""
        known = self.calibrated_on
        return known.detector if known and any(face.source != known.detector for face in self.faces) else ""

    def as_json(self) -> dict[str, Any]:
        """The document that `facespace verify --json` prints."""
        return {
            "same": self.same,
            "similarity": self.similarity,
            "threshold": self.threshold,
            "at": self.at,
            "log_likelihood_ratio": self.log_likelihood_ratio,
            "calibrated_on": self._calibrated_on(),
            "faces": [{"file": f, **face.as_json()} for f, face in zip(self.files, self.faces, strict=True)],
        }

    def _calibrated_on(self) -> dict[str, Any] | None:
        if (known := self.calibrated_on) is None:
            return None
        kept = {key: getattr(known, key) for key in ("detector", "people", "photos", "data")}
        return kept | {"same_detector": not self.other_detector}


def verify(
    photo_a: str | Path,
    photo_b: str | Path,
    embedder: Embedder,
    detector: Detector | None = None,
    *,
    threshold: float | None = None,
    fmr: float | None = None,
    policy: Policy = "refuse",
) -> Verdict:
    """Whether two photos show the same person, by the model's own threshold unless one is given.

    `fmr` asks for the card's threshold of another false match rate; see `decision_point`. `detector` is YuNet unless
    given. Of several faces in a photo `policy` takes one: the best of many pairs would be a false match more often than
    the threshold says. Raises BadImage, NoFace or SeveralFaces naming the file.
    """
    if policy == "all":
        raise UsageError("one face of each photo is compared", hint="policy refuse, largest or central")
    point = decision_point(embedder, threshold, fmr)
    calibration = calibration_of(embedder)
    detector = detector or YuNet()
    found = [faces_of(path, detector, policy)[0] for path in (photo_a, photo_b)]
    vectors = embedder.embed(np.stack([crop for _, crop in found]))
    similarity = float(embedder.similarity(vectors[:1], vectors[1:])[0, 0])
    return Verdict(
        same=similarity >= point.threshold,
        similarity=similarity,
        threshold=point.threshold,
        at=point.at,
        log_likelihood_ratio=None if calibration is None else calibration.log_likelihood_ratio(similarity),
        files=(str(photo_a), str(photo_b)),
        faces=(found[0][0], found[1][0]),
        calibrated_on=calibration,
    )


def decision_point(embedder: Embedder, threshold: float | None = None, fmr: float | None = None) -> OperatingPoint:
    """The given threshold; else the card's point at `fmr`, which is 0.001 or its first unless asked for; else, where
    none was asked for, the uncalibrated default.

    Raises ContractMismatch where the card's points were found for another use of the model, Refused where it has none
    at `fmr`, UsageError for what can be no rate, and for a group-aware model without a point: its similarities are no
    cosines, and have no default.
    """
    if threshold is not None:
        return _given(threshold, fmr)
    if fmr is not None and not 0 < fmr < 1:
        raise UsageError(f"{fmr:g} is no false match rate: one lies between 0 and 1", hint="--fmr 0.001")
    if reason := mismatch(embedder):
        hint = "use the model as it was calibrated, give --threshold, or run `facespace calibrate` anew"
        raise ContractMismatch(reason, hint=hint)
    points = embedder.card.operating_points if isinstance(embedder, NetEmbedder) else ()
    asked = [point for point in points if point.at == f"FMR={0.001 if fmr is None else fmr:g}"]
    if fmr is not None and not asked:
        known = ", ".join(point.at for point in points) or "none"
        hint = f"here are: {known}; `facespace calibrate MODEL --data FOLDER --fmr {fmr:g} --write` adds it"
        raise Refused(f"the card of {embedder.name!r} states no threshold at FMR={fmr:g}", hint=hint)
    if not points and isinstance(embedder, NetEmbedder) and embedder.card.group_aware is not None:
        hint = "--threshold; `facespace evaluate` on other people finds one"
        raise UsageError(f"the card of the group-aware {embedder.name!r} states no threshold", hint=hint)
    return (*asked, *points, UNCALIBRATED)[0]


def calibration_of(embedder: Embedder) -> Calibration | None:
    """What the scores mean, where the card says so for this very use of the model."""
    return embedder.card.calibration if isinstance(embedder, NetEmbedder) and not mismatch(embedder) else None


def mismatch(embedder: Embedder) -> str:
    """Why the thresholds and the calibration of the card do not hold for this use of its model; empty if they do."""
    match embedder:
        case Rescored():
            return f"no threshold is known for {embedder.name!r}: its card's were found for another similarity"
        case Flipped() if embedder.embedder.card.operating_points:
            return f"no threshold is known for {embedder.name!r}: its card's were found without the mirror image"
        case NetEmbedder():
            return _stale(embedder)
    return ""


def _stale(embedder: NetEmbedder) -> str:
    card, known = embedder.card, embedder.card.calibration
    contracts = {point.contract for point in card.operating_points} | ({known.contract} if known else set())
    if contracts - {None, card.contract()}:
        return (
            f"the thresholds in the card of {card.name!r} were found with other weights or other preprocessing than "
            f"{card.input.channels}, mean {card.input.mean:g}, std {card.input.std:g}"
        )
    now = similarity_name(card.group_aware)
    if known is not None and known.similarity != now:
        return f"the thresholds in the card of {card.name!r} were found by {known.similarity}, and it compares by {now}"
    return ""


def _given(threshold: float, fmr: float | None) -> OperatingPoint:
    if not math.isfinite(threshold):
        raise UsageError(f"{threshold} is no threshold", hint="--threshold takes a similarity, such as 0.35")
    if fmr is not None:
        raise UsageError("a threshold is given, and one of the card asked for", hint="--threshold or --fmr")
    return OperatingPoint("given", threshold)
