"""Whose the two photos of each pair are: as the data say, or as far as genuine pairs tell."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


class Pairs(Protocol):
    """What a list of pairs says of its people: `PairProtocol`, and what is left of one."""

    @property
    def photos(self) -> tuple[str, ...]:
        """Names `(N,)`."""
        ...

    @property
    def labels(self) -> Ids | None:
        """Whose each photo is `(N,)`; None where the data name nobody."""
        ...

    @property
    def first(self) -> Ids:
        """Positions of photos `(P,)`."""
        ...

    @property
    def second(self) -> Ids:
        """Positions of photos `(P,)`."""
        ...

    @property
    def same(self) -> NDArray[np.bool_]:
        """Which pairs `(P,)` are genuine."""
        ...


@dataclass(frozen=True)
class PairPeople:
    """The people of each pair, int64 `(P,)`, and whether the data name them."""

    a: Ids
    b: Ids
    named: bool

    @classmethod
    def of(cls, pairs: Pairs) -> "PairPeople":
        """By the labels; without them photos of a genuine pair are one person's, and others count as of two people."""
        named = pairs.labels
        labels = (
            _joined(len(pairs.photos), pairs.first[pairs.same], pairs.second[pairs.same]) if named is None else named
        )
        return cls(labels[pairs.first], labels[pairs.second], named is not None)

    @property
    def count(self) -> int:
        """How many people are in the pairs."""
        return np.unique(np.concatenate((self.a, self.b))).size


def _joined(photos: int, first: Ids, second: Ids) -> Ids:
    """Numbers of the groups `(N,)` into which couples of photos `first` and `second` `(G,)` join all of them."""
    root = list(range(photos))

    def find(photo: int) -> int:
        while root[photo] != photo:
            root[photo] = root[root[photo]]
            photo = root[photo]
        return photo

    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        root[find(a)] = find(b)
    return np.unique([find(photo) for photo in range(photos)], return_inverse=True)[1].astype(np.int64)
