"""The margin head: class rows, scale and softmax cross-entropy around any margin."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facespace.errors import DataError, UsageError
from facespace.losses.adaptive import Adaptive, AnnealedSphereFace
from facespace.losses.classes import Bend, ClassScores, Shards, class_scores, own_cosines
from facespace.losses.margins import Margin, full_precision

AnyMargin = Margin | Adaptive


@dataclass(frozen=True)
class HeadOutput:
    """What a loss head returns: the scalar to descend and named numbers to log."""

    loss: Tensor
    """Scalar with its graph, float32 (float64 where the embeddings are)."""
    logs: dict[str, float]
    """Figures of the batch; what the batch cannot define is left out."""


def check_margin(margin: AnyMargin, centres: int = 1, sample: float = 1.0, learn_scale: bool = False) -> None:
    """UsageError where a margin cannot have so many sub-centres, sampled classes, or a learned scale."""
    if centres < 1 or not 0 < sample <= 1:
        raise UsageError(f"centres = {centres}, sample = {sample}", hint="centres >= 1, 0 < sample <= 1")
    if not margin.normalised and (centres > 1 or sample < 1 or learn_scale):
        hint = "NormFace is softmax on cosines"
        raise UsageError("plain softmax has no sub-centres, no sampled classes and no scale", hint=hint)
    if isinstance(margin, AnnealedSphereFace) and learn_scale:
        raise UsageError(
            "the scale of the original SphereFace is the length of the embedding", hint="learn_scale=False"
        )


class Classifier(NamedTuple):
    """The parameters of a head, apart from it, so that gradients may be led elsewhere (BroadFace)."""

    weight: Tensor
    """Class rows `(C, D)`, or `(C, K, D)` with sub-centres."""
    bias: Tensor | None
    """`(C,)`, plain softmax only."""
    log_scale: Tensor | None
    """Logarithm of a learned scale."""

    def detached(self) -> "Classifier":
        """The same numbers, which nothing can teach."""
        bias, log_scale = (None if part is None else part.detach() for part in self[1:])
        return Classifier(self.weight.detach(), bias, log_scale)


class PhotoLosses(NamedTuple):
    """What a head says of each photo."""

    losses: Tensor
    """`(N,)`."""
    scores: ClassScores


class MarginHead(nn.Module):
    """Cross-entropy over classes with a margin on the label's logit: s·T(c_y) against s·c_j.

    `weight` is `(classes, dim)`, from N(0, 0.01) as in the MXNet code of ArcFace; with `centres` K > 1 it is `(classes,
    K, dim)` and the nearest sub-centre speaks for its class (Deng et al., Sub-center ArcFace, ECCV 2020, eq. 3). `bias`
    `(classes,)` exists for plain softmax only, which ignores `scale`. `sample` < 1 judges each training batch against
    its own classes and a random choice of others, that share of all in total (Partial FC, CVPR 2022): choices come from
    (seed, number of steps), and the number is in the state. `learn_scale` makes s a parameter (NormFace). With
    `pool_others=False` all sub-centres of the other classes stand in the softmax, not their nearest alone.

    `margin` may be replaced between steps (one that grows during warm-up: `head.margin = target.grown(0.3)`), but not
    by one of another nature. `shards`, where set, makes the head one slice of the classes (see `losses.sharded`).
    """

    steps: Tensor
    judged: Tensor
    """Where classes are sampled, those that batches were judged against since this was cleared, bool `(classes,)`; not
    in the state (see `losses.unsampled`)."""

    def __init__(
        self,
        classes: int,
        dim: int,
        margin: AnyMargin,
        scale: float = 64.0,
        *,
        centres: int = 1,
        sample: float = 1.0,
        learn_scale: bool = False,
        pool_others: bool = True,
        seed: int = 0,
    ) -> None:
        """Raises UsageError where there is no class, no dimension or no positive scale, and for contradictions."""
        super().__init__()
        if classes < 1 or dim < 1 or centres < 1 or not 0 < scale < math.inf:
            hint = "all must be > 0"
            raise UsageError(f"no head with {classes} classes of {centres}, dimension {dim}, scale {scale}", hint=hint)
        if seed < 0:
            raise UsageError(f"seed = {seed} is negative", hint="give 0 or more")
        check_margin(margin, centres, sample, learn_scale)
        self._margin = margin
        self.sample, self.pool_others, self.seed = sample, pool_others, seed
        shape = (classes, dim) if centres == 1 else (classes, centres, dim)
        self.weight = nn.Parameter(torch.empty(shape).normal_(std=0.01))
        self.bias = None if margin.normalised else nn.Parameter(torch.zeros(classes))
        self.fixed_scale = scale
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale))) if learn_scale else None
        self.shards: Shards | None = None
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64) if sample < 1 else None)
        judged = torch.zeros(classes, dtype=torch.bool) if sample < 1 else None
        self.register_buffer("judged", judged, persistent=False)
        for name, start in (margin.memory if isinstance(margin, Adaptive) else {}).items():
            self.register_buffer(f"memory_{name}", torch.tensor(start))

    @property
    def margin(self) -> AnyMargin:
        """The margin in force."""
        return self._margin

    @margin.setter
    def margin(self, margin: AnyMargin) -> None:
        plain = not isinstance(margin, Adaptive) and not isinstance(self._margin, Adaptive)
        if margin.normalised != self._margin.normalised or not (plain or type(margin) is type(self._margin)):
            raise UsageError(f"{margin} cannot follow {self._margin}", hint="make a new head")
        self._margin = margin

    @property
    def classifier(self) -> Classifier:
        """The parameters."""
        return Classifier(self.weight, self.bias, self.log_scale)

    @property
    def centres(self) -> int:
        """Sub-centres of a class."""
        return 1 if self.weight.ndim == 2 else self.weight.shape[1]

    @property
    def scale(self) -> float:
        """The scale in force."""
        return self.fixed_scale if self.log_scale is None else float(self.log_scale.detach().exp())

    @property
    def memory(self) -> dict[str, Tensor]:
        """What an adaptive margin remembers."""
        return {name[7:]: value for name, value in self.named_buffers() if name.startswith("memory_")}

    def forward(self, embeddings: Tensor, labels: Tensor) -> HeadOutput:
        """Mean loss of embeddings `(N, dim)`, any float type, not normalised, with labels int64 `(N,)` in 0..classes-1.

        Computed in float32 also under autocast. Logs: `target_cosine`, `target_angle_deg` (means, to the own class) and
        `accuracy` (own class nearest, margin left out). Raises DataError for labels or shapes that do not fit.
        """
        self.check(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            features = full_precision(embeddings)
            self.remember(features, labels)
            rows, part = labels, self.classifier
            if self.sample < 1 and self.training:
                chosen, rows = self._sampled(labels)
                self.judged[chosen] = True
                part = part._replace(weight=part.weight[chosen])
            photos = self.photo_losses(features, rows, part)
            loss = photos.losses.mean() + self.penalty(features)
            return HeadOutput(loss, self.logs(features, labels, photos.scores))

    def photo_losses(self, features: Tensor, labels: Tensor, part: Classifier) -> PhotoLosses:
        """The loss of each photo against the class rows in `part`, of which `labels` are positions; nothing checked."""
        margin = self._margin
        norms = torch.linalg.vector_norm(features, dim=1)  # (N,)
        scale = features.new_ones(()) if part.log_scale is None else part.log_scale.exp()
        if part.log_scale is None and margin.normalised:
            scale = features.new_full((), self.fixed_scale)
        scales, bend = scale.expand_as(norms), None
        if isinstance(margin, Adaptive):
            scales, bend = margin.scales(scale, norms), self._bend(margin)
        unit = margin.normalised
        scores = class_scores(
            F.normalize(features) if unit else features,
            part.weight,
            labels,
            scales,
            bias=part.bias,
            unit=unit,
            bend=bend,
            shards=self.shards,
            pooled=self.pool_others,
        )
        if isinstance(margin, Adaptive):
            target = margin.target_logit(scores.target, norms, self.memory)
        else:
            target = margin.target_logit(scores.target)
        return PhotoLosses(-F.logsigmoid(scales * target - scores.rest), scores)

    def penalty(self, features: Tensor) -> Tensor:
        """What the margin adds to the loss for the norms of the embeddings; 0 for most."""
        if isinstance(self._margin, Adaptive):
            term = self._margin.penalty(torch.linalg.vector_norm(features, dim=1))
            if term is not None:
                return term
        return features.new_zeros(())

    @torch.no_grad()
    def remember(self, features: Tensor, labels: Tensor) -> None:
        """Let an adaptive margin see a training batch before it is judged."""
        margin = self._margin
        if not (self.training and isinstance(margin, Adaptive) and margin.memory):
            return
        cosines = own_cosines(F.normalize(features), self.weight, labels, self.shards)
        seen = margin.updated(cosines, torch.linalg.vector_norm(features, dim=1), self.memory)
        sound = features.isfinite().all()  # one batch that is not finite must not spoil all that follow
        for name, value in self.memory.items():
            value.copy_(torch.where(sound & seen[name].isfinite(), seen[name], value))

    def _bend(self, margin: Adaptive) -> Bend | None:
        if not margin.bends:
            return None
        memory = {name: value.clone() for name, value in self.memory.items()}  # the backward pass reads it again
        return lambda cosines, target: margin.others(cosines, target, memory)

    @torch.no_grad()
    def _sampled(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Classes of this step, ascending int64 `(S,)`, all of the batch among them; the labels as positions in it."""
        own = torch.unique(labels)
        classes = len(self.weight)
        wanted = max(0, round(self.sample * classes) - len(own))
        generator = np.random.default_rng([self.seed, int(self.steps)])
        self.steps += 1
        free = torch.ones(classes, dtype=torch.bool, device=labels.device)
        free[own] = False
        others = free.nonzero()[:, 0]
        drawn = torch.from_numpy(generator.choice(len(others), wanted, replace=False)).to(labels.device)
        chosen = torch.cat([own, others[drawn]]).sort().values
        return chosen, torch.searchsorted(chosen, labels)

    @torch.no_grad()
    def logs(self, features: Tensor, labels: Tensor, scores: ClassScores) -> dict[str, float]:
        """The figures of a batch."""
        cosine = scores.target
        if not self._margin.normalised:
            cosine = F.cosine_similarity(features, self.weight[labels])
        cosine = cosine.clamp(-1, 1)  # rounding passes 1
        accuracy = (scores.target > scores.nearest).to(cosine.dtype)
        # One transfer for all three, where the batch lives on a GPU.
        means = torch.stack([cosine, cosine.arccos().rad2deg(), accuracy]).mean(1).tolist()
        return dict(zip(("target_cosine", "target_angle_deg", "accuracy"), means, strict=True))

    def check(self, embeddings: Tensor, labels: Tensor) -> None:
        """DataError unless embeddings are `(N, dim)` and labels int64 `(N,)` of the classes, N > 0."""
        classes, dim = len(self.weight), self.weight.shape[-1]
        if embeddings.ndim != 2 or embeddings.shape[1] != dim or labels.shape != embeddings.shape[:1]:
            shapes = f"embeddings {tuple(embeddings.shape)} and labels {tuple(labels.shape)}"
            raise DataError(f"{shapes} do not fit a head of dimension {dim}", hint=f"give (N, {dim}) and (N,)")
        if labels.dtype != torch.int64 or labels.numel() == 0:
            raise DataError(f"labels are {labels.numel()} of {labels.dtype}", hint="give at least one int64 label")
        low, high = torch.stack(labels.aminmax()).tolist()
        if low < 0 or high >= classes:
            raise DataError(f"labels {low}..{high} leave the classes 0..{classes - 1}", hint="renumber from 0")
