"""How alike people and their photos are, freed from how much each person's own photos differ.

A person's `coherence` is the mean similarity of two of their photos. The likeness of two people is the mean similarity
of their photos over the root of the product of their coherences: near 1 for two halves of one person's photos, whether
these are sharp or blurred (Spearman's correction for attenuation, American Journal of Psychology 15, 1904). The
likeness of a photo and a person likewise, over the root of the person's coherence.

What a score means is read from the data themselves. A photo shows one person, so the second nearest of all others is
certainly somebody else: `second` is a sample of impostors that wrong names do not spoil. Halves of one person's photos,
drawn at random, are the genuine ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Vectors
from facespace.errors import Refused

Similarity = Callable[[Vectors, Vectors], NDArray[np.float32]]
"""`(Na, D), (Nb, D) -> (Na, Nb)`, symmetric; higher is more alike."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ROWS = 256
"""Photos that are compared with all others at a time."""
MOST_PEOPLE = 20_000
"""Likenesses of all pairs of people must fit the memory: 1.6 GB in single precision."""
_PRIOR_PAIRS = 5  # pairs of photos that the median coherence counts for, so that two photos alone decide nothing
_LEAST_COHERENCE = 0.25  # of the median; a folder of strangers has none of its own to divide by
_FEWEST = 4  # photos that make two halves


@dataclass(frozen=True)
class Group:
    """Photos sorted by person: unit `vectors` `(N, D)`, `labels` int64 `(N,)` rising from 0 without gaps."""

    vectors: Vectors
    labels: Ints
    similarity: Similarity

    @property
    def counts(self) -> Ints:
        """Photos of each person `(P,)`."""
        return np.bincount(self.labels)

    @property
    def starts(self) -> Ints:
        """Where each person's photos begin `(P,)`."""
        return np.cumsum(self.counts) - self.counts

    def photos_of(self, person: int) -> Ints:
        """Positions of a person's photos."""
        return np.flatnonzero(self.labels == person)

    def within(self) -> Iterator[tuple[Ints, Floats]]:
        """For each person the positions of the photos, and their similarities `(n, n)`."""
        for start, count in zip(self.starts, self.counts, strict=True):
            positions = np.arange(start, start + count)
            yield positions, self.among(positions)

    def among(self, positions: Ints) -> Floats:
        """Similarities `(n, n)` of some photos."""
        rows = self.vectors[positions]
        return self.similarity(rows, rows).astype(np.float64)


@dataclass(frozen=True)
class Coherences:
    """How alike the photos of each person are: `values` `(P,)`, and `typical`, their median."""

    values: Floats
    typical: float

    def of(self, similarities: Floats) -> float:
        """The coherence of photos with these similarities `(n, n)`; few pairs are drawn towards what is typical."""
        pairs, total = _pairs(similarities)
        drawn = (total + _PRIOR_PAIRS * self.typical) / (pairs + _PRIOR_PAIRS)
        return max(drawn, _LEAST_COHERENCE * self.typical)


def coherences(group: Group) -> Coherences:
    """The coherence of every person. Refused where photos of one person are not alike at all."""
    sums = [_pairs(similarities) for _, similarities in group.within()]
    means = [total / pairs for pairs, total in sums if pairs]
    typical = float(np.median(means)) if means else 0.0
    if typical <= 0:
        raise Refused(
            "photos under one name are no more alike than nothing: names cannot be checked",
            hint="give people with several photos each, and a model that knows such images",
        )
    start = Coherences(np.empty(0), typical)
    return Coherences(np.array([start.of(similarities) for _, similarities in group.within()]), typical)


def _pairs(similarities: Floats) -> tuple[int, float]:
    """Pairs of different photos, and the sum of their similarities."""
    count = len(similarities)
    return count * (count - 1) // 2, float(similarities.sum() - np.trace(similarities)) / 2


@dataclass(frozen=True)
class Neighbours:
    """Likeness of each photo to its own person without itself, `own` `(N,)` (NaN where it is the only one), to the
    nearest other person, `near` `(N,)`, who is `nearest` int64 `(N,)`, and to the next two, `second` and `third`.

    `between` `(P, Q)` are likenesses of people.
    """

    own: Floats
    near: Floats
    nearest: Ints
    second: Floats
    third: Floats
    between: NDArray[np.float32]


