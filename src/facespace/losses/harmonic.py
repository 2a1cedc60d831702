"""FaceNet's harmonic embedding: a new model v2 whose vectors can be compared with those of an old one, v1.

Schroff et al., arXiv 1503.03832, appendix. The vectors of v1 are fixed. Triplets are mined among both versions of the
batch, so that a triplet may mix them in any way with at least one vector of v2: three of v1 would teach nothing.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facespace.errors import DataError, UsageError
from facespace.losses.head import HeadOutput
from facespace.losses.margins import full_precision
from facespace.losses.triplet import (
    Mined,
    MiningHead,
    Triplet,
    check_batch,
    measured,
    mine_among,
    mining_logs,
    pairs_of,
    squared_distances,
)


@dataclass(frozen=True)
class Harmonic:
    """Settings of a training that keeps to an older model; contradictions raise UsageError."""

    triplet: Triplet = field(default_factory=Triplet)
    """The loss and its mining."""
    freeze_share: float = 0.25
    """Share of the training, at its start, in which the new embedding layer learns alone, in 0..1 without 1.

    The paper starts v2 from a trained network with a new embedding layer, trains that layer and then all; it gives no
    share. 0: all layers learn from the beginning, as they do where there is no trained network to start from.
    """
    same_photo: bool = True
    """Whether the two versions of one photo are an anchor-positive pair too; the paper does not say."""

    def __post_init__(self) -> None:
        if not 0 <= self.freeze_share < 1:
            raise UsageError(
                f"freeze_share = {self.freeze_share} leaves nothing to train", hint="0 <= freeze_share < 1"
            )


class HarmonicHead(MiningHead):
    """Triplet loss on a batch of v2 together with what v1 made of the same photos."""

    def __init__(self, settings: Harmonic | None = None, seed: int = 0) -> None:
        """`seed` is 0 or more; UsageError otherwise."""
        harmonic = settings or Harmonic()
        super().__init__(harmonic.triplet, seed)
        self.harmonic = harmonic

    def forward(self, embeddings: Tensor, fixed: Tensor, labels: Tensor) -> HeadOutput:
        """Loss of embeddings of v2 `(N, D)`, any float type, normalised here; `fixed` `(N, D)` are the vectors of v1.

        Labels int64 `(N,)`; `fixed` gets no gradient. Counts and distances in the logs are those of `TripletHead`: the
        counts over both versions, the distances and `collapsed` of v2 alone; `d_ap_mixed` and `d_an_mixed` are the mean
        squared distances between v2 and v1. Raises DataError for unfit shapes.
        """
        check_batch(embeddings, labels)
        if fixed.shape != embeddings.shape:
            shapes = f"vectors {tuple(fixed.shape)} of v1 and {tuple(embeddings.shape)} of v2"
            raise DataError(f"{shapes} cannot be compared", hint="both versions need one dimension, photo by photo")
        with torch.autocast(embeddings.device.type, enabled=False):
            moving = F.normalize(full_precision(embeddings))
            squared = squared_distances(torch.cat([moving, F.normalize(fixed.detach().to(moving.dtype))]))
            distances = measured(squared, self.settings.metric)
            mined = mine_mixed(distances.detach(), labels, self.harmonic, self._generator())
            logs = _logs(squared.detach(), labels, mined)
            return HeadOutput(self._loss(distances, mined), logs)


@torch.no_grad()
def mine_mixed(distances: Tensor, labels: Tensor, settings: Harmonic, generator: np.random.Generator) -> Mined:
    """Choose triplets from distances `(2N, 2N)`, rows of v2 before those of v1, with labels int `(N,)` of the photos.

    Negatives come from both versions, but for pairs within v1, whose negatives are of v2. With `pairs="unordered"` the
    anchor is the earlier row, so it is of v2 where the versions differ.
    """
    n = len(labels)
    same = (labels[:, None] == labels[None, :]).repeat(2, 2)
    positives = pairs_of(same, settings.triplet)
    if not settings.same_photo:
        positives.diagonal(n).fill_(False)
        positives.diagonal(-n).fill_(False)
    old = torch.arange(2 * n, device=labels.device) >= n
    within_v1 = old[:, None] & old[None, :]
    parts = [
        mine_among(distances, positives & ~within_v1, ~same, settings.triplet, generator),
        mine_among(distances, positives & within_v1, ~same & ~within_v1, settings.triplet, generator),
    ]
    return Mined(
        parts[0].coefficients + parts[1].coefficients,
        parts[0].active + parts[1].active,
        parts[0].semihard + parts[1].semihard,
        parts[0].pairs + parts[1].pairs,
    )


def _logs(squared: Tensor, labels: Tensor, mined: Mined) -> dict[str, float]:
    n = len(labels)
    same, mixed = labels[:, None] == labels[None, :], squared[:n, n:]
    figures = torch.stack([same.sum(), (mixed * same).sum(), (mixed * ~same).sum()], 0).tolist()
    logs = mining_logs(squared[:n, :n], labels, mined)
    if n:
        logs["d_ap_mixed"] = figures[1] / figures[0]  # a photo's two versions among them
    if figures[0] < n * n:
        logs["d_an_mixed"] = figures[2] / (n * n - figures[0])
    return logs
