"""A protocol of pairs, one model: photos are embedded and compared, and the figures drawn from it.

The pairs of a photo without a usable face keep their place in every denominator with a score of -inf, so a genuine pair
is a miss.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import AlignedFaces, Detector, Embedder
from facespace.core.scores import pair_scores
from facespace.core.verification import Ties
from facespace.faces.detect import Policy
from facespace.judge.circumstances import Circumstances, Evaluated
from facespace.judge.cohorts import GroupAccuracy, accuracies
from facespace.judge.embedding import (
    Embedded,
    Failure,
    PhotoList,
    Progress,
    align_photo,
    available_cores,
    embed_photos,
    named_faces,
)
from facespace.judge.figures import Figures, figures_of
from facespace.judge.people import PairPeople
from facespace.judge.pooling import mean_scores, pool
from facespace.judge.protocols import PairProtocol
from facespace.models.flipped import group_aware_of

NO_FACE = -np.inf


@dataclass(frozen=True)
class Evaluation(Evaluated):
    """A model judged by pairs: figures, and the scores `(P,)` behind them."""

    protocol: PairProtocol
    scores: NDArray[np.float32]
    figures: Figures
    crops: dict[str, AlignedFaces]
    compared: Embedded
    """What the pairs point to: the photos, or templates made of them."""

    @cached_property
    def accuracies(self) -> tuple[GroupAccuracy, ...]:
        """The accuracy in each group that the set itself has."""
        return accuracies(self.protocol, self.scores, self.figures.ties)

    def failed_pairs(self, same: bool) -> int:
        """Genuine or impostor pairs that hold a photo without a face."""
        return _failed(self.scores, self.protocol.same == same)

    def as_json(self) -> dict[str, Any]:
        """The document of `evaluate --json`; `accuracy_by_group` where the set has groups."""
        by_group = [one.as_json() for one in self.accuracies]
        return {
            "model": self.model,
            "protocol": self.protocol.name,
            "pairs": len(self.scores),
            "folds": len(self.figures.folds.accuracy),
            **self.figures.as_json(),
            **({"accuracy_by_group": by_group} if by_group else {}),
            "failures": failures_as_json(self.failures, self.scores, self.protocol.same),
            **self.circumstances_as_json(self.protocol.people),
        }


def run(
    protocol: PairProtocol,
    embedder: Embedder,
    detector: Detector,
    *,
    policy: Policy = "central",
    ties: Ties = "accept",
    threads: int | None = None,
    device: str = "cpu",
    pictures: int = 0,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Judge `embedder` by `protocol`; `policy` chooses the face where a photo shows several, `ties` what a pair exactly
    at a threshold is.

    `threads` workers (default: the cores) each take photos through all stages. `pictures` asks for the aligned faces of
    so many worst pairs of each kind, for a report. Raises `DataError` for a file that cannot be read at all.
    """
    threads = threads or available_cores()
    listed: PhotoList = protocol.templates or protocol
    photos = embed_photos(listed, embedder, detector, policy, threads, progress)
    compared, scores = compare(protocol, photos, embedder)
    source = named_faces(listed) or detector
    return Evaluation(
        circumstances=Circumstances.of(embedder, photos, source, policy, threads, device),
        protocol=protocol,
        scores=scores,
        figures=figures_of(scores, protocol.same, protocol.folds, ties, people=PairPeople.of(protocol)),
        crops=_crops(protocol, photos, scores, pictures, detector, policy) if pictures else {},
        compared=compared,
    )


def _crops(
    protocol: PairProtocol,
    photos: Embedded,
    scores: NDArray[np.float32],
    pictures: int,
    detector: Detector,
    policy: Policy,
) -> dict[str, AlignedFaces]:
    """Aligned faces of the worst pairs by name; of a template its first photo with a face."""
    names = {name for same in (False, True) for name in worst_photos(protocol, scores, same, pictures)}
    listed: PhotoList = protocol.templates or protocol
    faces = named_faces(listed)
    first = None if protocol.templates is None else protocol.templates.first_photos(photos.acquired)
    crops = {}
    for at, name in enumerate(protocol.photos):
        if name in names:
            photo = name if first is None else first[at]
            crops[name] = align_photo(listed.read(photo), detector, policy, faces.of(photo) if faces else None)
    return crops


def failures_as_json(
    failures: Sequence[Failure], scores: NDArray[np.float32], same: NDArray[np.bool_]
) -> dict[str, Any]:
    """Photos without a face, and the genuine and impostor pairs that hold one, of scores `(P,)` and `same` `(P,)`."""
    return {
        "to_acquire": len(failures),
        "files": [failure.as_json() for failure in failures],
        "genuine_pairs": _failed(scores, same),
        "impostor_pairs": _failed(scores, ~same),
    }


def _failed(scores: NDArray[np.float32], kind: NDArray[np.bool_]) -> int:
    return int((np.isneginf(scores) & kind).sum())


def compare(protocol: PairProtocol, photos: Embedded, embedder: Embedder) -> tuple[Embedded, NDArray[np.float32]]:
    """What the pairs point to, `photos` themselves or templates made of them; and the scores of the pairs."""
    templates = protocol.templates
    if templates is None:
        return photos, score_pairs(protocol, photos, embedder)
    vectors, enrolled, detector_scores = pool(
        templates, photos.vectors, photos.acquired, photos.detector_scores, group_aware_of(embedder)
    )
    embedded = replace(photos, vectors=vectors, acquired=enrolled, detector_scores=detector_scores)
    if templates.average == "embedding":
        return embedded, score_pairs(protocol, embedded, embedder)
    first, second = protocol.first, protocol.second
    return embedded, mean_scores(templates, photos.vectors, photos.acquired, first, second, embedder)


def score_pairs(protocol: PairProtocol, embedded: Embedded, embedder: Embedder) -> NDArray[np.float32]:
    """The model's similarity of every pair, float32 `(P,)`; -inf where a photo gave no face."""
    scores = pair_scores(embedded.vectors, protocol.first, protocol.second, embedder)
    scores[~(embedded.acquired[protocol.first] & embedded.acquired[protocol.second])] = NO_FACE
    return scores


def worst_pairs(
    protocol: PairProtocol, scores: NDArray[np.float32], same: bool, count: int
) -> list[tuple[str, str, float]]:
    """The genuine pairs least alike, or the impostor pairs most alike, by name, with their scores; all with faces."""
    kind = np.flatnonzero((protocol.same == same) & ~np.isneginf(scores))
    order = kind[np.argsort(scores[kind] if same else -scores[kind], kind="stable")][:count]
    return [(protocol.photos[protocol.first[i]], protocol.photos[protocol.second[i]], float(scores[i])) for i in order]


def worst_photos(protocol: PairProtocol, scores: NDArray[np.float32], same: bool, count: int) -> list[str]:
    """Names of the photos in `worst_pairs`."""
    return [name for first, second, _ in worst_pairs(protocol, scores, same, count) for name in (first, second)]
