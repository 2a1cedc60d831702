"""Identification as a published set lists it: templates of probes, each against one gallery or several."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Detector, Embedder, Vectors
from facespace.core.identification import Searches
from facespace.core.several import search_several
from facespace.faces.detect import Policy
from facespace.judge.circumstances import Circumstances, Evaluated
from facespace.judge.embedding import Progress, available_cores, embed_photos, named_faces
from facespace.judge.identified import FPIRS, AtFpir, RankK, at_fpirs, rank_ks
from facespace.judge.pooling import Templates, pool
from facespace.models.flipped import group_aware_of

Key = TypeVar("Key")
STRANGER = -1
"""The person of a template of which the set says only that it is nobody's who searches."""


@dataclass(frozen=True)
class Gallery:
    """Positions `rows` int64 `(G,)` of the templates that stand in a gallery, by whose name the set calls it."""

    name: str
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class GalleryProtocol:
    """Templates by `names`, whose each is (int64 `(T,)`, or STRANGER), and which of them, int64 `(P,)`, search.

    A search is mated in a gallery that holds a template of its person; in another it is a stranger's.
    """

    name: str
    templates: Templates
    names: tuple[str, ...]
    persons: NDArray[np.int64]
    probes: NDArray[np.int64]
    galleries: tuple[Gallery, ...]

    @property
    def people_of_photos(self) -> list[str]:
        """Whose each photo is, by the number of the person; a stranger's template is somebody of its own."""
        whose = [""] * len(self.templates.photos)
        for photo, template in zip(self.templates.photo.tolist(), self.templates.template.tolist(), strict=True):
            person = int(self.persons[template])
            whose[photo] = f"stranger {self.names[template]}" if person == STRANGER else str(person)
        return whose


@dataclass(frozen=True)
class Searched:
    """The figures of one gallery; none of the closed set, or of the open one, where nobody searches so.

    `unenrolled` are its templates none of whose photos gave a face.
    """

    gallery: Gallery
    searches: Searches
    closed_set: tuple[RankK, ...]
    open_set: tuple[AtFpir, ...]
    unenrolled: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """`{"name", "templates", "searches", "closed_set", "tpir_at_fpir", "to_enrol", "unenrolled"}`."""
        return {
            "name": self.gallery.name,
            "templates": len(self.gallery.rows),
            "searches": {"mated": self.searches.mates.size, "non_mated": self.searches.tops.size},
            "closed_set": [rank.as_json() for rank in self.closed_set],
            "tpir_at_fpir": [point.as_json() for point in self.open_set],
            "to_enrol": len(self.unenrolled),
            "unenrolled": list(self.unenrolled),
        }


@dataclass(frozen=True)
class MeanOfGalleries:
    """Rank-k by k and TPIR by FPIR, averaged over galleries that count alike, as the literature reports such sets.

    What is refused in one of them is left out. No interval is told: who is mated in one gallery raises the threshold of
    another.
    """

    rates: dict[int, float]
    tpirs: dict[float, float]

    @classmethod
    def of(cls, searched: Sequence[Searched]) -> "MeanOfGalleries":
        """The mean of what was found in each."""
        rates = [{rank.k: rank.share.rate for rank in one.closed_set if rank.share} for one in searched]
        tpirs = [{at.fpir: at.found.tpir.rate for at in one.open_set if at.found} for one in searched]
        return cls(_mean(rates), _mean(tpirs))

    def as_json(self) -> dict[str, Any]:
        """`{"closed_set", "tpir_at_fpir"}`, lists of `k` and `rate`, of `fpir` and `tpir`."""
        return {
            "closed_set": [{"k": k, "rate": rate} for k, rate in self.rates.items()],
            "tpir_at_fpir": [{"fpir": fpir, "tpir": tpir} for fpir, tpir in self.tpirs.items()],
        }


def _mean(figures: Sequence[dict[Key, float]]) -> dict[Key, float]:
    """Of the figures that all have."""
    return {key: float(np.mean([one[key] for one in figures])) for key in figures[0] if all(key in f for f in figures)}


@dataclass(frozen=True)
class GalleryEvaluation(Evaluated):
    """A model judged by a set's own galleries."""

    protocol: GalleryProtocol
    searched: tuple[Searched, ...]
    silent: int
    """Searches without a face: they count, and return nothing."""

    @property
    def mean(self) -> MeanOfGalleries | None:
        """Over several galleries; None where there is one."""
        return MeanOfGalleries.of(self.searched) if len(self.searched) > 1 else None

    def as_json(self) -> dict[str, Any]:
        """The document of `evaluate --json`; `mean` where there are several galleries."""
        mean = self.mean
        people = np.unique(self.protocol.persons[self.protocol.persons != STRANGER])
        return {
            "model": self.model,
            "protocol": self.protocol.name,
            "galleries": [gallery.as_json() for gallery in self.searched],
            **({"mean": mean.as_json()} if mean else {}),
            "failures": self.failures_as_json(searches=self.silent),
            **self.circumstances_as_json(people.size),
        }


def run_galleries(
    protocol: GalleryProtocol,
    embedder: Embedder,
    detector: Detector,
    *,
    policy: Policy = "central",
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress = lambda done, total: None,
) -> GalleryEvaluation:
    """Judge `embedder` by searches of every gallery with its own similarity; arguments as of `judge.run.run`."""
    threads, templates = threads or available_cores(), protocol.templates
    photos = embed_photos(templates, embedder, detector, policy, threads, progress)
    rows, enrolled, _ = pool(
        templates, photos.vectors, photos.acquired, photos.detector_scores, group_aware_of(embedder)
    )
    source = named_faces(templates) or detector
    return GalleryEvaluation(
        circumstances=Circumstances.of(embedder, photos, source, policy, threads, device),
        protocol=protocol,
        searched=tuple(_searched(protocol, gallery, rows, enrolled, embedder) for gallery in protocol.galleries),
        silent=int((~enrolled[protocol.probes]).sum()),
    )


def _searched(
    protocol: GalleryProtocol, gallery: Gallery, rows: Vectors, enrolled: NDArray[np.bool_], embedder: Embedder
) -> Searched:
    stand, probes, persons = gallery.rows, protocol.probes, protocol.persons
    searches = search_several(
        rows[stand],
        persons[stand],
        rows[probes],
        persons[probes],
        embedder.similarity,
        enrolled=enrolled[stand],
        acquired=enrolled[probes],
    )
    return Searched(
        gallery,
        searches,
        closed_set=rank_ks(searches, len(stand)) if searches.mates.size else (),
        open_set=at_fpirs(searches, FPIRS, rank=1, seed=0) if searches.tops.size else (),
        unenrolled=tuple(protocol.names[row] for row in stand if not enrolled[row]),
    )