def neighbours(group: Group, coherence: Coherences) -> Neighbours:
    """Every photo compared with every other, some rows at a time. Refused for too many people, or fewer than four."""
    people, counts = len(group.counts), group.counts
    if not 4 <= people <= MOST_PEOPLE:
        raise Refused(
            f"{people:,} people: a third nearest other person needs four, and the memory allows {MOST_PEOPLE:,}",
            hint="give more people, or parts of the data one after the other",
        )
    own, near, second, third = (np.full(len(group.labels), np.nan) for _ in range(4))
    nearest = np.zeros(len(group.labels), np.int64)
    between = np.zeros((people, people))
    for rows, similarities in _blocks(group, group):
        labels, at = group.labels[rows], np.arange(len(similarities))
        sums = np.add.reduceat(similarities, group.starts, axis=1, dtype=np.float64)  # (rows, people)
        np.add.at(between, labels, sums)
        others = counts[labels] - 1
        mine = sums[at, labels] - similarities[at, np.arange(len(group.labels))[rows]]
        own[rows] = np.divide(mine, others, out=np.full(len(at), np.nan), where=others > 0)
        likeness = sums / counts / np.sqrt(coherence.values)
        likeness[at, labels] = -np.inf
        nearest[rows] = likeness.argmax(1)
        third[rows], second[rows], near[rows] = np.sort(np.partition(likeness, -3, axis=1)[:, -3:], axis=1).T
    own /= np.sqrt(coherence.values[group.labels])
    return Neighbours(own, near, nearest, second, third, _freed(between, counts, counts, coherence, coherence))


def likeness_across(a: Group, b: Group, of_a: Coherences, of_b: Coherences) -> NDArray[np.float32]:
    """Likenesses `(P, Q)` of the people of two sets."""
    between = np.zeros((len(a.counts), len(b.counts)))
    for rows, similarities in _blocks(a, b):
        np.add.at(between, a.labels[rows], np.add.reduceat(similarities, b.starts, axis=1, dtype=np.float64))
    return _freed(between, a.counts, b.counts, of_a, of_b)


def _blocks(a: Group, b: Group) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    for start in range(0, len(a.labels), ROWS):
        rows = slice(start, min(start + ROWS, len(a.labels)))
        yield rows, a.similarity(a.vectors[rows], b.vectors)


def _freed(sums: Floats, m: Ints, n: Ints, of_a: Coherences, of_b: Coherences) -> NDArray[np.float32]:
    """Sums of similarities `(P, Q)` over m and n photos as likenesses."""
    sums /= m[:, None] * n
    sums /= np.sqrt(of_a.values[:, None] * of_b.values)
    return sums.astype(np.float32)


def halves(group: Group, coherence: Coherences, seed: int = 0) -> Floats:
    """Likeness of two random halves of each person with four photos or more."""
    found = []
    for person, (_, similarities) in enumerate(group.within()):
        count = len(similarities)
        if count >= _FEWEST:
            order = np.random.default_rng((seed, person)).permutation(count)
            found.append(likeness_of_parts(similarities, order < count // 2, coherence))
    return np.array(found)


def likeness_of_parts(similarities: Floats, part: NDArray[np.bool_], coherence: Coherences) -> float:
    """Likeness of the photos in `part` bool `(n,)` and the others, by similarities `(n, n)` of all."""
    inside, outside = similarities[part][:, part], similarities[~part][:, ~part]
    mean = float(similarities[part][:, ~part].mean())
    return mean / float(np.sqrt(coherence.of(inside) * coherence.of(outside)))


def two_parts(similarities: Floats) -> NDArray[np.bool_]:
    """Photos with similarities `(n, n)` divided in two as unlike each other as can be; true `(n,)` for the smaller.

    Two means, begun at the first principal axis; none is true where they do not divide.
    """
    centred = similarities - similarities.mean(0) - similarities.mean(1)[:, None] + similarities.mean()
    part = np.linalg.eigh(centred)[1][:, -1] > 0
    for _ in range(20):
        if not 0 < part.sum() < len(part):
            return np.zeros(len(part), bool)
        moved = _towards(similarities, part) > _towards(similarities, ~part)
        if (moved == part).all():
            break
        part = moved
    return part if 2 * part.sum() <= len(part) else ~part


def _towards(similarities: Floats, part: NDArray[np.bool_]) -> Floats:
    """Cosine of each photo `(n,)` with the mean of some, up to the length of the photo's own vector."""
    length = np.sqrt(max(float(similarities[part][:, part].mean()), 1e-12))
    return np.asarray(similarities[:, part].mean(1) / length)
