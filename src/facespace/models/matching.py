"""Two photos, one question: is it the same person?"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facespace.core.contracts import Detector, Embedder, Face
from facespace.errors import UsageError
from facespace.faces.detect import Policy, YuNet
from facespace.models.card import OperatingPoint
from facespace.models.embedder import NetEmbedder
from facespace.models.photos import faces_of

UNCALIBRATED = OperatingPoint("uncalibrated", 0.35)
"""Used, and named so, where the card states no operating point; no error rate is claimed for it. Of 718,200 impostor
pairs of celebrities and relatives, 0.10 % and 0.13 % reach this cosine with two small public recognisers."""


@dataclass(frozen=True)
class Verdict:
    """The same person or not: `similarity >= threshold`. `at` names the error rate that the threshold stands for.

    `log_likelihood_ratio` is None where the model has no calibration. `files` and `faces` are those that were compared.
    """

    same: bool
    similarity: float
    threshold: float
    at: str
    log_likelihood_ratio: float | None
    files: tuple[str, str]
    faces: tuple[Face, Face]

    def as_json(self) -> dict[str, Any]:
        """The document that `facespace verify --json` prints."""
        return {
            "same": self.same,
            "similarity": self.similarity,
            "threshold": self.threshold,
            "at": self.at,
            "log_likelihood_ratio": self.log_likelihood_ratio,
            "faces": [{"file": f, **face.as_json()} for f, face in zip(self.files, self.faces, strict=True)],
        }


def verify(
    photo_a: str | Path,
    photo_b: str | Path,
    embedder: Embedder,
    detector: Detector | None = None,
    *,
    threshold: float | None = None,
    policy: Policy = "refuse",
) -> Verdict:
    """Whether two photos show the same person, by the model's own threshold unless one is given.

    `detector` is YuNet unless given. Of several faces in a photo `policy` takes one: the best of many pairs would be a
    false match more often than the threshold says. Raises BadImage, NoFace or SeveralFaces naming the file.
    """
    if policy == "all":
        raise UsageError("one face of each photo is compared", hint="policy refuse, largest or central")
    point = decision_point(embedder, threshold)
    detector = detector or YuNet()
    found = [faces_of(path, detector, policy)[0] for path in (photo_a, photo_b)]
    vectors = embedder.embed(np.stack([crop for _, crop in found]))
    similarity = float(embedder.similarity(vectors[:1], vectors[1:])[0, 0])
    return Verdict(
        same=similarity >= point.threshold,
        similarity=similarity,
        threshold=point.threshold,
        at=point.at,
        log_likelihood_ratio=None,
        files=(str(photo_a), str(photo_b)),
        faces=(found[0][0], found[1][0]),
    )


def decision_point(embedder: Embedder, threshold: float | None = None) -> OperatingPoint:
    """The given threshold; else the card's point at FMR=0.001, or its first; else the uncalibrated default.

    Raises UsageError for a group-aware model without a point: its similarities are no cosines, and have no default.
    """
    if threshold is not None:
        if not math.isfinite(threshold):
            raise UsageError(f"{threshold} is no threshold", hint="--threshold takes a similarity, such as 0.35")
        return OperatingPoint("given", threshold)
    points = embedder.card.operating_points if isinstance(embedder, NetEmbedder) else ()
    usual = [point for point in points if point.at == "FMR=0.001"]
    if not points and isinstance(embedder, NetEmbedder) and embedder.card.group_aware is not None:
        hint = "--threshold; `facespace evaluate` on other people finds one"
        raise UsageError(f"the card of the group-aware {embedder.name!r} states no threshold", hint=hint)
    return (*usual, *points, UNCALIBRATED)[0]
