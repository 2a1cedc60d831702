"""What worse photos and shorter vectors cost: FaceNet's claims on JPEG, pixels, bytes and alignment. JSON on stdout.

    python benchmarks/photos.py CROPS [--model compact] [--photos LFW --pairs pairs.txt --yunet WEIGHTS]

One model, one set of aligned crops of people (a folder, or a tar): as they are, encoded again as JPEG at qualities 90,
20 and 10, made smaller and enlarged again, and with the vectors in bytes. Differences are paired, their 95 % intervals
over 1,000 draws of people. With whole photos of LFW, a fixed crop of the centre stands against a found, aligned face.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Face, Photo, Vectors
from facespace.core.geometry import TEMPLATE
from facespace.core.quantise import from_bytes, to_bytes
from facespace.data.batches import read_crop
from facespace.data.folder import People, open_people
from facespace.faces.detect import YuNet
from facespace.judge.ablation import Measures, measure, together
from facespace.judge.environment import describe_environment
from facespace.judge.protocols import lfw
from facespace.judge.run import run as judge
from facespace.models.embedder import NetEmbedder, load

FARS = (1e-2, 1e-3)
Crop = NDArray[np.uint8]
BLOCK = 256
CENTRE = 125
"""Side of the fixed crop out of a photo of LFW, 250 pixels wide."""


def main() -> None:
    """Embed all forms of the crops and print what each costs."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("crops", type=Path)
    arguments.add_argument("--model", default="compact")
    for option in ("--photos", "--pairs", "--yunet"):
        arguments.add_argument(option, type=Path)
    asked = arguments.parse_args()
    embedder = load(asked.model, threads=1)
    people = open_people(asked.crops)
    plain = vectors_of(embedder, people, lambda crop: crop)
    baseline, _ = measure(plain, people.labels, FARS)
    forms = {name: vectors_of(embedder, people, change) for name, change in CHANGES.items()}
    forms["int8"] = from_bytes(to_bytes(plain))
    document: dict[str, Any] = {
        "model": {"name": embedder.name, "contract": embedder.contract, "dim": embedder.dim},
        "photos": len(people.photos),
        "people": len(people.names),
        "as they are": told(baseline),
        "less, paired": {name: told(less(measure(v, people.labels, FARS)[0], baseline)) for name, v in forms.items()},
    }
    if asked.photos:
        document["lfw"] = alignment(embedder, asked.photos, asked.pairs, asked.yunet)
    document["environment"] = describe_environment(1, "cpu", "aligned", "")
    sys.stdout.write(json.dumps(document, indent=1) + "\n")


def vectors_of(embedder: NetEmbedder, people: People, change: Callable[[Crop], Crop]) -> Vectors:
    """Vectors `(N, D)` of all crops after a change."""
    found = []
    for start in range(0, len(people.photos), BLOCK):
        part = range(start, min(start + BLOCK, len(people.photos)))
        found.append(embedder.embed(np.stack([change(read_crop(people, i)) for i in part])))
    return np.concatenate(found)


def encoded(quality: int) -> Callable[[Crop], Crop]:
    """The crop after one more JPEG."""

    def change(crop: Crop) -> Crop:
        _, content = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.ascontiguousarray(cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1], np.uint8)

    return change


def shrunk(side: int) -> Callable[[Crop], Crop]:
    """The crop with no more detail than so many pixels a side hold."""

    def change(crop: Crop) -> Crop:
        small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.uint8)

    return change


CHANGES = {
    "JPEG 90": encoded(90),
    "JPEG 20": encoded(20),
    "JPEG 10": encoded(10),
    "80 x 80 pixels": shrunk(80),
    "40 x 40 pixels": shrunk(40),
    "28 x 28 pixels": shrunk(28),
}


def less(one: Measures, other: Measures) -> Measures:
    """The difference, replicate by replicate."""
    return {name: one[name] - other[name] for name in one if name in other}


def told(measures: Measures) -> dict[str, Any]:
    """Value and interval of each figure."""
    figures = together([measures], least=-1.0)
    return {name: {"value": figure.value, "ci95": figure.ci95} for name, figure in figures.items()}


class Centre:
    """The face is where the middle of the photo is: landmarks of a fixed square, nothing looked for."""

    source = f"centre@{CENTRE}"

    def detect(self, photo: Photo) -> list[Face]:
        """One face, whatever the photo shows."""
        height, width = photo.shape[:2]
        corner = np.array([(width - CENTRE) / 2, (height - CENTRE) / 2])
        points = corner + TEMPLATE * (CENTRE / 112)
        box = (float(corner[0]), float(corner[1]), float(CENTRE), float(CENTRE))
        return [Face(box, 1.0, tuple((float(x), float(y)) for x, y in points), self.source)]


def alignment(embedder: NetEmbedder, photos: Path, pairs: Path, yunet: Path) -> dict[str, Any]:
    """LFW's first three folds with a fixed crop and with a found face."""
    protocol = lfw(pairs, photos, "1-3")
    found = {}
    for name, detector in (("fixed centre crop", Centre()), ("found and aligned", YuNet(yunet))):
        figures = judge(protocol, embedder, detector, threads=1).figures
        found[name] = {
            "accuracy": figures.accuracy,
            "stderr": figures.accuracy_stderr,
            "tar": [dataclasses.asdict(rate) for rate in figures.tar_at_far],
        }
    return found


if __name__ == "__main__":
    main()
