"""The identification protocol: who of a gallery is this, or nobody? From any folder of people, with distractors.

Some photos of each person enrol it as one template, all others search. A share of the people is left out of the
gallery: all their photos search for nobody. Distractors, people of another folder, stand in the gallery and never
search (as in Kemelmacher-Shlizerman et al., "The MegaFace benchmark", CVPR 2016).

The threshold for a gallery of N people comes from all people, enrolled or not, as `core.galleries` has it; how well it
holds is measured on halves of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Detector, Embedder, Vectors
from facespace.core.galleries import Strangers
from facespace.core.identification import NOBODY, Searches, det, search
from facespace.core.similarity import GroupAware, template
from facespace.data.folder import open_people
from facespace.errors import DataError, UsageError
from facespace.faces.detect import Policy
from facespace.judge.environment import describe_environment
from facespace.judge.groups import Differential, GroupTable, Trials, as_json, differentials
from facespace.judge.identified import FPIRS, AtFpir, AtSize, RankK, at_fpirs, at_sizes, rank_ks
from facespace.judge.run import Embedded, Failure, Progress, available_cores, embed_photos
from facespace.models.embedder import NetEmbedder
from facespace.models.flipped import Flipped

Pick = Literal["first", "drawn"]
DISTRACTOR = "distractor:"
"""Begins the names of photos from the other folder."""
_CELLS = 1 << 24  # comparisons behind the thresholds by N; with more, searches are drawn


@dataclass(frozen=True)
class Enrolment:
    """Which photos and people stand in the gallery; contradictions raise UsageError."""

    photos: int = 1
    """Photos of each person that make its template: the mean of their vectors."""
    pick: Pick = "first"
    """The first by name, or drawn by the seed."""
    nonmates: float = 0.5
    """Share of the people, drawn by the seed, who are not enrolled."""
    rank: int = 1
    """A mate counts as returned among the first so many candidates."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.photos < 1 or self.rank < 1 or not 0 <= self.nonmates < 1:
            raise UsageError(f"{self} enrols nobody", hint="photos >= 1, rank >= 1, nonmates from 0 to below 1")
        if self.pick not in get_args(Pick):
            raise UsageError(f"pick = {self.pick!r} is unknown", hint="first or drawn")

    def as_json(self) -> dict[str, Any]:
        """`{"photos", "pick", "nonmates", "seed"}`."""
        return {"photos": self.photos, "pick": self.pick, "nonmates": self.nonmates, "seed": self.seed}


@dataclass(frozen=True)
class IdentificationProtocol:
    """Photos by name with their persons: `labels` int64 `(N,)`; persons from `own` on are distractors.

    `enrols` bool `(N,)` marks photos of templates, `mates` bool `(own,)` the people of the data who are enrolled.
    """

    photos: tuple[str, ...]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    own: int
    enrols: NDArray[np.bool_]
    mates: NDArray[np.bool_]
    enrolment: Enrolment
    read: Callable[[str], bytes]
    name: str = "identification"

    @cached_property
    def searching(self) -> NDArray[np.int64]:
        """Positions of the photos that search: those of mates that enrol nobody, and all of the others."""
        mine = np.flatnonzero(self.labels < self.own)
        return mine[~(self.enrols[mine] & self.mates[self.labels[mine]])]

    @cached_property
    def gallery(self) -> NDArray[np.int64]:
        """The people in the gallery, by label: mates, then distractors."""
        return np.append(np.flatnonzero(self.mates), np.arange(self.own, len(self.names)))


@dataclass(frozen=True)
class IdentificationEvaluation:
    """A model judged by identification: figures, failures, speed and surroundings."""

    protocol: IdentificationProtocol
    searches: Searches
    closed_set: tuple[RankK, ...]
    open_set: tuple[AtFpir, ...]
    thresholds: tuple[AtSize, ...]
    groups: tuple[Differential, ...] | None
    model: dict[str, Any]
    failures: tuple[Failure, ...]
    unenrolled: tuple[str, ...]
    """People of the gallery none of whose enrolment photos gave a face."""
    digest: str
    seconds: float
    environment: dict[str, Any]

    @property
    def images_per_s(self) -> float:
        """Photos per second from bytes to vectors, all workers together."""
        return len(self.protocol.photos) / self.seconds

    def as_json(self) -> dict[str, Any]:
        """The document of `evaluate --protocol identification --json`."""
        protocol, searches = self.protocol, self.searches
        both = searches.mates.size and searches.tops.size
        points = zip(*det(searches, protocol.enrolment.rank), strict=True) if both else ()
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
            "failures": {
                "to_acquire": len(self.failures),
                "files": [failure.as_json() for failure in self.failures],
                "to_enrol": len(self.unenrolled),
                "people": list(self.unenrolled),
                "searches": self.silent,
            },
            "speed": {"images_per_s": self.images_per_s, "seconds": self.seconds},
            "data": {"digest": self.digest, "images": len(protocol.photos), "people": len(protocol.names)},
            "environment": self.environment,
        }

    @property
    def silent(self) -> int:
        """Searches without a face: they count, and return nothing."""
        failed = {failure.file for failure in self.failures}
        return sum(self.protocol.photos[i] in failed for i in self.protocol.searching)


