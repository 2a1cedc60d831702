"""Which names are doubtful: one person under two names, two people under one, photos under another's name.

Every threshold is read from the data's own scores (see `judge.likeness`), in this order: people who are one, people who
are two, and then, with these put right, single photos.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facespace.errors import Refused
from facespace.judge.likeness import (
    Coherences,
    Floats,
    Group,
    Ints,
    Neighbours,
    coherences,
    halves,
    likeness_of_parts,
    neighbours,
    two_parts,
)

FEWEST_PEOPLE = 10
"""With four photos or more, or there is nothing to read a threshold from."""
LEAST_PART = 3
"""Photos of the smaller of two people under one name; fewer are single photos under a wrong name."""
_UNIONS = 500  # pairs of people put together on purpose
FALSE = 0.01
"""Of second nearest people may reach a threshold."""
_SPLIT = 0.95  # of halves of a person are above it: relatives come near, and lower they would outnumber what is found
_MERGED = 0.98  # of pairs of people are below
_NEAR = 0.9  # of second nearest people are below what a photo's nearest must reach
_MOST_MERGED = 0.15  # of the people: more would be a threshold that means nothing


@dataclass(frozen=True)
class Reference:
    """Scores of the same person, `genuine`, and of different people, `impostors`, and the threshold between them."""

    genuine: Floats
    impostors: Floats
    threshold: float

    def same(self, score: float) -> float:
        """How sure a score says one person, 0..1: the genuine scores at or below it against the impostors at or above.

        0.5 where both tails are as long, near 1 where hardly an impostor comes so far.
        """
        genuine = (np.count_nonzero(self.genuine <= score) + 1) / (len(self.genuine) + 1)
        impostors = (np.count_nonzero(self.impostors >= score) + 1) / (len(self.impostors) + 1)
        return float(genuine / (genuine + impostors))

    def as_json(self) -> dict[str, Any]:
        """`{"threshold", "genuine": n, "genuine_below": share, "impostors": n, "impostors_above": share}`."""
        return {
            "threshold": self.threshold,
            "genuine": len(self.genuine),
            "genuine_below": float((self.genuine < self.threshold).mean()),
            "impostors": len(self.impostors),
            "impostors_above": float((self.impostors >= self.threshold).mean()),
        }


@dataclass(frozen=True)
class Split:
    """Two people, by label, who look like one."""

    people: tuple[int, int]
    likeness: float
    sure: float


@dataclass(frozen=True)
class Merged:
    """A person, by label, whose photos fall into two people: those of the fewer `photos`, by position.

    `other` is the label of the person they look like, if it is one.
    """

    person: int
    photos: tuple[int, ...]
    likeness: float
    sure: float
    other: int | None


@dataclass(frozen=True)
class Mislabelled:
    """A photo, by position, unlike its own person (likeness `own`) and like another (`near`), by label."""

    photo: int
    person: int
    own: float
    near: float
    sure: float


@dataclass(frozen=True)
class Doubts:
    """All doubtful names, and the scores they were judged by: of people, of two parts of a person, of photos."""

    splits: tuple[Split, ...]
    merged: tuple[Merged, ...]
    mislabelled: tuple[Mislabelled, ...]
    people: Reference
    parts: Reference
    photos: Reference
    lead: float
    """How much more a photo must be like another person than like its own,"""
    stands_out: float
    """and than like the next of the others: a blurred photo, or an infant's, is a little like many."""


def doubts(group: Group) -> Doubts:
    """Doubtful names in a group. Refused where it is too small to say what a score means."""
    if (many := int((group.counts >= 4).sum())) < FEWEST_PEOPLE:
        raise Refused(
            f"{many} people have four photos or more: names are checked from {FEWEST_PEOPLE} such people on",
            hint="the thresholds come from the scores of the data themselves; give more people",
        )
    coherence = coherences(group)
    found = neighbours(group, coherence)
    people = people_reference(found.between, halves(group, coherence), _SPLIT)
    splits = _splits(found.between, people)
    parts, merged = _merged(group, coherence)
    labels = _put_right(group.labels, splits, merged)
    if splits or merged:
        found = _with_labels(group, labels)
    owners = [frozenset(group.labels[labels == label].tolist()) for label in range(labels.max() + 1)]
    photos = photo_reference(found)
    lead = float(np.quantile(found.second, 0.99) - np.quantile(found.second, 0.01))
    stands_out = float(np.quantile(found.second - found.third, _NEAR))
    mislabelled = _mislabelled(group.labels, found, owners, photos, lead, stands_out)
    merged = tuple(
        _recognised(m, labels, owners, found.between, people.threshold)
        for m in _still_two(merged, group, {wrong.photo for wrong in mislabelled})
    )
    return Doubts(splits, merged, mislabelled, people, parts, photos, lead, stands_out)


def people_reference(
    between: NDArray[np.float32], same: Floats, found: float, false: float = FALSE, *, square: bool = True
) -> Reference:
    """Halves of one person against the second nearest other of each, by likenesses `(P, Q)` of people.

    A share `found` of the halves reaches the threshold, unless more than a share `false` of the second nearest people
    would too. A `square` is of one set with itself: its diagonal does not count.
    """
    others = between.copy()
    if square:
        np.fill_diagonal(others, -np.inf)
    second = np.partition(others, -2, axis=1)[:, -2].astype(np.float64)
    return Reference(same, second, float(max(np.quantile(same, 1 - found), np.quantile(second, 1 - false))))


