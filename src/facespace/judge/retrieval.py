"""The retrieval protocol: every photo of a folder asks for its like among all others.

Made for faces and for any other images in a folder per class, such as birds or products.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Detector, Embedder
from facespace.core.intervals import Interval
from facespace.core.resampling import draw_people
from facespace.core.retrieval import Ranks, mean_over_people, rank_mates
from facespace.data.folder import open_people
from facespace.errors import DataError
from facespace.faces.detect import Policy
from facespace.judge.circumstances import Circumstances, Evaluated
from facespace.judge.embedding import Progress, available_cores, embed_photos
from facespace.judge.protocols import LabelledPhotos

KS = (1, 2, 4, 8, 10, 100, 1000)
"""As the literature reports them: 1 to 8 for birds and cars, 1 to 1,000 for products."""
REPLICATES = 2000
SEED = 0


@dataclass(frozen=True)
class RetrievalProtocol(LabelledPhotos):
    """Every photo of a folder, each to ask for its like among the others."""

    name: str = "retrieval"


@dataclass(frozen=True)
class RecallAtK:
    """The share of queries with a mate among the K nearest and its 95 % interval; or why it is refused."""

    k: int
    recall: float | None = None
    ci95: Interval | None = None
    refused: str | None = None

    def as_json(self) -> dict[str, Any]:
        """`{"k", "recall", "ci95", "refused"}`; null where refused."""
        return {"k": self.k, "recall": self.recall, "ci95": self.ci95, "refused": self.refused}


@dataclass(frozen=True)
class RetrievalEvaluation(Evaluated):
    """A model judged by retrieval."""

    protocol: RetrievalProtocol
    ranks: Ranks
    recall_at: tuple[RecallAtK, ...]
    map_at_r: float
    map_at_r_ci95: Interval

    @property
    def failed_queries(self) -> int:
        """Queries that gave no face: they count as misses."""
        return int((~self.embedded.acquired[self.ranks.queries]).sum())

    def as_json(self) -> dict[str, Any]:
        """The document of `evaluate --protocol retrieval --json`."""
        return {
            "model": self.model,
            "protocol": self.protocol.name,
            "queries": len(self.ranks.queries),
            "without_mate": self.ranks.alone,
            "recall_at": [recall.as_json() for recall in self.recall_at],
            "map_at_r": {"mean": self.map_at_r, "ci95": self.map_at_r_ci95},
            "failures": self.failures_as_json(queries=self.failed_queries),
            **self.circumstances_as_json(self.protocol.people),
        }


def retrieval(data: Path) -> RetrievalProtocol:
    """All photos of a folder or tar of `person/photo.jpg`.

    Raises DataError unless two people have two photos each: an interval draws people anew.
    """
    people = open_people(data)
    asking = int((np.bincount(people.labels) > 1).sum())
    if asking < 2:
        raise DataError(
            f"{asking} of {len(people.names)} people have two photos or more: retrieval needs two such",
            hint="give a folder per person, or per class, with two images or more in it",
            file=data,
        )
    return RetrievalProtocol.of(people)


def run_retrieval(
    protocol: RetrievalProtocol,
    embedder: Embedder,
    detector: Detector,
    *,
    policy: Policy = "central",
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress = lambda done, total: None,
) -> RetrievalEvaluation:
    """Judge `embedder` by retrieval with its own similarity; arguments as of `judge.run.run`.

    A photo without a usable face asks and finds nothing, and nobody finds it.
    """
    threads = threads or available_cores()
    embedded = embed_photos(protocol, embedder, detector, policy, threads, progress)
    ranks = rank_mates(embedded.vectors, protocol.labels, embedded.acquired, embedder.similarity)
    _, person, asked = np.unique(protocol.labels[ranks.queries], return_inverse=True, return_counts=True)
    weights = draw_people(asked, REPLICATES, np.random.default_rng(SEED))
    map_at_r, map_at_r_ci95 = mean_over_people(ranks.average_precision, person, weights)
    return RetrievalEvaluation(
        protocol=protocol,
        ranks=ranks,
        recall_at=tuple(_recall_at(k, ranks, len(protocol.photos) - 1, person, weights) for k in KS),
        map_at_r=map_at_r,
        map_at_r_ci95=map_at_r_ci95,
        circumstances=Circumstances.of(embedder, embedded, detector, policy, threads, device),
    )


def _recall_at(k: int, ranks: Ranks, others: int, person: NDArray[np.int64], weights: NDArray[np.float64]) -> RecallAtK:
    if k >= others:
        return RecallAtK(k, refused=f"the {k:,} nearest of {others:,} other photos are all of them")
    recall, ci95 = mean_over_people(ranks.found_within(k), person, weights)
    return RecallAtK(k, recall, ci95)
