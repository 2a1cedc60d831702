"""The clustering protocol: a folder of people as one heap of photos, sorted again without their names."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facespace.core.agglomeration import Linkage, Tree, cut, tree
from facespace.core.contracts import Detector, Embedder, Vectors
from facespace.core.dependence import interval_of
from facespace.core.intervals import Interval
from facespace.core.partitions import (
    Agreement,
    Table,
    adjusted_rand_index,
    bcubed,
    normalised_mutual_information,
    pairwise,
    tabulate,
)
from facespace.core.resampling import draw_people, percentile_interval
from facespace.core.scores import squared_distance
from facespace.data.folder import open_people
from facespace.errors import DataError, Refused
from facespace.faces.detect import Policy
from facespace.judge.circumstances import Circumstances, Evaluated
from facespace.judge.embedding import Progress, available_cores, embed_photos
from facespace.judge.protocols import LabelledPhotos
from facespace.models.card import OperatingPoint
from facespace.models.matching import decision_point

REPLICATES = 2000
SEED = 0
MOST_PHOTOS = 20_000
"""The matrix of all distances then takes 1.6 GB."""
STEPS = 61
"""Thresholds of the curves."""
_BLOCK = 100  # replicates at a time


@dataclass(frozen=True)
class ClusteringProtocol(LabelledPhotos):
    """All photos of a folder as one heap, to be sorted again."""

    name: str = "clustering"


class Share(NamedTuple):
    """A figure in 0..1 with its 95 % interval over people, the clusters staying as they are."""

    value: float
    ci95: Interval


@dataclass(frozen=True)
class Agreed:
    """Precision, recall and F of one measure."""

    precision: Share
    recall: Share
    f: Share

    def as_json(self) -> dict[str, Any]:
        """`{"precision", "recall", "f"}`, each `{"value", "ci95"}`."""
        return {name: share._asdict() for name, share in vars(self).items()}


@dataclass(frozen=True)
class AtThreshold:
    """What clusters would agree with at a threshold; for looking at, not for choosing one on the data it judges."""

    threshold: float
    clusters: int
    pairwise_f: float
    bcubed_f: float
    nmi: float
    ari: float


@dataclass(frozen=True)
class ClusteringEvaluation(Evaluated):
    """A model judged by clustering at one threshold, and looked at on all others."""

    protocol: ClusteringProtocol
    clusters: NDArray[np.int64]
    """Of each photo `(N,)`; a photo without a face is alone."""
    point: OperatingPoint
    """Clusters join while their similarity is at least its threshold."""
    linkage: Linkage
    pairwise: Agreed
    bcubed: Agreed
    nmi: float
    ari: float
    by_threshold: tuple[AtThreshold, ...]

    @property
    def found(self) -> int:
        """How many clusters there are."""
        return len(np.unique(self.clusters))

    def as_json(self) -> dict[str, Any]:
        """The document of `evaluate --protocol clustering --json`."""
        return {
            "model": self.model,
            "protocol": self.protocol.name,
            "threshold": self.point.threshold,
            "at": self.point.at,
            "linkage": self.linkage,
            "clusters": self.found,
            "pairwise": self.pairwise.as_json(),
            "bcubed": self.bcubed.as_json(),
            "nmi": self.nmi,
            "ari": self.ari,
            "by_threshold": [vars(row) for row in self.by_threshold],
            "failures": self.failures_as_json(),
            **self.circumstances_as_json(self.protocol.people),
        }


def clustering(data: Path) -> ClusteringProtocol:
    """All photos of a folder or tar of `person/photo.jpg`.

    Raises DataError unless two people are there, one of them with two photos, or where the photos are too many.
    """
    people = open_people(data)
    if len(people.names) < 2 or len(people.photos) == len(people.names):
        raise DataError(
            f"{len(people.photos)} photos of {len(people.names)} people leave nothing to sort",
            hint="give two people or more, one of them with two photos",
            file=data,
        )
    if len(people.photos) > MOST_PHOTOS:
        raise DataError(
            f"{len(people.photos):,} photos are more than the {MOST_PHOTOS:,} whose distances fit into memory",
            hint="give fewer people",
            file=data,
        )
    return ClusteringProtocol.of(people)


def run_clustering(
    protocol: ClusteringProtocol,
    embedder: Embedder,
    detector: Detector,
    *,
    threshold: float | None = None,
    linkage: Linkage = "average",
    policy: Policy = "central",
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress = lambda done, total: None,
) -> ClusteringEvaluation:
    """Judge `embedder` by clustering; other arguments as of `judge.run.run`.

    Clusters join while their cosine (see `core.agglomeration`) is at least `threshold`, or else that of the model's
    card. A photo without a usable face stays alone. Raises Refused for a model that does not compare by cosine.
    """
    threads = threads or available_cores()
    point = decision_point(embedder, threshold)
    embedded = embed_photos(protocol, embedder, detector, policy, threads, progress)
    _require_cosine(embedder, embedded.vectors[embedded.acquired][:2])
    joins = tree(embedded.vectors[embedded.acquired], linkage) if embedded.acquired.any() else np.empty((0, 4))
    clusters = _clusters(joins, embedded.acquired, point.threshold)
    table = tabulate(protocol.labels, clusters)
    weights = draw_people(table.of_person, REPLICATES, np.random.default_rng(SEED))
    return ClusteringEvaluation(
        protocol=protocol,
        clusters=clusters,
        point=point,
        linkage=linkage,
        pairwise=_agreed(pairwise, table, weights),
        bcubed=_agreed(bcubed, table, weights),
        nmi=normalised_mutual_information(table),
        ari=adjusted_rand_index(table),
        by_threshold=tuple(_at(joins, embedded.acquired, protocol.labels, t) for t in _thresholds(joins)),
        circumstances=Circumstances.of(embedder, embedded, detector, policy, threads, device),
    )


def _require_cosine(embedder: Embedder, two: Vectors) -> None:
    """Two vectors that were found suffice: a similarity that is none of cosine differs on the first."""
    if len(two) == 2 and np.abs(embedder.similarity(two, two) - two @ two.T).max() > 1e-3:
        raise Refused(
            f"clusters are made by cosine, and {embedder.name!r} compares otherwise",
            hint="judge it by --protocol folder or retrieval",
        )


def _clusters(joins: Tree, acquired: NDArray[np.bool_], threshold: float) -> NDArray[np.int64]:
    """Cluster of each photo `(N,)`: those with a face by the tree of them, the others each alone."""
    clusters = len(acquired) + np.arange(len(acquired))  # numbers that no cluster of faces has
    if acquired.any():
        clusters[acquired] = cut(joins, float(squared_distance(threshold)))
    return clusters


def _thresholds(joins: Tree) -> list[float]:
    """From where all faces are one cluster to where all are apart, or as apart as they get."""
    if not len(joins):
        return []
    high, low = (float(1 - distance / 2) for distance in (joins[:, 2].min(), joins[:, 2].max()))
    return [float(threshold) for threshold in np.linspace(low - 1e-6, high + 1e-6, STEPS)]


def _at(joins: Tree, acquired: NDArray[np.bool_], labels: NDArray[np.int64], threshold: float) -> AtThreshold:
    table = tabulate(labels, _clusters(joins, acquired, threshold))
    return AtThreshold(
        threshold,
        table.clusters,
        float(pairwise(table).f),
        float(bcubed(table).f),
        normalised_mutual_information(table),
        adjusted_rand_index(table),
    )


def _agreed(measure: Callable[..., Agreement], table: Table, weights: NDArray[np.float64]) -> Agreed:
    """The three shares with intervals from people drawn anew `weights` `(B, people)`."""
    blocks = [measure(table, weights[start : start + _BLOCK]) for start in range(0, len(weights), _BLOCK)]
    replicates = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
    values = map(float, measure(table))
    return Agreed(*(_share(value, drawn, table.people) for value, drawn in zip(values, replicates, strict=True)))


def _share(value: float, replicates: NDArray[np.float64], people: int) -> Share:
    """Where all replicates agree they show nothing: then the interval of one trial a person."""
    if np.ptp(replicates) < 1e-12:
        return Share(value, interval_of(value, people, people))
    return Share(value, percentile_interval(replicates))
