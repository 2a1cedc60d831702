"""TinyFace: faces of few pixels against a gallery of other photos of the same people, and of many strangers.

Cheng, Zhu and Gong, "Low-Resolution Face Recognition", ACCV 2018.
"""

import re
from pathlib import Path

import numpy as np

from facespace.data.folder import SUFFIXES
from facespace.errors import DataError
from facespace.judge.galleries import STRANGER, Gallery, GalleryProtocol
from facespace.judge.pooling import Templates
from facespace.judge.readers.files import photo_reader

PROBES, MATES, STRANGERS = "Probe", "Gallery_Match", "Gallery_Distractor"


def tinyface(data: Path) -> GalleryProtocol:
    """Every photo of `Probe` against all of `Gallery_Match` and `Gallery_Distractor`, each of which stands for itself.

    `data` is the folder `Testing_Set`, or holds it. Whose a photo is, its name says, as public code reads it: a number
    before the first underscore. The set's `.mat` files are not read. Figures are those of the closed set: a person is
    found with the first of its photos; the paper's mean average precision is left out. Raises DataError for a name
    without a number, or where folders are empty.
    """
    root = next((data / name for name in ("Testing_Set", "tinyface/Testing_Set") if (data / name).is_dir()), data)
    kinds = {kind: _photos(root, kind) for kind in (MATES, STRANGERS, PROBES)}
    photos = tuple(name for names in kinds.values() for name in names)
    persons = [STRANGER if name.startswith(f"{STRANGERS}/") else _person(root, name) for name in photos]
    gallery = len(kinds[MATES]) + len(kinds[STRANGERS])
    alone = np.arange(len(photos))
    return GalleryProtocol(
        "tinyface",
        Templates(photos, photo_reader(root), photo=alone, template=alone, media=np.zeros_like(alone)),
        names=photos,
        persons=np.array(persons, np.int64),
        probes=alone[gallery:],
        galleries=(Gallery("all", alone[:gallery]),),
    )


def _photos(root: Path, kind: str) -> list[str]:
    """The photos of a folder by name, sorted."""
    try:
        names = sorted(path.name for path in (root / kind).iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        hint = f"give the folder Testing_Set, which holds {PROBES}, {MATES} and {STRANGERS}"
        raise DataError(f"{kind} cannot be listed ({error.strerror})", file=root, hint=hint) from error
    if not names:
        raise DataError("holds no photo", file=root / kind)
    return [f"{kind}/{name}" for name in names]


def _person(root: Path, name: str) -> int:
    match = re.fullmatch(r"(\d{1,9})_.*", name.rpartition("/")[2])
    if match is None:
        raise DataError(
            "the name does not begin with a person's number and _", file=root / name, hint="such as 12_3.jpg"
        )
    return int(match[1])
