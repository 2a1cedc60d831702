"""What a recipe learns from: its heads side by side, their losses summed."""

import dataclasses

import torch
from torch import Tensor, nn

from facespace.data.batches import Batch
from facespace.losses.distillation import DistillationHead
from facespace.losses.head import HeadOutput, MarginHead
from facespace.losses.triplet import TripletHead
from facespace.train.recipe import Recipe
from facespace.train.schedule import grown


class Objective(nn.Module):
    """The heads of a recipe; its parameters are trained with the trunk and its state is in the checkpoints."""

    def __init__(self, recipe: Recipe, classes: int, teacher_dim: int | None) -> None:
        super().__init__()
        self.recipe = recipe
        dim = recipe.trunk.dim
        self.labels = self.triplet = self.teacher = None
        if recipe.labels is not None:
            self.labels = MarginHead(classes, dim, recipe.labels.margin, recipe.labels.scale)
        if recipe.triplet is not None:
            self.triplet = TripletHead(recipe.triplet)
        if recipe.teacher is not None and teacher_dim is not None:
            weights = dataclasses.asdict(recipe.teacher)
            self.teacher = DistillationHead(dim, teacher_dim, **weights)

    def forward(self, embeddings: Tensor, batch: Batch, targets: Tensor | None, progress: float) -> HeadOutput:
        """Loss and logs of embeddings `(N, D)` of a batch; `targets` are the teacher's vectors `(N, T)`."""
        labels = torch.from_numpy(batch.labels).to(embeddings.device)
        total = embeddings.new_zeros((), dtype=torch.float32)
        logs: dict[str, float] = {}
        if self.labels is not None and self.recipe.labels is not None:
            self.labels.margin = self.recipe.labels.margin.grown(grown(*self.recipe.labels.growth, progress))
            out = self.labels(embeddings, labels)
            total, logs = total + self.recipe.labels.weight * out.loss, logs | out.logs
        if self.triplet is not None:
            out = self.triplet(embeddings, labels)
            total, logs = total + out.loss, logs | out.logs
        if self.teacher is not None and targets is not None:
            out = self.teacher(embeddings, targets)
            total, logs = total + out.loss, logs | out.logs
        return HeadOutput(total, logs)
