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
            raise DataError(f"{len(labels)} photos do not fill one batch of {self.batch}", hint="a smaller batch")
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
        people, counts = np.unique(labels, return_counts=True)
        grouped = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
        of = dict(zip(people.tolist(), grouped, strict=True))
        order = rng.permutation([person for person, photos in of.items() if len(photos) >= 2])
        steps = len(order) // self.people
        if steps == 0:
            raise DataError(
                f"{len(order)} people with two photos do not make a batch of {self.people}", hint="fewer people a batch"
            )
        chosen = [self._photos(of[int(person)], rng) for person in order[: steps * self.people]]
        return np.concatenate(chosen).reshape(steps, self.people * self.photos)

    def _photos(self, photos: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """K photos of one person, none twice before all came once."""
        rounds = -(-self.photos // len(photos))
        return np.concatenate([rng.permutation(photos) for _ in range(rounds)])[: self.photos]


Sampler = Shuffled | PeopleByPhotos
