"""The drop step of sub-centre ArcFace: which sub-centre stands for a person, and which photos are far from it.

A head with K sub-centres per class lets noisy photos gather at one of their own. After training with K = 3 the dominant
sub-centre of each class is kept, photos more than 75 degrees from it are dropped as noise, and plain ArcFace is trained
from scratch on the rest (Deng et al., Sub-center ArcFace, ECCV 2020, section 3.3).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from facespace.errors import DataError, UsageError, check_choices

Dominance = Literal["count", "mean_cosine"]
"""Which sub-centre stands for a class: the one nearest to most of its photos (the paper), or the one with the highest
mean cosine to all of them. Of equals the first."""

Boundary = Literal["kept", "dropped"]
"""A photo exactly at the cut: kept (the paper drops what is beyond), or dropped (the code asks for a larger cosine)."""

ROUNDING = 1e-12
"""Cosines this close to that of the cut are at the cut."""

_CELLS = 1 << 22  # cosines need the sub-centres of each photo's class side by side: 32 MB of them at a time


@dataclass(frozen=True)
class DropSettings:
    """How the drop step decides; contradictions raise UsageError."""

    cut_deg: float = 75.0
    """Angle to the dominant sub-centre beyond which a photo is noise, degrees in 0..180."""
    dominance: Dominance = "count"
    """Which sub-centre stands for a class."""
    boundary: Boundary = "kept"
    """What becomes of a photo exactly at the cut."""

    def __post_init__(self) -> None:
        if not 0 < self.cut_deg < 180:
            raise UsageError(f"cut_deg = {self.cut_deg} cuts nothing", hint="give degrees between 0 and 180")
        check_choices(self, {"dominance": Dominance, "boundary": Boundary})


@dataclass(frozen=True, eq=False)
class Dropped:
    """What the drop step found; tensors are on the device of the embeddings."""

    nearest: Tensor
    """Sub-centre nearest to each photo among those of its class, int64 `(N,)`."""
    dominant: Tensor
    """Dominant sub-centre of each class, int64 `(C,)`; -1 for a class without photos."""
    angle_rad: Tensor
    """Angle of each photo to the dominant sub-centre of its class, float64 `(N,)`."""
    keep: Tensor
    """Which photos stay, bool `(N,)`."""
    emptied: tuple[int, ...]
    """Classes that had photos and keep none: they leave the training with them."""


@torch.no_grad()
def drop_noise(rows: Tensor, embeddings: Tensor, labels: Tensor, settings: DropSettings | None = None) -> Dropped:
    """Decide over embeddings `(N, D)` with labels int64 `(N,)` by class rows `(C, K, D)`, all three on one device.

    Rows and embeddings are normalised here; cosines are float64. Raises DataError for shapes or labels that do not fit.
    """
    settings = settings or DropSettings()
    _check(rows, embeddings, labels)
    cosines = own_cosines(rows, embeddings, labels)
    nearest = first_largest(cosines)
    dominant = dominant_centres(cosines, nearest, labels, len(rows), settings.dominance)
    cosine = cosines.gather(1, dominant[labels][:, None])[:, 0]
    cut = math.cos(math.radians(settings.cut_deg))
    keep = cosine >= cut - ROUNDING if settings.boundary == "kept" else cosine > cut + ROUNDING
    had, kept = (torch.bincount(labels[which], minlength=len(rows)) for which in (torch.ones_like(keep), keep))
    emptied = tuple(((had > 0) & (kept == 0)).nonzero()[:, 0].tolist())
    return Dropped(nearest, dominant, cosine.clamp(-1, 1).arccos(), keep, emptied)


def own_cosines(rows: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Cosines float64 `(N, K)` of each photo to the sub-centres of its own class."""
    cosines = torch.empty(len(labels), rows.shape[1], dtype=torch.float64, device=embeddings.device)
    block = max(1, _CELLS // (rows.shape[1] * rows.shape[2]))
    for start in range(0, len(labels), block):
        part = slice(start, start + block)
        centres, faces = F.normalize(rows[labels[part]].double(), dim=2), F.normalize(embeddings[part].double())
        cosines[part] = (centres * faces[:, None]).sum(2)
    return cosines


def dominant_centres(cosines: Tensor, nearest: Tensor, labels: Tensor, classes: int, dominance: Dominance) -> Tensor:
    """The dominant sub-centre of each class, int64 `(classes,)`, -1 where it has no photo."""
    votes = F.one_hot(nearest, cosines.shape[1]).to(cosines.dtype) if dominance == "count" else cosines
    total = cosines.new_zeros(classes, cosines.shape[1]).index_add_(0, labels, votes)
    present = torch.bincount(labels, minlength=classes) > 0
    return torch.where(present, first_largest(total), -1)


def first_largest(values: Tensor) -> Tensor:
    """Position of the largest value in each row of `(N, K)`, int64 `(N,)`; of equals the first, on every device."""
    # argmax does not promise the first: count what stands before it.
    return (values == values.amax(1, keepdim=True)).cumsum(1).eq(0).sum(1)


def _check(rows: Tensor, embeddings: Tensor, labels: Tensor) -> None:
    fits = rows.ndim == 3 and embeddings.ndim == 2 and embeddings.shape[1] == rows.shape[2]
    if not fits or labels.shape != embeddings.shape[:1]:
        shapes = f"rows {tuple(rows.shape)}, embeddings {tuple(embeddings.shape)}, labels {tuple(labels.shape)}"
        raise DataError(f"{shapes} do not fit together", hint="give (C, K, D), (N, D) and (N,)")
    if labels.dtype != torch.int64 or (labels.numel() and not 0 <= labels.min() <= labels.max() < len(rows)):
        raise DataError(f"labels of {labels.dtype} leave the classes 0..{len(rows) - 1}", hint="int64, from 0")
