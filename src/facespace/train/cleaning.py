"""Cleaning a training set by what a sub-centre training learnt of it (Deng et al., ECCV 2020, section 3.3)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from facespace.data.batches import read_crop
from facespace.data.folder import People
from facespace.errors import BadImage, DataError
from facespace.losses.subcentres import DropSettings, drop_noise
from facespace.models.nets.trunks import load_trunk
from facespace.train import validate
from facespace.train.start import CLASSES, TRUNK, names_digest, read_rows

BLOCK = 1024


@dataclass(frozen=True)
class Cleaned:
    """People without the photos that look mislabelled."""

    people: People
    dropped: tuple[str, ...]
    """Names of the photos left out."""
    digest: str
    """SHA-256 over the weights that decided."""


def cleaned(people: People, run: Path, settings: DropSettings | None = None) -> Cleaned:
    """Drop the photos far from the dominant sub-centre of their person, as a finished sub-centre run sees them.

    `people` are those that the run learnt from, under the same names. Photos that cannot be read stay: the training
    names them. Raises DataError where the run knew other people, or has no sub-centres.
    """
    trunk, spec = load_trunk(run / TRUNK)
    rows, names = read_rows(run / CLASSES)
    if rows is None or rows.ndim != 3 or names != names_digest(people):
        hint = "the run of a recipe with centres > 1, on the same data, held-out people and seed"
        raise DataError("cannot say which of these photos are mislabelled", file=run, hint=hint)
    vectors, read = [], []
    for start in range(0, len(people.photos), BLOCK):
        faces = []
        for position in range(start, min(start + BLOCK, len(people.photos))):
            try:
                faces.append(read_crop(people, position, spec.size))
            except BadImage:
                continue
            read.append(position)
        vectors += [validate.embed(trunk, np.stack(faces))] if faces else []
    positions = np.array(read)
    found = drop_noise(
        rows, torch.from_numpy(np.concatenate(vectors)), torch.from_numpy(people.labels[positions]), settings
    )
    dropped = tuple(people.photos[i].name for i in positions[~found.keep.numpy()])
    weights = (run / TRUNK).read_bytes() + (run / CLASSES).read_bytes()
    return Cleaned(people.without(frozenset(dropped)), dropped, hashlib.sha256(weights).hexdigest())
