"""The identification protocol run: every photo searches the gallery, and the figures are drawn from that.

The threshold for a gallery of N people comes from all people, enrolled or not, as `core.galleries` has it; how well it
holds is measured on halves of them.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Detector, Embedder, Vectors
from facespace.core.galleries import Strangers
from facespace.core.identification import NOBODY, Searches, det, search
from facespace.core.similarity import GroupAware, template
from facespace.faces.detect import Policy
from facespace.judge.circumstances import Circumstances, Evaluated
from facespace.judge.embedding import Embedded, Progress, available_cores, embed_photos
from facespace.judge.groups import Decided, Differential, GroupTable, as_json, differentials
from facespace.judge.identification import IdentificationProtocol
from facespace.judge.identified import FPIRS, AtFpir, AtSize, RankK, at_fpirs, at_sizes, rank_ks
from facespace.models.flipped import group_aware_of

Floats = NDArray[np.float64]
_CELLS = 1 << 24  # comparisons behind the thresholds by N; with more, searches are drawn


@dataclass(frozen=True)
class IdentificationEvaluation(Evaluated):
    """A model judged by identification."""

    protocol: IdentificationProtocol
    searches: Searches
    closed_set: tuple[RankK, ...]
    open_set: tuple[AtFpir, ...]
    thresholds: tuple[AtSize, ...]
    groups: tuple[Differential, ...] | None
    unenrolled: tuple[str, ...]
    """People of the gallery none of whose enrolment photos gave a face."""

    def as_json(self) -> dict[str, Any]:
        """The document of `evaluate --protocol identification --json`."""
        protocol, searches = self.protocol, self.searches
        points = zip(*self.det, strict=True) if self.det else ()
        return {
            "model": self.model,
            "protocol": protocol.name,
            "enrolment": protocol.enrolment.as_json(),
            "gallery": {"people": len(protocol.gallery), "distractors": len(protocol.names) - protocol.own},
            "searches": {"mated": searches.mates.size, "non_mated": searches.tops.size},
            "closed_set": [rank.as_json() for rank in self.closed_set],
            "open_set": {
                "rank": protocol.enrolment.rank,
                "tpir_at_fpir": [point.as_json() for point in self.open_set],
                "det": [
                    {"threshold": float(t) if np.isfinite(t) else None, "fpir": float(fpir), "fnir": float(fnir)}
                    for t, fpir, fnir in points
                ],
            },
            "thresholds": [row.as_json() for row in self.thresholds],
            "groups": as_json(self.groups),
            "failures": self.failures_as_json(
                to_enrol=len(self.unenrolled), people=list(self.unenrolled), searches=self.silent
            ),
            **self.circumstances_as_json(len(protocol.names)),
        }

    @property
    def silent(self) -> int:
        """Searches without a face: they count, and return nothing."""
        return int((~self.embedded.acquired[self.protocol.searching]).sum())

    @cached_property
    def det(self) -> tuple[Floats, Floats, Floats] | None:
        """Thresholds, FPIR and FNIR of the DET curve; None unless there are mated and non-mated searches."""
        both = self.searches.mates.size and self.searches.tops.size
        return det(self.searches, self.protocol.enrolment.rank) if both else None


def run_identification(
    protocol: IdentificationProtocol,
    embedder: Embedder,
    detector: Detector,
    *,
    groups: GroupTable | None = None,
    policy: Policy = "central",
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress = lambda done, total: None,
) -> IdentificationEvaluation:
    """Judge `embedder` by identification with its own similarity; arguments as of `judge.run.run`.

    With `groups`, FNIR and FPIR are told by group at the threshold of each FPIR.
    """
    threads = threads or available_cores()
    embedded = embed_photos(protocol, embedder, detector, policy, threads, progress)
    templates, enrolled = _templates(protocol, embedded, group_aware_of(embedder))
    rank, seed = protocol.enrolment.rank, protocol.enrolment.seed
    searches = _search(protocol, embedded, templates, enrolled, embedder)
    open_set = at_fpirs(searches, FPIRS, rank, seed)
    strangers = _strangers(protocol, embedded, templates, enrolled, embedder)
    return IdentificationEvaluation(
        protocol=protocol,
        searches=searches,
        closed_set=rank_ks(searches, len(protocol.gallery)),
        open_set=open_set,
        thresholds=at_sizes(strangers, FPIRS, seed),
        groups=None if groups is None else _by_group(protocol, searches, open_set, groups),
        circumstances=Circumstances.of(embedder, embedded, detector, policy, threads, device),
        unenrolled=tuple(protocol.names[i] for i in protocol.gallery if not enrolled[i]),
    )


def _templates(
    protocol: IdentificationProtocol, embedded: Embedded, group_aware: GroupAware | None
) -> tuple[Vectors, NDArray[np.bool_]]:
    """One row per person `(people, D)`, and who has one: people without a face in any enrolment photo have not."""
    rows = np.zeros((len(protocol.names), embedded.vectors.shape[1]), np.float32)
    usable = np.flatnonzero(protocol.enrols & embedded.acquired)
    usable = usable[np.argsort(protocol.labels[usable], kind="stable")]
    people, starts = np.unique(protocol.labels[usable], return_index=True)
    for person, photos in zip(people, np.split(usable, starts)[1:], strict=True):
        rows[person] = template(embedded.vectors[photos], group_aware)
    enrolled = np.zeros(len(rows), np.bool_)
    enrolled[people] = True
    return rows, enrolled


def _search(
    protocol: IdentificationProtocol,
    embedded: Embedded,
    templates: Vectors,
    enrolled: NDArray[np.bool_],
    embedder: Embedder,
) -> Searches:
    """Every searching photo against the gallery."""
    gallery, searching = protocol.gallery, protocol.searching
    row = np.full(len(protocol.names), NOBODY)
    row[gallery] = np.arange(len(gallery))
    return search(
        templates[gallery],
        embedded.vectors[searching],
        row[protocol.labels[searching]],
        protocol.labels[searching],
        enrolled=enrolled[gallery],
        acquired=embedded.acquired[searching],
        compare=embedder.similarity,
    )


def _strangers(
    protocol: IdentificationProtocol,
    embedded: Embedded,
    templates: Vectors,
    enrolled: NDArray[np.bool_],
    embedder: Embedder,
) -> Strangers:
    """Photos of all people of the data against the templates of everybody; so many as there is room for."""
    rng = np.random.default_rng(protocol.enrolment.seed)
    mine = rng.permutation(np.flatnonzero(protocol.labels < protocol.own))[: max(1, _CELLS // len(templates))]
    scores = np.array(embedder.similarity(embedded.vectors[mine], templates), np.float32)
    scores[:, ~enrolled] = scores[~embedded.acquired[mine]] = -np.inf
    return Strangers(scores, protocol.labels[mine])


def _by_group(
    protocol: IdentificationProtocol, searches: Searches, open_set: tuple[AtFpir, ...], table: GroupTable
) -> tuple[Differential, ...]:
    mated = protocol.mates[protocol.labels[protocol.searching]]
    found: list[Differential] = []
    for threshold in (point.found.threshold for point in open_set if point.found):
        decided = []
        for error, wrong, photos in (
            ("FNIR", searches.within(protocol.enrolment.rank) < threshold, protocol.searching[mated]),
            ("FPIR", searches.tops >= threshold, protocol.searching[~mated]),
        ):
            whose = protocol.labels[photos]
            decided.append(Decided(error, wrong, photos, photos, whose, whose))
        people = [protocol.names[label] for label in protocol.labels]
        found += differentials(table, protocol.photos, people, decided, threshold)
    return tuple(found)
