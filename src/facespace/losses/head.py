"""The margin head: class rows, cosines, scale and softmax cross-entropy around any margin."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facespace.errors import DataError, UsageError
from facespace.losses.margins import Margin, full_precision


@dataclass(frozen=True)
class HeadOutput:
    """What a loss head returns: the scalar to descend and named numbers to log."""

    loss: Tensor
    """Scalar with its graph, float32 (float64 where the embeddings are)."""
    logs: dict[str, float]
    """Figures of the batch; what the batch cannot define is left out."""


class MarginHead(nn.Module):
    """Cross-entropy over classes with a margin on the label's logit: s·T(c_y) against s·c_j.

    `weight` is `(classes, dim)`, from N(0, 0.01) as in the MXNet code of ArcFace; `bias` `(classes,)` exists for plain
    softmax only, which ignores `scale`. `margin` may be replaced between steps (one that grows during warm-up:
    `head.margin = target.grown(0.3)`), but not across the border between plain logits and cosines.
    """

    def __init__(self, classes: int, dim: int, margin: Margin, scale: float = 64.0) -> None:
        """Raises UsageError where there is no class, no dimension or no positive scale."""
        super().__init__()
        if classes < 1 or dim < 1 or not 0 < scale < math.inf:
            raise UsageError(f"no head with {classes} classes, dimension {dim}, scale {scale}", hint="all must be > 0")
        self._margin = margin
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(classes, dim).normal_(std=0.01))
        self.bias = None if margin.normalised else nn.Parameter(torch.zeros(classes))

    @property
    def margin(self) -> Margin:
        """The margin in force."""
        return self._margin

    @margin.setter
    def margin(self, margin: Margin) -> None:
        if margin.normalised != self._margin.normalised:
            raise UsageError(f"{margin} cannot follow {self._margin}", hint="make a new head for plain softmax")
        self._margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> HeadOutput:
        """Mean loss of embeddings `(N, dim)`, any float type, not normalised, with labels int64 `(N,)` in 0..classes-1.

        Computed in float32 also under autocast. Logs: `target_cosine`, `target_angle_deg` (means, to the own class) and
        `accuracy` (own class nearest, margin left out). Raises DataError for labels or shapes that do not fit.
        """
        self._check(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            features = full_precision(embeddings)
            if self._margin.normalised:
                logits = F.linear(F.normalize(features), F.normalize(self.weight))  # cosines (N, classes)
                scale = self.scale
            else:
                logits, scale = F.linear(features, self.weight, self.bias), 1.0
            loss = self._cross_entropy(logits, labels, scale)
            return HeadOutput(loss, self._logs(features, logits, labels))

    def _cross_entropy(self, logits: Tensor, labels: Tensor, scale: float) -> Tensor:
        column = labels[:, None]  # (N, 1)
        target = self._margin.target_logit(logits.gather(1, column))
        # In place: only the label's column differs, and neither factor of this product is needed by its backward.
        return F.cross_entropy((scale * logits).scatter_(1, column, scale * target), labels)

    @torch.no_grad()
    def _logs(self, features: Tensor, logits: Tensor, labels: Tensor) -> dict[str, float]:
        if self._margin.normalised:
            cosine = logits.gather(1, labels[:, None])[:, 0]  # (N,)
        else:
            cosine = F.cosine_similarity(features, self.weight[labels])
        cosine = cosine.clamp(-1, 1)  # rounding passes 1
        accuracy = (logits.argmax(1) == labels).to(cosine.dtype)
        # One transfer for all three, where the batch lives on a GPU.
        means = torch.stack([cosine, cosine.arccos().rad2deg(), accuracy]).mean(1).tolist()
        return dict(zip(("target_cosine", "target_angle_deg", "accuracy"), means, strict=True))

    def _check(self, embeddings: Tensor, labels: Tensor) -> None:
        classes, dim = self.weight.shape
        if embeddings.ndim != 2 or embeddings.shape[1] != dim or labels.shape != embeddings.shape[:1]:
            shapes = f"embeddings {tuple(embeddings.shape)} and labels {tuple(labels.shape)}"
            raise DataError(f"{shapes} do not fit a head of dimension {dim}", hint=f"give (N, {dim}) and (N,)")
        if labels.dtype != torch.int64 or labels.numel() == 0:
            raise DataError(f"labels are {labels.numel()} of {labels.dtype}", hint="give at least one int64 label")
        low, high = torch.stack(labels.aminmax()).tolist()
        if low < 0 or high >= classes:
            raise DataError(f"labels {low}..{high} leave the classes 0..{classes - 1}", hint="renumber from 0")
