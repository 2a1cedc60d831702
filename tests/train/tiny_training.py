"""A training small enough for tests: a few people of coloured noise, a recipe of fifteen steps, a made-up teacher."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.data.augment import Augment
from facespace.data.sampler import Shuffled
from facespace.losses.margins import ArcFace
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.recipe import SGD, Labels, Recipe
from facespace.train.schedule import Resolution

BUSY = Augment(
    shift=0.05, zoom=0.1, turn_rad=0.1, light=0.2, colour=0.2, grey_p=0.2, blur_p=0.3, jpeg_p=0.3, erase_p=0.3
)
"""Every kind of chance that a resumed training must meet again."""

TINY = Recipe(
    "tiny",
    TrunkSpec("iresnet10-tiny", 48, 16),
    epochs=3,
    labels=Labels(ArcFace(0.3), scale=16.0, growth=(0.2, 0.7)),
    sampler=Shuffled(8),
    augment=BUSY,
    optimiser=SGD(0.05),
    warmup=0.2,
    resolutions=(Resolution(0.0, 32), Resolution(0.5, 48)),
    held_out=4,
)
"""8 people with 5 photos make 5 batches an epoch: 15 steps."""
STEPS = 15


def write_people(folder: Path, people: int = 12, photos: int = 5, side: int = 64, seed: int = 0) -> Path:
    """Folders `p00`, `p01`, ... of JPEG squares: a smooth pattern for each person, noise for each photo."""
    rng = np.random.default_rng(seed)
    for person in range(people):
        pattern = cv2.resize(rng.uniform(0, 255, (4, 4, 3)), (side, side), interpolation=cv2.INTER_CUBIC)
        (folder / f"p{person:02}").mkdir(parents=True)
        for photo in range(photos):
            pixels = np.clip(pattern + rng.normal(0, 20, pattern.shape), 0, 255).astype(np.uint8)
            assert cv2.imwrite(str(folder / f"p{person:02}" / f"{photo}.jpg"), pixels)
    return folder


class Projection:
    """An Embedder that projects coarse pixels at random, tells mirrored faces apart, and counts what it is given."""

    name, dim, contract = "projection", 12, "0123456789ab"

    def __init__(self) -> None:
        self.matrix = np.random.default_rng(7).normal(size=(7 * 7 * 3, self.dim))
        self.seen = 0

    def embed(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen += len(faces)
        coarse = faces.reshape(len(faces), 7, 16, 7, 16, 3).mean((2, 4)).reshape(len(faces), -1)  # (N, 147)
        vectors = (coarse - 127.5) @ self.matrix
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    def similarity(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        return a @ b.T


def quick_export(trunk: object, spec: object, path: Path, **_: Any) -> float:
    """In place of the ONNX export, which takes longer than all of a tiny training and has tests of its own."""
    path.write_bytes(b"not a model")
    return 0.0