def photo_reference(found: Neighbours) -> Reference:
    """Likeness of photos to their own person against that to the second nearest other, which one in ten passes."""
    return Reference(found.own[np.isfinite(found.own)], found.second, float(np.quantile(found.second, _NEAR)))


def _splits(between: NDArray[np.float32], people: Reference) -> tuple[Split, ...]:
    pairs = np.argwhere(np.triu(between, 1) >= people.threshold).tolist()
    found = [Split((a, b), score := float(between[a, b]), people.same(score)) for a, b in pairs]
    return tuple(sorted(found, key=lambda split: -split.likeness))


def _merged(group: Group, coherence: Coherences) -> tuple[Reference, tuple[Merged, ...]]:
    """People who are two. A person divided in two is compared with two people put together and divided again.

    98 of 100 such unions are below the threshold; of the people as they are, at most 15 of 100.
    """
    divided = [(positions, two_parts(likes), likes) for positions, likes in group.within()]
    scores = np.array([_divided(part, likes, coherence) for _, part, likes in divided])
    reference = _parts_reference(group, coherence, scores)
    found = []
    for person, ((positions, part, _), score) in enumerate(zip(divided, scores, strict=True)):
        if score < reference.threshold and part.sum() >= LEAST_PART:
            photos = tuple(positions[part].tolist())
            found.append(Merged(person, photos, float(score), 1 - reference.same(float(score)), None))
    return reference, tuple(sorted(found, key=lambda merged: merged.likeness))


def _divided(part: NDArray[np.bool_], likes: Floats, coherence: Coherences) -> float:
    return likeness_of_parts(likes, part, coherence) if part.any() else np.inf


def _parts_reference(group: Group, coherence: Coherences, scores: Floats) -> Reference:
    rng = np.random.default_rng(0)
    enough = np.flatnonzero(group.counts >= LEAST_PART)
    unions = []
    for _ in range(_UNIONS):
        a, b = rng.choice(enough, 2, replace=False)
        likes = group.among(np.concatenate([group.photos_of(a), group.photos_of(b)]))
        unions.append(_divided(two_parts(likes), likes, coherence))
    finite = scores[np.isfinite(scores)]
    threshold = min(np.quantile(unions, _MERGED, method="lower"), np.quantile(finite, _MOST_MERGED))
    return Reference(finite, np.array(unions), float(threshold))


def _put_right(labels: Ints, splits: Sequence[Split], merged: Sequence[Merged]) -> Ints:
    """Labels from 0 without gaps in which split people are one and merged people two."""
    right = labels.copy()
    for split in splits:
        a, b = (right[labels == person][0] for person in split.people)
        right[right == b] = a
    for number, two in enumerate(merged):
        right[list(two.photos)] = labels.max() + 1 + number
    return np.unique(right, return_inverse=True)[1].astype(np.int64)


def _still_two(merged: Sequence[Merged], group: Group, named: set[int]) -> Iterator[Merged]:
    """Those of whom both parts are people, and not photos of several others that are `named` each by itself."""
    for two in merged:
        some = set(two.photos)
        rest = set(group.photos_of(two.person).tolist()) - some
        if min(len(some - named), len(rest - named)) >= LEAST_PART:
            yield two


def _with_labels(group: Group, labels: Ints) -> Neighbours:
    """The neighbours of a group's photos, in their order, by other labels."""
    order = np.argsort(labels, kind="stable")
    again = Group(group.vectors[order], labels[order], group.similarity)
    found, back = neighbours(again, coherences(again)), np.argsort(order)
    return Neighbours(
        own=found.own[back],
        near=found.near[back],
        nearest=found.nearest[back],
        second=found.second[back],
        third=found.third[back],
        between=found.between,
    )


def _recognised(
    merged: Merged, labels: Ints, owners: Sequence[frozenset[int]], between: NDArray[np.float32], threshold: float
) -> Merged:
    """With the person whom the fewer photos show, where that is somebody else in the data."""
    row = between[labels[merged.photos[0]]].copy()
    row[[label for label, names in enumerate(owners) if merged.person in names]] = -np.inf
    best = int(row.argmax())
    other = min(owners[best]) if row[best] >= threshold else None
    return Merged(merged.person, merged.photos, merged.likeness, merged.sure, other)


def _mislabelled(
    labels: Ints,
    found: Neighbours,
    owners: Sequence[frozenset[int]],
    photos: Reference,
    lead: float,
    stands_out: float,
) -> tuple[Mislabelled, ...]:
    leads = (found.near - found.own >= lead) & (found.near - found.second >= stands_out)
    doubtful = np.flatnonzero((found.near >= photos.threshold) & leads)
    rows = []
    for i in doubtful.tolist():
        names = owners[found.nearest[i]]
        if int(labels[i]) not in names:
            near = float(found.near[i])
            rows.append(Mislabelled(i, min(names), float(found.own[i]), near, photos.same(near)))
    return tuple(sorted(rows, key=lambda row: row.own - row.near))