def identification(
    data: Path, enrolment: Enrolment | None = None, distractors: Path | None = None
) -> IdentificationProtocol:
    """The protocol of a folder or tar of `person/photo.jpg`, and of another one whose people are distractors.

    Raises DataError unless two enrolled people have a photo to search with, or where a distractor bears the name of one
    of the people.
    """
    enrolment, people = enrolment or Enrolment(), open_people(data)
    rng = np.random.default_rng(enrolment.seed)
    mates = np.ones(len(people.names), np.bool_)
    mates[rng.permutation(len(mates))[: round(enrolment.nonmates * len(mates))]] = False
    enrols = _enrolling(people.labels, enrolment, rng)
    if (able := np.unique(people.labels[~enrols & mates[people.labels]]).size) < 2:
        raise DataError(
            f"{able} of {int(mates.sum())} enrolled people have a photo left to search with: two are needed",
            hint="give more photos of each person, or lower the share of those who are not enrolled",
            file=data,
        )
    photos, labels, names = [photo.name for photo in people.photos], people.labels, people.names
    read: Callable[[str], bytes] = people.read
    if distractors is not None:
        others = open_people(distractors)
        if both := sorted(set(people.names) & set(others.names)):
            raise DataError(
                f"{len(both)} of the {len(others.names)} distractors are people of the data by name, first {both[0]}",
                hint="a distractor must be nobody who searches: take them out, or rename who only shares a name",
                file=distractors,
            )
        kept = _enrolling(others.labels, enrolment, rng)
        photos += [DISTRACTOR + others.photos[i].name for i in np.flatnonzero(kept)]
        labels = np.append(labels, others.labels[kept] + len(names))
        enrols, names = np.append(enrols, np.ones(int(kept.sum()), np.bool_)), names + others.names
        read = _either(people.read, others.read)
    return IdentificationProtocol(tuple(photos), labels, names, len(people.names), enrols, mates, enrolment, read)


def _enrolling(labels: NDArray[np.int64], enrolment: Enrolment, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which photos `(N,)`, sorted by person and name, make the template of their person."""
    order = rng.permutation(len(labels)) if enrolment.pick == "drawn" else np.arange(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    place = np.arange(len(labels)) - np.repeat(counts.cumsum() - counts, counts)  # within its person
    enrols = np.zeros(len(labels), np.bool_)
    enrols[order[place < enrolment.photos]] = True
    return enrols


def _either(read: Callable[[str], bytes], other: Callable[[str], bytes]) -> Callable[[str], bytes]:
    return lambda name: other(name.removeprefix(DISTRACTOR)) if name.startswith(DISTRACTOR) else read(name)


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
    templates, enrolled = _templates(protocol, embedded, _group_aware(embedder))
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
        model={"name": embedder.name, "contract": embedder.contract, "dim": embedder.dim},
        failures=embedded.failures,
        unenrolled=tuple(protocol.names[i] for i in protocol.gallery if not enrolled[i]),
        digest=embedded.digest,
        seconds=embedded.seconds,
        environment=describe_environment(threads, device, detector.source, policy),
    )


def _group_aware(embedder: Embedder) -> GroupAware | None:
    """How vectors are averaged: in parts, where the model is group-aware."""
    net = embedder.embedder if isinstance(embedder, Flipped) else embedder
    return net.card.group_aware if isinstance(net, NetEmbedder) else None


def _templates(
    protocol: IdentificationProtocol, embedded: Embedded, group_aware: GroupAware | None
) -> tuple[Vectors, NDArray[np.bool_]]:
    """One row per person `(people, D)`, and who has one: people without a face in any enrolment photo have not."""
    rows = np.zeros((len(protocol.names), embedded.vectors.shape[1]), np.float32)
    usable = np.flatnonzero(protocol.enrols & embedded.acquired)
    usable = usable[np.argsort(protocol.labels[usable], kind="stable")]
    people, starts = np.unique(protocol.labels[usable], return_index=True)
    for person, photos in zip(people, np.split(usable, starts[1:]), strict=True):
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
        trials = []
        for error, wrong, photos in (
            ("FNIR", searches.within(protocol.enrolment.rank) < threshold, protocol.searching[mated]),
            ("FPIR", searches.tops >= threshold, protocol.searching[~mated]),
        ):
            trials.append(Trials(error, wrong, photos, photos))
        people = [protocol.names[label] for label in protocol.labels]
        found += differentials(table, protocol.photos, people, trials, threshold)
    return tuple(found)
