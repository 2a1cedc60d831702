"""What all auxiliary terms share: they stand beside a main loss, check what they are given, and compute in float32."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from facespace.errors import DataError, UsageError
from facespace.losses.head import HeadOutput
from facespace.losses.margins import full_precision


class Auxiliary(Protocol):
    """Settings of a term: a frozen dataclass."""

    name: ClassVar[str]
    """By which it is chosen and logged."""
    paper: ClassVar[str]
    """Where the formula comes from."""
    reads_classes: ClassVar[bool]
    """Whether the term compares with the class rows of a margin head."""

    @property
    def weight(self) -> float:
        """What the term is multiplied by before it joins the loss."""
        ...

    def module(self, classes: int, dim: int) -> "Term":
        """The term for so many classes and embeddings of length `dim`; UsageError where either is below 1."""
        ...


class Term(nn.Module, ABC):
    """One weighted term; its state, if any, is in its buffers and parameters."""

    def __init__(self, settings: Auxiliary, classes: int, dim: int) -> None:
        super().__init__()
        if classes < 1 or dim < 1:
            raise UsageError(f"no term with {classes} classes and dimension {dim}", hint="both must be > 0")
        self.name, self.weight = settings.name, settings.weight
        self.reads_classes = settings.reads_classes
        self.classes, self.dim = classes, dim

    def forward(self, embeddings: Tensor, labels: Tensor, class_rows: Tensor | None = None) -> HeadOutput:
        """The weighted term of embeddings `(N, dim)`, any float type, not normalised, and labels int64 `(N,)`.

        `class_rows` `(classes, dim)` are the rows of the margin head, for terms with `reads_classes`; others ignore
        them. Logs the unweighted value under the term's name. A batch that cannot define the term (one photo, one
        person) gives 0 with zero gradients. Raises DataError for labels or shapes that do not fit.
        """
        self._check(embeddings, labels, class_rows)
        with torch.autocast(embeddings.device.type, enabled=False):
            features = full_precision(embeddings)
            value = self.value(features, labels, None if class_rows is None else class_rows.to(features.dtype))
            return HeadOutput(self.weight * value, {self.name: float(value.detach())} | self.logs())

    @abstractmethod
    def value(self, embeddings: Tensor, labels: Tensor, rows: Tensor | None) -> Tensor:
        """The unweighted term, a scalar, of embeddings float32 or float64 and rows of the same type."""

    def logs(self) -> dict[str, float]:
        """Further figures to log."""
        return {}

    def _check(self, embeddings: Tensor, labels: Tensor, rows: Tensor | None) -> None:
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dim or labels.shape != embeddings.shape[:1]:
            shapes = f"embeddings {tuple(embeddings.shape)} and labels {tuple(labels.shape)}"
            raise DataError(
                f"{shapes} do not fit the term {self.name} of dimension {self.dim}", hint=f"give (N, {self.dim}), (N,)"
            )
        if labels.dtype != torch.int64 or labels.numel() == 0:
            raise DataError(f"labels are {labels.numel()} of {labels.dtype}", hint="give at least one int64 label")
        low, high = torch.stack(labels.aminmax()).tolist()
        if low < 0 or high >= self.classes:
            raise DataError(f"labels {low}..{high} leave the classes 0..{self.classes - 1}", hint="renumber from 0")
        if self.reads_classes and (rows is None or rows.shape != (self.classes, self.dim)):
            given = "no class rows" if rows is None else f"class rows {tuple(rows.shape)}"
            hint = f"train with a margin head whose weight is {(self.classes, self.dim)}"
            raise DataError(f"the term {self.name} was given {given}", hint=hint)


def require_positive(settings: Auxiliary, *names: str) -> None:
    """Raise UsageError unless the named settings, and the weight, are finite and above 0."""
    for name in ("weight", *names):
        if not 0 < getattr(settings, name) < math.inf:
            raise UsageError(f"{settings.name} with {name} = {getattr(settings, name)}", hint=f"give {name} > 0")
