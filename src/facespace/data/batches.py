"""Positions to batches of augmented faces: a function of (seed, epoch, step, place in the batch), never of workers."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.data.augment import Augment
from facespace.data.folder import People
from facespace.data.sampler import Batches
from facespace.errors import BadImage, DataError
from facespace.faces.photo import read_photo

BAD_SHARE = 0.01
"""More unreadable photos than this share stop the training: the data need a look."""

Told = Callable[[int, int], None]
"""Hears of progress: photos done, photos in all."""


@dataclass(frozen=True)
class Batch:
    """`faces` RGB uint8 `(N, S, S, 3)`; `labels` and `photos` (positions) int64 `(N,)`; `flipped` bool `(N,)`."""

    faces: NDArray[np.uint8]
    labels: NDArray[np.int64]
    photos: NDArray[np.int64]
    flipped: NDArray[np.bool_]


def read_crop(people: People, position: int, size: int = 112) -> NDArray[np.uint8]:
    """The aligned face at a position, RGB uint8 `(size, size, 3)`. BadImage where the file is damaged or not square."""
    name = people.photos[position].name
    face = read_photo(people.read(name), name=name)
    if face.shape[0] != face.shape[1]:
        hint = "training takes aligned faces: find and align them first"
        raise BadImage(f"{face.shape[1]} x {face.shape[0]} pixels are no aligned face", file=name, hint=hint)
    return face if face.shape[0] == size else resized(face, size)


def sound_crops(
    people: People,
    positions: Sequence[int],
    size: int = 112,
    block: int = 256,
    told: Told = lambda done, total: None,
) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
    """The aligned faces of many photos, block by block, without those that are damaged or not square.

    Yields their positions and faces uint8 `(N, size, size, 3)`, N at least 1 and at most `block`; `told` hears of each
    block when it is done with, how many photos of how many.
    """
    for start in range(0, len(positions), block):
        sound, faces = list[int](), list[NDArray[np.uint8]]()
        for position in positions[start : start + block]:
            with contextlib.suppress(BadImage):
                faces.append(read_crop(people, position, size))
                sound.append(position)
        if faces:
            yield sound, np.stack(faces)
        told(min(start + block, len(positions)), len(positions))


@dataclass
class Reader:
    """Reads batches of aligned crops, `workers` threads ahead of the training; damaged photos are listed once."""

    people: People
    augment: Augment
    seed: int
    workers: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    """Name of each damaged photo met so far, and why it was left out."""
    part: slice = field(default_factory=lambda: slice(None))
    """Places of each batch that are read, where several processes share it; chances are those of the whole batch."""

    def batches(self, plan: Batches, epoch: int, start: int, side: Callable[[int], int]) -> Iterator[Batch]:
        """Batches `start`, `start` + 1, ... of an epoch's plan, with faces of side `side(step)`."""
        if self.workers == 0:
            yield from (self.batch(plan[step], epoch, step, side(step)) for step in range(start, len(plan)))
            return
        with ThreadPoolExecutor(self.workers) as pool:
            ahead: list[Future[Batch]] = []
            for step in range(start, len(plan)):
                ahead.append(pool.submit(self.batch, plan[step], epoch, step, side(step)))
                if len(ahead) > 2 * self.workers:
                    yield ahead.pop(0).result()
            yield from (future.result() for future in ahead)

    def batch(self, positions: NDArray[np.int64], epoch: int, step: int, size: int) -> Batch:
        """One batch, or the reader's part of it; a damaged photo is missing, the others stay as they would be.

        Raises DataError where too many photos are damaged, or fewer than two of those asked for are sound.
        """
        good: list[int] = []
        faces: list[NDArray[np.uint8]] = []
        flipped: list[bool] = []
        for place in range(len(positions))[self.part]:
            position = int(positions[place])
            try:
                crop = read_crop(self.people, position)
            except BadImage as error:
                self._leave_out(position, error)
                continue
            rng = np.random.Generator(np.random.PCG64((self.seed, epoch, step, place)))
            face, mirrored = self.augment(crop, rng)
            faces.append(face if size == face.shape[0] else resized(face, size))
            good.append(position)
            flipped.append(mirrored)
        if len(good) < 2:
            raise DataError("fewer than two photos of a batch are sound", file=self.people.root, hint="a larger batch")
        chosen = np.array(good, np.int64)
        return Batch(np.stack(faces), self.people.labels[chosen], chosen, np.array(flipped))

    def _leave_out(self, position: int, error: BadImage) -> None:
        self.bad[self.people.photos[position].name] = error.message
        if len(self.bad) > max(1, BAD_SHARE * len(self.people.photos)):
            message = f"{len(self.bad)} of {len(self.people.photos)} photos cannot be trained on, such as {error}"
            raise DataError(message, file=self.people.root, hint=error.hint or "mend or remove them") from error


def resized(face: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A face at another side, RGB uint8 `(size, size, 3)`."""
    return np.asarray(cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
