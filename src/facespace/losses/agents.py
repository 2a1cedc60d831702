"""Auxiliary terms against class rows: the angular baselines of the ArcFace paper, the agents of NormFace.

Embeddings and class rows are normalised here; their gradients reach both.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from facespace.errors import UsageError, check_choices
from facespace.losses.margins import angle
from facespace.losses.term import Auxiliary, Term, require_positive

Anchors = Literal["batch", "all"]
"""From which rows `Inter` looks at all others: those of the batch's labels, each as often as it occurs (the paper), or
every row once, which takes `(classes, classes)` of memory."""

Negatives = Literal["all", "hardest"]
"""Which other rows an embedding meets: all that are too near (the formula), or the nearest alone."""


class _AgainstRows(Auxiliary, Protocol):
    def value(self, embeddings: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        """The unweighted term of unit embeddings and raw rows."""
        ...


class RowTerm(Term):
    """A term of unit embeddings and class rows, without state of its own."""

    def __init__(self, settings: _AgainstRows, classes: int, dim: int) -> None:
        super().__init__(settings, classes, dim)
        self.settings = settings

    def value(self, embeddings: Tensor, labels: Tensor, rows: Tensor | None) -> Tensor:
        """The settings' formula."""
        assert rows is not None  # `_check` has seen to it
        return self.settings.value(F.normalize(embeddings), labels, rows)


@dataclass(frozen=True)
class Intra:
    """Mean angle to the own class row, as a share of π: pulls people together."""

    weight: float = 1.0
    """Factor of the term."""

    name: ClassVar[str] = "intra"
    paper: ClassVar[str] = "Deng et al., ArcFace, CVPR 2019, eq. 5"
    reads_classes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_positive(self)

    def module(self, classes: int, dim: int) -> RowTerm:
        """See `Auxiliary.module`."""
        return RowTerm(self, classes, dim)

    def value(self, embeddings: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        """1/(πN) Σ θ_{y_i}."""
        return angle((embeddings * F.normalize(rows[labels])).sum(1)).mean() / math.pi


@dataclass(frozen=True)
class Inter:
    """Minus the mean angle between class rows, as a share of π: pushes people apart. The embeddings have no part."""

    weight: float = 1.0
    """Factor of the term."""
    anchors: Anchors = "batch"
    """From which rows the angles are taken."""

    name: ClassVar[str] = "inter"
    paper: ClassVar[str] = "Deng et al., ArcFace, CVPR 2019, eq. 6"
    reads_classes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_positive(self)
        check_choices(self, {"anchors": Anchors})

    def module(self, classes: int, dim: int) -> RowTerm:
        """See `Auxiliary.module`."""
        return RowTerm(self, classes, dim)

    def value(self, embeddings: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        """-1/(πN(n-1)) Σ_i Σ_{j≠y_i} arccos(W_{y_i}·W_j)."""
        every, unit = torch.arange(len(rows), device=rows.device), F.normalize(rows)
        anchors = labels if self.anchors == "batch" else every
        other = anchors[:, None] != every[None, :]  # (anchors, n)
        total = (angle(unit[anchors] @ unit.T) * other).sum()
        return -total / (math.pi * max(1, len(anchors) * (len(rows) - 1)))


@dataclass(frozen=True)
class AgentContrastive:
    """Contrastive loss with class rows in place of second photos: D to the own row, [m - D]_+ to others."""

    weight: float = 0.01
    """Factor of the term; the official code's beside a softmax loss, there on rows of its own."""
    margin: float = 1.0
    """m on the squared distance, in 0..4; the official code's."""
    negatives: Negatives = "all"
    """Which other rows count."""

    name: ClassVar[str] = "agent_contrastive"
    paper: ClassVar[str] = "Wang et al., NormFace, ACM MM 2017, section 3.4"
    reads_classes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_agent(self, self.margin)

    def module(self, classes: int, dim: int) -> RowTerm:
        """See `Auxiliary.module`."""
        return RowTerm(self, classes, dim)

    def value(self, embeddings: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        """Mean over i of D(f_i, W_{y_i}) + Σ_{j≠y_i} [m - D(f_i, W_j)]_+."""
        own, distances = _distances(embeddings, labels, rows)
        return (own + _short_of(torch.full_like(own, self.margin), distances, self.negatives)).mean()


@dataclass(frozen=True)
class AgentTriplet:
    """Triplet loss with class rows in place of positives and negatives: [m + D(f, W_y) - D(f, W_j)]_+."""

    weight: float = 1.0
    """Factor of the term."""
    margin: float = 0.8
    """m on the squared distance, in 0..4; the official code's."""
    negatives: Negatives = "hardest"
    """Which other rows count; the nearest alone in the official code, and a sum over thousands would drown the rest."""

    name: ClassVar[str] = "agent_triplet"
    paper: ClassVar[str] = "Wang et al., NormFace, ACM MM 2017, section 3.4"
    reads_classes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_agent(self, self.margin)

    def module(self, classes: int, dim: int) -> RowTerm:
        """See `Auxiliary.module`."""
        return RowTerm(self, classes, dim)

    def value(self, embeddings: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        """Mean over i of Σ_{j≠y_i} [m + D(f_i, W_{y_i}) - D(f_i, W_j)]_+."""
        own, distances = _distances(embeddings, labels, rows)
        return _short_of(self.margin + own, distances, self.negatives).mean()


def _distances(embeddings: Tensor, labels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances to the own row `(N,)`, and to all `(N, n)` with the own one at infinity."""
    distances = 2 - 2 * embeddings @ F.normalize(rows).T
    column = labels[:, None]
    return distances.gather(1, column)[:, 0], distances.scatter(1, column, math.inf)


def _short_of(wanted: Tensor, distances: Tensor, negatives: Negatives) -> Tensor:
    """By how much distances `(N, n)` are shorter than `wanted` `(N,)`: summed per row, or of the shortest alone."""
    if negatives == "hardest":
        return (wanted - distances.amin(1)).clamp(min=0)
    return (wanted[:, None] - distances).clamp(min=0).sum(1)


def _check_agent(settings: Auxiliary, margin: float) -> None:
    require_positive(settings, "margin")
    if margin > 4:
        raise UsageError(f"{settings.name} with margin = {margin}", hint="squared distances end at 4")
    check_choices(settings, {"negatives": Negatives})
