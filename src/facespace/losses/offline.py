"""Offline mining: every n steps the latest network looks at a subset of the photos, and names triplets to learn from.

Schroff et al., FaceNet, CVPR 2015, section 3.2. The triplets are chosen with vectors that are older than the steps they
serve in; batches made of them are mined again online, by the head, with the vectors of the moment.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from facespace.errors import DataError, UsageError
from facespace.losses.triplet import Triplet, measured

Hard = Literal["hardest", "semihard"]
"""The negative of a pair: the nearest of all, or the nearest with D(a,p) < D(a,n) < D(a,p) + alpha."""

Positives = Literal["all", "random", "hardest"]
"""The positives of an anchor: all photos of its person, some drawn, or the farthest alone (the paper's argmax)."""

Triplets = NDArray[np.int64]
"""Positions (anchor, positive, negative), `(T, 3)`."""

_CELLS = 1 << 23  # distances made at a time: 32 MB in float32


@dataclass(frozen=True)
class Offline:
    """Settings of offline mining; contradictions raise UsageError."""

    every_steps: int = 1000
    """Steps of the training between two minings; the paper names no number."""
    subset: int = 20_000
    """Photos that are looked at, at most: whole people, see `subset_of`."""
    hard: Hard = "semihard"
    """Which negative a pair meets."""
    positives: Positives = "random"
    """Which positives an anchor meets."""
    per_anchor: int = 4
    """Positives drawn for each anchor where they are random."""

    def __post_init__(self) -> None:
        if self.hard not in get_args(Hard) or self.positives not in get_args(Positives):
            options = f"hard: {', '.join(get_args(Hard))}; positives: {', '.join(get_args(Positives))}"
            raise UsageError(f"no mining with hard = {self.hard!r}, positives = {self.positives!r}", hint=options)
        if self.every_steps < 1 or self.subset < 3 or self.per_anchor < 1:
            raise UsageError("offline mining needs steps, photos and positives", hint="every_steps, per_anchor >= 1")


def subset_of(labels: NDArray[np.int64], settings: Offline, generator: np.random.Generator) -> NDArray[np.int64]:
    """Positions of the photos to look at, ascending: people in random order, whole, where all their photos fit."""
    taken, room = [np.zeros(0, np.int64)], settings.subset
    for photos in _people(labels, generator):
        if len(photos) <= room:
            taken.append(photos)
            room -= len(photos)
    return np.sort(np.concatenate(taken))


def _people(labels: NDArray[np.int64], generator: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """The positions of each person's photos, people in random order."""
    counts = np.unique(labels, return_counts=True)[1]
    grouped = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    return (grouped[i] for i in generator.permutation(len(counts)))


def mine_offline(
    vectors: NDArray[np.floating],
    labels: NDArray[np.int64],
    settings: Offline,
    triplet: Triplet,
    generator: np.random.Generator,
) -> Triplets:
    """Triplets with a positive loss among unit vectors `(M, D)`, float32 or float64, with labels int64 `(M,)`.

    Metric and alpha are those of `triplet`. A pair without a fitting negative gives no triplet. Anchors come person by
    person, people in random order, so that `batches_of` finds those together that share photos. Distances are made in
    blocks. Raises DataError for shapes that do not fit.
    """
    if vectors.ndim != 2 or labels.shape != vectors.shape[:1]:
        raise DataError(f"vectors {vectors.shape} and labels {labels.shape} do not fit", hint="give (M, D) and (M,)")
    anchors = [int(a) for photos in _people(labels, generator) if len(photos) > 1 for a in photos]
    found: list[Triplets] = []
    block = max(1, _CELLS // max(1, len(vectors)))
    for start in range(0, len(anchors), block):
        part = anchors[start : start + block]
        squared = torch.from_numpy(2 - 2 * vectors[part] @ vectors.T)
        for anchor, row in zip(part, measured(squared, triplet.metric).numpy(), strict=True):
            found.append(_of_anchor(anchor, row, labels == labels[anchor], settings, triplet, generator))
    return np.concatenate([np.zeros((0, 3), np.int64), *found])


def _of_anchor(
    anchor: int,
    distances: NDArray[np.floating],
    own: NDArray[np.bool_],
    settings: Offline,
    triplet: Triplet,
    generator: np.random.Generator,
) -> Triplets:
    """The triplets of one anchor from its distances `(M,)`; `own` bool `(M,)` marks the photos of its person."""
    positives = np.flatnonzero(own)
    positives = positives[positives != anchor]
    match settings.positives:
        case "random":
            positives = generator.permutation(positives)[: settings.per_anchor]
        case "hardest":
            positives = positives[[distances[positives].argmax()]]
    to_positive = distances[positives][:, None]  # (K, 1)
    others = np.where(own, np.inf, distances)[None]  # (1, M)
    allowed = others if settings.hard == "hardest" else np.where(others > to_positive, others, np.inf)
    nearest = np.broadcast_to(allowed.argmin(1), positives.shape)
    teaches = allowed.min(1) < to_positive[:, 0] + triplet.alpha  # never where none is allowed: infinite
    chosen: Triplets = np.stack([np.full_like(positives, anchor), positives, nearest], 1)[teaches]
    return chosen


def batches_of(triplets: Triplets, batch: int) -> NDArray[np.int64]:
    """Triplets packed, in their order, into batches of positions `(steps, batch)`: each is whole in one of them.

    No position comes twice in a batch. Room that is left is filled with photos of the triplets that follow, after the
    last with those of the first. Where all triplets have fewer photos than a batch there is one batch of them all; no
    triplets, no batch. Raises UsageError where no triplet fits.
    """
    if batch < 3:
        raise UsageError(f"a batch of {batch} holds no triplet", hint="batch >= 3")
    batches: list[list[int]] = []
    photos, done = triplets.ravel(), 0
    while done < len(triplets):
        held: dict[int, None] = {}  # a set that keeps its order
        while done < len(triplets) and len(more := held | dict.fromkeys(triplets[done].tolist())) <= batch:
            held, done = more, done + 1
        for i in range(len(photos)):
            if len(held) == batch:
                break
            held[int(photos[(3 * done + i) % len(photos)])] = None
        batches.append(list(held))
    return np.array(batches, np.int64).reshape(len(batches), -1 if batches else batch)
