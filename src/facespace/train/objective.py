"""What a recipe learns from: its heads side by side, their losses summed."""

import dataclasses

import torch
from torch import Tensor, nn

from facespace.data.batches import Batch
from facespace.losses.broadface import BroadFace
from facespace.losses.distillation import DistillationHead
from facespace.losses.groupface import GroupLoss
from facespace.losses.harmonic import HarmonicHead
from facespace.losses.head import HeadOutput, MarginHead
from facespace.losses.sharded import ShardedHead
from facespace.losses.triplet import TripletHead
from facespace.models.nets.groupface import Grouped
from facespace.train.recipe import Recipe
from facespace.train.schedule import grown


class Objective(nn.Module):
    """The heads of a recipe; its parameters are trained with the trunk and its state is in the checkpoints."""

    def __init__(self, recipe: Recipe, classes: int, teacher_dim: int | None, *, shards: bool = False) -> None:
        """With `shards` the class rows are spread over the processes of torch's default group."""
        super().__init__()
        self.recipe = recipe
        dim, groups = recipe.trunk.dim, recipe.trunk.groups
        self.labels = self.triplet = self.harmonic = self.teacher = self.groups = None
        if recipe.labels is not None:
            self.labels = _classifier(recipe, classes, ShardedHead if shards else MarginHead)
        if recipe.group_labels is not None and groups is not None:
            self.groups = GroupLoss(groups.count, recipe.group_labels)
        if recipe.triplet is not None:
            self.triplet = TripletHead(recipe.triplet, recipe.seed)
        if recipe.harmonic is not None:
            self.harmonic = HarmonicHead(recipe.harmonic, recipe.seed)
        if recipe.teacher is not None and teacher_dim is not None:
            weights = dataclasses.asdict(recipe.teacher)
            self.teacher = DistillationHead(dim, teacher_dim, **weights)
        self.auxiliary = nn.ModuleDict({term.name: term.module(classes, dim) for term in recipe.auxiliary})

    @property
    def margin_head(self) -> MarginHead | None:
        """The head on people, with or without a queue around it."""
        return self.labels.head if isinstance(self.labels, BroadFace) else self.labels

    def forward(
        self, embeddings: Tensor, batch: Batch, targets: Tensor | None, progress: float, grouped: Grouped | None = None
    ) -> HeadOutput:
        """Loss and logs of embeddings `(N, D)` of a batch; `targets` are the teacher's vectors `(N, T)`, `grouped` is
        what a trunk with groups says of it.
        """
        labels = torch.from_numpy(batch.labels).to(embeddings.device)
        parts: list[tuple[float, HeadOutput]] = []
        head = self.margin_head
        if self.labels is not None and head is not None and self.recipe.labels is not None:
            head.margin = self.recipe.labels.margin.grown(grown(*self.recipe.labels.growth, progress))
            parts.append((self.recipe.labels.weight, self.labels(embeddings, labels)))
        if self.groups is not None and grouped is not None:
            parts.append((1.0, self.groups(grouped)))
        if self.triplet is not None:
            parts.append((1.0, self.triplet(embeddings, labels)))
        if self.harmonic is not None:
            parts.append((1.0, self.harmonic(embeddings, targets, labels)))
        if self.teacher is not None and targets is not None:
            parts.append((1.0, self.teacher(embeddings, targets)))
        rows = None if head is None else head.weight
        parts += [(1.0, term(embeddings, labels, rows)) for term in self.auxiliary.values()]
        total = embeddings.new_zeros((), dtype=torch.float32)
        logs: dict[str, float] = {}
        for weight, out in parts:
            total, logs = total + weight * out.loss, logs | out.logs
        return HeadOutput(total, logs)


def _classifier(recipe: Recipe, classes: int, kind: type[MarginHead]) -> MarginHead | BroadFace:
    labels = recipe.labels
    assert labels is not None
    head = kind(
        classes,
        recipe.trunk.dim,
        labels.margin,
        labels.scale,
        centres=labels.centres,
        sample=labels.sample,
        learn_scale=labels.learn_scale,
        pool_others=labels.pool_others,
        seed=recipe.seed,
    )
    return head if recipe.memory is None else BroadFace(head, recipe.memory)
