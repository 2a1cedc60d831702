"""The score by which a training chooses among its states: verification on people it never sees."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from facespace.core.verification import at_far, auc, equal_error, roc
from facespace.data.batches import read_crop
from facespace.data.folder import People
from facespace.errors import BadImage
from facespace.models.nets.trunks import normalise

BLOCK = 64


@dataclass(frozen=True)
class HeldOut:
    """Aligned faces RGB uint8 `(N, S, S, 3)` and labels `(N,)` of people kept out of the training."""

    faces: NDArray[np.uint8]
    labels: NDArray[np.int64]


def read_held_out(people: People, size: int) -> HeldOut:
    """All sound photos of the held-out people."""
    faces, labels = [], []
    for position, label in enumerate(people.labels):
        try:
            faces.append(read_crop(people, position, size))
        except BadImage:
            continue
        labels.append(int(label))
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


def tensor(faces: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Faces uint8 `(N, S, S, 3)` as the trunk's input, float `(N, 3, S, S)`, channels last in memory."""
    return normalise(torch.from_numpy(faces).to(device).permute(0, 3, 1, 2))


def score(trunk: nn.Module, held_out: HeldOut) -> dict[str, float]:
    """`tar_at_far_1e-2`, `eer` and `auc` over all pairs of held-out photos."""
    vectors = embed(trunk, held_out.faces)
    first, second = np.triu_indices(len(vectors), 1)
    similarity = (vectors @ vectors.T)[first, second]
    curve = roc(similarity, held_out.labels[first] == held_out.labels[second])
    point = at_far(curve, 0.01)
    return {"tar_at_far_1e-2": point.true_accepts / point.genuine, "eer": equal_error(curve)[0], "auc": auc(curve)}
