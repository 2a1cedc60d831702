"""Pictures of what groups hold: for each group of a GroupFace, the photos in which it is most probable.

The paper looks at its groups so (Kim et al., CVPR 2020): some are a trait one can name, most mix several.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from facespace.data.batches import Told, read_crop, sound_crops
from facespace.data.folder import People
from facespace.errors import DataError, ModelError, UsageError
from facespace.judge.sheets import grid, png
from facespace.models.card import write_atomic
from facespace.models.nets.groupface import GroupFace
from facespace.models.nets.trunks import load_trunk
from facespace.train.validate import BLOCK, tensor


@dataclass(frozen=True)
class GroupSheet:
    """One group, and the picture of it."""

    group: int
    path: Path
    share: float
    """Share of the photos whose most probable group it is."""
    probability: float
    """Mean of its probability over all photos."""
    photos: tuple[str, ...]
    """Names of those on the sheet, the most probable first, row by row."""


def load_groups(weights: Path) -> tuple[GroupFace, int]:
    """The GroupFace in a `trunk.safetensors`, and the side of its input; ModelError where it has no groups."""
    net, spec = load_trunk(weights)
    if not isinstance(net, GroupFace) or net.groups.count == 0:
        raise ModelError("this network has no groups", file=weights, hint="train one with a GroupFace recipe")
    return net, spec.size


def write_group_sheets(
    net: GroupFace,
    people: People,
    folder: Path,
    per_group: int = 36,
    *,
    size: int = 112,
    per_person: int = 1,
    told: Told = lambda done, total: None,
) -> list[GroupSheet]:
    """Write `group-00.png`, ... into `folder`, a grid of the most probable photos each, and `groups.json`.

    `per_person` bounds how often one person is on a sheet: a group of one person's photos would tell of identity, not
    of traits. `size` is the side of the net's input. Photos that are damaged are left out; DataError where all are.
    """
    if min(per_group, per_person) < 1:
        raise UsageError("a sheet without photos shows nothing", hint="per_group and per_person of 1 or more")
    positions, p = probabilities(net, people, size, told)
    names = [people.photos[position].name for position in positions]
    most = p.argmax(1)
    sheets = []
    for group in range(p.shape[1]):
        shown = _most_probable(p[:, group], people.labels[positions], per_group, per_person)
        path = folder / f"group-{group:02}.png"
        write_atomic(path, png(grid([read_crop(people, int(positions[i]), size) for i in shown])))
        photos = tuple(names[i] for i in shown)
        sheets.append(GroupSheet(group, path, float((most == group).mean()), float(p[:, group].mean()), photos))
    rows = [asdict(sheet) | {"path": sheet.path.name} for sheet in sheets]
    write_atomic(folder / "groups.json", json.dumps(rows, indent=1).encode() + b"\n")
    return sheets


def probabilities(
    net: GroupFace, people: People, size: int, told: Told
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Positions `(N,)` of the sound photos, and the probabilities of the groups float32 `(N, K)` in each."""
    device, was_training = next(net.parameters()).device, net.training
    positions, rows = list[int](), []
    net.eval()
    for sound, faces in sound_crops(people, range(len(people.photos)), size, BLOCK, told):
        with torch.inference_mode():
            rows.append(net.represent(tensor(faces, device)).logits.softmax(1).cpu().numpy())
        positions += sound
    net.train(was_training)
    if not rows:
        raise DataError("not one photo can be read", file=people.root, hint="aligned faces, person/photo.jpg")
    return np.array(positions), np.concatenate(rows)


def _most_probable(p: NDArray[np.float32], labels: NDArray[np.int64], count: int, per_person: int) -> list[int]:
    """Indices of at most `count` largest of `p` `(N,)`, the largest first, at most `per_person` of a label."""
    chosen: list[int] = []
    taken: Counter[int] = Counter()
    for i in np.argsort(-p, kind="stable").tolist():
        if taken[labels[i]] < per_person:
            chosen.append(i)
            taken[labels[i]] += 1
        if len(chosen) == count:
            break
    return chosen
