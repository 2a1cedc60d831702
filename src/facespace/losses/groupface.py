"""GroupFace's second loss: cross-entropy of the group decision with labels that the network gives itself.

The naive label argmax p skews to few groups. The self-distributed label is the group whose probability exceeds its
expectation E[p_k] the most: argmax of ptilde_k = (p_k - E[p_k]) / K + 1 / K, whose expectation is 1 / K in every group.
E is estimated by the mean over the last batches (Kim et al., CVPR 2020, section 3.3).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

from facespace.errors import UsageError, check_choices
from facespace.losses.head import HeadOutput
from facespace.losses.margins import full_precision
from facespace.models.nets.groupface import Grouped

LabelMode = Literal["self_distributed", "naive", "none"]
"""`self_distributed`: the paper's; `naive`: argmax p; `none`: no such loss, groups learn from the embedding alone."""

Expectation = Literal["current", "previous", "ema"]
"""E[p] from the last batches with the present one among them, or without it, or as a running mean with the present
batch at 1 / window."""


@dataclass(frozen=True)
class GroupLabels:
    """Settings of the group labels and their loss; contradictions raise UsageError."""

    mode: LabelMode = "self_distributed"
    window: int = 32
    """Batches that E[p] is the mean of, or of those there are while they are fewer."""
    weight: float = 0.1
    """Weight of this loss in the sum."""
    expectation: Expectation = "current"
    after_steps: int = 0
    """Training batches in which E[p] is gathered and this loss left out: for a training without pretrained weights."""

    def __post_init__(self) -> None:
        check_choices(self, {"mode": LabelMode, "expectation": Expectation}, "group labels: ")
        if self.window < 1 or not 0 < self.weight < math.inf or self.after_steps < 0:
            raise UsageError("group labels: window >= 1, weight > 0, after_steps >= 0")


def self_distributed(p: Tensor, expectation: Tensor) -> Tensor:
    """ptilde `(N, K)` of probabilities p `(N, K)` and their expectation `(K,)`; rows sum to 1, values in 0..2/K."""
    groups = p.shape[1]
    return (p - expectation) / groups + 1 / groups


class GroupLoss(nn.Module):
    """The loss of the group decision; it has no weights. The batch means behind E[p] are buffers: a restart knows them.

    Under `torch.distributed` a batch's mean is that over all processes.
    """

    means: Tensor
    length: Tensor
    cursor: Tensor
    steps: Tensor

    def __init__(self, groups_count: int, settings: GroupLabels | None = None) -> None:
        """UsageError without a group."""
        super().__init__()
        if groups_count < 1:
            raise UsageError("labels of groups need a group", hint="groups with count > 0")
        self.settings = settings or GroupLabels()
        kept = 1 if self.settings.expectation == "ema" else self.settings.window
        self.register_buffer("means", torch.zeros(kept, groups_count))
        for name in ("length", "cursor", "steps"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    def forward(self, grouped: Grouped) -> HeadOutput:
        """Weighted mean loss of N faces; only the logits `(N, K)` are read, and a label carries no gradient.

        Logs: `group_entropy` (of the batch's mean probability, as a share of log K; absent for K = 1), `group_largest`
        (share of the faces in the largest group), `groups_used` and `group_probability` (mean of the largest p).
        """
        with torch.autocast(grouped.logits.device.type, enabled=False):
            logits = full_precision(grouped.logits)
            p = logits.detach().softmax(1)
            labels = self._labels(p)
            waiting = int(self.steps) < self.settings.after_steps
            self.steps += self.training
            loss = logits.new_zeros(())
            if self.settings.mode != "none" and not waiting:
                loss = self.settings.weight * F.cross_entropy(logits, labels)
            return HeadOutput(loss, _logs(p, labels))

    def _labels(self, p: Tensor) -> Tensor:
        """Group of each face, int64 `(N,)`; a training batch is remembered."""
        if self.settings.mode != "self_distributed":
            return p.argmax(1)
        mean = _over_processes(p.mean(0))
        expectation = self._expectation(mean)
        if self.training and bool(mean.isfinite().all()):  # a step that is left out must not stay in E
            self._remember(mean, expectation)
        return self_distributed(p, expectation).argmax(1)

    def _expectation(self, mean: Tensor) -> Tensor:
        """E[p] `(K,)` as the batch with this mean sees it."""
        known = int(self.length)
        before = self.means[:known].to(mean.dtype)
        match self.settings.expectation:
            case "previous":
                return before.mean(0) if known else torch.full_like(mean, 1 / len(mean))
            case "ema":
                return before[0].lerp(mean, 1 / self.settings.window) if known else mean
            case "current":
                dropped = before[self.cursor] if known == len(self.means) else torch.zeros_like(mean)
                return (before.sum(0) - dropped + mean) / min(known + 1, len(self.means))

    def _remember(self, mean: Tensor, expectation: Tensor) -> None:
        """Put a batch in the place of the oldest; a running mean is its own past."""
        self.means[self.cursor] = expectation if self.settings.expectation == "ema" else mean
        self.cursor.copy_((self.cursor + 1) % len(self.means))
        self.length.copy_((self.length + 1).clamp(max=len(self.means)))


def _over_processes(mean: Tensor) -> Tensor:
    """The mean over the batches of all processes, which are of equal size."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean = mean / torch.distributed.get_world_size()
    return mean


def _logs(p: Tensor, labels: Tensor) -> dict[str, float]:
    groups = p.shape[1]
    sizes, mean = torch.bincount(labels, minlength=groups), p.mean(0)
    figures = [torch.special.entr(mean).sum(), sizes.max() / len(labels), (sizes > 0).sum(), p.amax(1).mean()]
    # One transfer for all four, where the batch lives on a GPU.
    entropy, largest, used, probability = torch.stack([x.double() for x in figures]).tolist()
    logs = {"group_largest": largest, "groups_used": used, "group_probability": probability}
    return logs | ({"group_entropy": entropy / math.log(groups)} if groups > 1 else {})
