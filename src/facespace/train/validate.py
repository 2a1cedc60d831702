"""The score by which a training chooses among its states: verification on people it never sees."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from facespace.core.verification import at_far, auc, equal_error, roc
from facespace.data.batches import read_crop, resized, sound_crops
from facespace.data.folder import People
from facespace.errors import BadImage, DataError
from facespace.models.nets.trunks import normalise

BLOCK = 64
READ = 1024
"""Photos that are in memory at a time where many are embedded."""
FAR = 0.01
PER_PERSON = 32
"""Photos of one held-out person that are looked at: pairs grow with the square, what they tell does not."""


@dataclass(frozen=True)
class HeldOut:
    """Aligned faces RGB uint8 `(N, S, S, 3)` and labels `(N,)` of people kept out of the training."""

    faces: NDArray[np.uint8]
    labels: NDArray[np.int64]


def read_held_out(people: People, size: int) -> HeldOut:
    """The sound photos of the held-out people, at most `PER_PERSON` of each.

    Raises DataError where their pairs are too few to choose among states by TAR at a FAR of 1 %.
    """
    faces: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    taken: Counter[int] = Counter()
    for position, label in enumerate(people.labels.tolist()):
        if taken[label] == PER_PERSON:
            continue
        try:
            faces.append(read_crop(people, position, size))
        except BadImage:
            continue
        labels.append(label)
        taken[label] += 1
    genuine = sum(count * (count - 1) // 2 for count in taken.values())
    impostors = len(labels) * (len(labels) - 1) // 2 - genuine
    if genuine == 0 or impostors * FAR < 1:
        message = f"{len(people.names)} held-out people give {genuine} genuine and {impostors} impostor pairs"
        raise DataError(
            f"{message}: too few to choose by", file=people.root, hint="hold out more people, or none (--held-out 0)"
        )
    return HeldOut(np.stack(faces), np.array(labels))


def embed(trunk: nn.Module, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Unit vectors float32 `(N, D)` of faces uint8 `(N, S, S, 3)`, the trunk in evaluation mode meanwhile."""
    device = next(trunk.parameters()).device
    was_training = trunk.training
    trunk.eval()
    with torch.inference_mode():
        blocks = [
            nn.functional.normalize(trunk(tensor(faces[i : i + BLOCK], device))).cpu().numpy()
            for i in range(0, len(faces), BLOCK)
        ]
    trunk.train(was_training)
    return np.concatenate(blocks)


def embed_photos(
    trunk: nn.Module, people: People, positions: NDArray[np.int64], size: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors float32 `(M, D)` of those photos at `positions` `(N,)` that are sound, and their positions `(M,)`.

    Faces have the side `size`. Where no photo is sound the vectors are `(0, 0)`.
    """
    vectors, sound = list[NDArray[np.float32]](), list[int]()
    for found, faces in sound_crops(people, positions.tolist(), size, READ):
        vectors.append(embed(trunk, faces))
        sound += found
    return np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32), np.array(sound, np.int64)


def tensor(faces: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Faces uint8 `(N, S, S, 3)` as the trunk's input, float `(N, 3, S, S)`, channels last in memory."""
    return normalise(torch.from_numpy(faces).to(device).permute(0, 3, 1, 2))


def score(trunk: nn.Module, held_out: HeldOut, side: int) -> dict[str, float]:
    """`tar_at_far_1e-2`, `eer` and `auc` over all pairs of held-out photos, at the `side` trained on just now."""
    faces = held_out.faces
    if side != faces.shape[1]:
        faces = np.stack([resized(face, side) for face in faces])
    vectors = embed(trunk, faces)
    first, second = np.triu_indices(len(vectors), 1)
    similarity = (vectors @ vectors.T)[first, second]
    curve = roc(similarity, held_out.labels[first] == held_out.labels[second])
    point = at_far(curve, FAR)
    return {"tar_at_far_1e-2": point.true_accepts / point.genuine, "eer": equal_error(curve)[0], "auc": auc(curve)}
