"""Which photos make which batch: pure functions of (labels, seed, epoch), whole epochs at a time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facespace.errors import DataError, UsageError

Batches = NDArray[np.int64]
"""Positions of photos, `(steps, batch)`."""


@dataclass(frozen=True)
class Shuffled:
    """Every photo once an epoch, in random order; the last incomplete batch is left out."""

    batch: int = 128

    def __post_init__(self) -> None:
        if self.batch < 2:
            raise UsageError(f"a batch of {self.batch} cannot be normalised", hint="batch >= 2")

    def epoch(self, labels: NDArray[np.int64], seed: int, epoch: int) -> Batches:
        """Batches of one epoch. DataError where there are fewer photos than a batch needs."""
        steps = len(labels) // self.batch
        if steps == 0:
            hint = f"bring at least {self.batch} photos, or a recipe with a smaller batch"
            raise DataError(f"{len(labels)} photos do not fill one batch of {self.batch}", hint=hint)
        order = np.random.default_rng((seed, epoch)).permutation(len(labels))
        return order[: steps * self.batch].reshape(steps, self.batch)


@dataclass(frozen=True)
class PeopleByPhotos:
    """P people with K photos each (FaceNet section 3.2: about 40 photos per identity in a batch of 1,800).

    Every person with two photos or more appears once an epoch, but for those of a last incomplete batch; one with fewer
    than K photos gives some twice.
    """

    people: int = 32
    photos: int = 4

    def __post_init__(self) -> None:
        if self.people < 2 or self.photos < 2:
            raise UsageError("triplets need two people and two photos of each", hint="people >= 2, photos >= 2")

    @property
    def batch(self) -> int:
        """Photos in a batch."""
        return self.people * self.photos

    def epoch(self, labels: NDArray[np.int64], seed: int, epoch: int) -> Batches:
        """Batches of one epoch. DataError where too few people have two photos."""
        rng = np.random.default_rng((seed, epoch))
        of = _photos_of(labels)
        order = _people_of_batches(of, self.people, rng)
        chosen = [self._photos(of[person], rng) for person in order.ravel().tolist()]
        return np.concatenate(chosen).reshape(len(order), self.people * self.photos)

    def _photos(self, photos: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """K photos of one person, none twice before all came once."""
        rounds = -(-self.photos // len(photos))
        return np.concatenate([rng.permutation(photos) for _ in range(rounds)])[: self.photos]


@dataclass(frozen=True)
class FaceNetBatches:
    """P people with up to K photos each and random photos of other people, who serve as negatives (section 3.2).

    Every person with two photos or more is one of the P once an epoch, but for those of a last incomplete batch. No
    photo comes twice in a batch: where a person has fewer than K, more negatives are drawn, so that all batches are of
    one size, the P people first.
    """

    people: int = 40
    photos: int = 40
    negatives: int = 200
    """Random photos of people who are not among the P: with the defaults, the paper's 1,800 in a batch."""
    negatives_as_anchors: bool = False
    """Whether a negative may find a positive in its batch, and so become an anchor of triplets.

    False: at most one photo each of the other people. True: any of their photos; two of one person are a pair.
    """

    def __post_init__(self) -> None:
        if self.people < 1 or self.photos < 2 or self.negatives < 0 or self.people + self.negatives < 2:
            hint = "people >= 1, photos >= 2, negatives >= 0, and two people or a negative"
            raise UsageError("triplets need two photos of a person and one of somebody else", hint=hint)

    @property
    def batch(self) -> int:
        """Photos in a batch."""
        return self.people * self.photos + self.negatives

    def epoch(self, labels: NDArray[np.int64], seed: int, epoch: int) -> Batches:
        """Batches of one epoch. DataError where too few people have two photos, or a batch finds too few negatives."""
        rng = np.random.default_rng((seed, epoch))
        of = _photos_of(labels)
        batches = []
        for people in _people_of_batches(of, self.people, rng):
            chosen = np.concatenate([rng.permutation(of[person])[: self.photos] for person in people.tolist()])
            batches.append(np.concatenate([chosen, self._others(of, people, self.batch - len(chosen), rng)]))
        return np.stack(batches)

    def _others(
        self, of: dict[int, NDArray[np.int64]], people: NDArray[np.int64], count: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Photos of people who are not among `people`: of `count` others one each, or whichever of all."""
        chosen = set(people.tolist())
        others = [photos for person, photos in of.items() if person not in chosen]
        choices = np.concatenate(others) if self.negatives_as_anchors and others else np.arange(len(others))
        if len(choices) < count:
            what = "photos of other people" if self.negatives_as_anchors else "other people"
            hint = f"bring more {what}, or a recipe with fewer people, photos or negatives a batch"
            raise DataError(f"a batch needs {count} random negatives, there are {len(choices)} {what}", hint=hint)
        drawn: NDArray[np.int64] = rng.choice(choices, count, replace=False)
        if self.negatives_as_anchors:
            return drawn
        return np.array([rng.choice(others[i]) for i in drawn.tolist()], np.int64)


def _photos_of(labels: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """The positions of each person's photos."""
    people, counts = np.unique(labels, return_counts=True)
    grouped = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    return dict(zip(people.tolist(), grouped, strict=True))


def _people_of_batches(of: dict[int, NDArray[np.int64]], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Those with two photos or more in random order, `(steps, count)`; DataError where they do not fill one batch."""
    order = rng.permutation([person for person, photos in of.items() if len(photos) >= 2])
    steps = len(order) // count
    if steps == 0:
        hint = f"bring at least {count} people with two photos, or a recipe with fewer people a batch"
        raise DataError(f"{len(order)} people with two photos do not make a batch of {count}", hint=hint)
    return order[: steps * count].reshape(steps, count)


Sampler = Shuffled | PeopleByPhotos | FaceNetBatches
