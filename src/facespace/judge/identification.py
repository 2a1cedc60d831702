"""The identification protocol: who of a gallery is this, or nobody? From any folder of people, with distractors.

Some photos of each person enrol it as one template, all others search. A share of the people is left out of the
gallery: all their photos search for nobody. Distractors, people of another folder, stand in the gallery and never
search (as in Kemelmacher-Shlizerman et al., "The MegaFace benchmark", CVPR 2016).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from facespace.data.folder import open_people
from facespace.errors import DataError, UsageError

Pick = Literal["first", "drawn"]
DISTRACTOR = "distractor:"
"""Begins the names of photos from the other folder."""


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
        if not 0 <= self.nonmates < 1:
            hint = "nonmates is from 0 to below 1, for somebody must be enrolled"
            raise UsageError(f"a share of {self.nonmates:g} of the people cannot stay out of the gallery", hint=hint)
        if self.photos < 1:
            raise UsageError(f"{self.photos} photos enrol nobody", hint="one or more photos of each person")
        if self.rank < 1:
            raise UsageError(f"nobody is among the first {self.rank} candidates", hint="a rank of 1 or more")
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

    @property
    def people_of_photos(self) -> tuple[str, ...]:
        """Whose each photo is `(N,)`, by name."""
        return tuple(self.names[label] for label in self.labels)

    @cached_property
    def gallery(self) -> NDArray[np.int64]:
        """The people in the gallery, by label: mates, then distractors."""
        return np.append(np.flatnonzero(self.mates), np.arange(self.own, len(self.names)))


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
