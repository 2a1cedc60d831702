"""Cleaning a training set by what a sub-centre training learnt of it (Deng et al., ECCV 2020, section 3.3)."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from facespace.data.folder import People
from facespace.errors import DataError
from facespace.losses.subcentres import DropSettings, drop_noise
from facespace.models.nets.trunks import load_trunk
from facespace.train.recipe import Recipe
from facespace.train.start import CLASSES, TRUNK, read_rows
from facespace.train.validate import embed_photos


@dataclass(frozen=True)
class Cleaned:
    """People without the photos that look mislabelled."""

    people: People
    dropped: tuple[str, ...]
    """Names of the photos left out."""
    digest: str
    """SHA-256 over the weights that decided."""


def check_names(run: Path, recipe: Recipe, everyone: People) -> None:
    """DataError where a run learnt from other photos than a training of `recipe` would, or from other names for them.

    `everyone` are all people of the training, before some are held out and photos are mislabelled.
    """
    try:
        owner = json.loads((run / "run.json").read_bytes())
        theirs = owner["data"]["digest"], owner["recipe"]["mislabelled"], owner["recipe"]["seed"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"does not say what it learnt from ({error})", file=run, hint="name a run's folder") from error
    ours = everyone.digest, recipe.mislabelled, recipe.seed if recipe.mislabelled else theirs[2]
    if ours != theirs:
        hint = "the run of a recipe with centres > 1, on the same photos, with the same mislabelled share and seed"
        raise DataError("its doubts are about other photos, or about other names for these", file=run, hint=hint)


def cleaned(people: People, run: Path, settings: DropSettings) -> Cleaned:
    """Drop the photos far from the dominant sub-centre of their person, as a finished sub-centre run sees them.

    `people` are those that the run learnt from, under the same names. Photos that cannot be read stay: the training
    names them. Raises DataError where the run knew other people, has no sub-centres, or leaves fewer than two.
    """
    trunk, spec = load_trunk(run / TRUNK)
    rows, names = read_rows(run / CLASSES)
    if rows is None or rows.ndim != 3 or names != people.names:
        hint = "the run of a recipe with centres > 1, on the same data, held-out people and seed"
        raise DataError("cannot say which of these photos are mislabelled", file=run, hint=hint)
    vectors, positions = embed_photos(trunk, people, np.arange(len(people.photos)), spec.size)
    found = drop_noise(rows, torch.from_numpy(vectors), torch.from_numpy(people.labels[positions]), settings)
    dropped = tuple(people.photos[i].name for i in positions[~found.keep.numpy()])
    clean = people.without(frozenset(dropped))
    if len(clean.names) < 2:
        message = f"doubts {len(dropped)} of {len(people.photos)} photos, and leaves {len(clean.names)} people"
        raise DataError(message, file=run, hint="a run that has learnt more")
    weights = (run / TRUNK).read_bytes() + (run / CLASSES).read_bytes()
    return Cleaned(clean, dropped, hashlib.sha256(weights).hexdigest())
