"""Auxiliary terms: what may stand beside a softmax or triplet loss, chosen by name from `AUXILIARY`.

A term is a frozen dataclass of settings whose `module` makes it; its output is weighted already. Those on the batch
alone are here, those against class rows in `agents`.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facespace.errors import UsageError, check_choices
from facespace.losses.agents import AgentContrastive, AgentTriplet, Inter, Intra
from facespace.losses.term import Auxiliary, Term, require_positive

Reduction = Literal["mean", "sum"]
"""`mean`: over the photos of the batch; `sum`: the sum that the paper prints. There softmax is a sum as well: beside a
head that averages, the mean keeps the paper's ratio of the two."""

TINY = 1e-12
"""Squared distances are held above this where they are divided by."""


class _OfBatch(Auxiliary, Protocol):
    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The unweighted term of raw embeddings."""
        ...


class BatchTerm(Term):
    """A term of the batch alone, without state of its own."""

    def __init__(self, settings: _OfBatch, classes: int, dim: int) -> None:
        super().__init__(settings, classes, dim)
        self.settings = settings

    def value(self, embeddings: Tensor, labels: Tensor, rows: Tensor | None) -> Tensor:
        """The settings' formula."""
        return self.settings.value(embeddings, labels)


@dataclass(frozen=True)
class Center:
    """Center loss: half the squared distance of raw embeddings to their person's centre, which follows them."""

    weight: float = 0.003
    """λ."""
    alpha: float = 0.5
    """How far a centre moves towards its photos in a step, in 0..1."""
    reduction: Reduction = "mean"
    """What becomes of the sum over the batch."""

    name: ClassVar[str] = "center"
    paper: ClassVar[str] = "Wen et al., A Discriminative Feature Learning Approach, ECCV 2016, eq. 2-4"
    reads_classes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_positive(self, "alpha")
        if self.alpha > 1:
            raise UsageError(f"centres with alpha = {self.alpha} overshoot", hint="0 < alpha <= 1")
        check_choices(self, {"reduction": Reduction})

    def module(self, classes: int, dim: int) -> "CenterTerm":
        """See `Auxiliary.module`."""
        return CenterTerm(self, classes, dim)


class CenterTerm(Term):
    """Center loss with its centres, a buffer `(classes, dim)` that starts at 0 and moves in training forwards only."""

    centres: Tensor

    def __init__(self, settings: Center, classes: int, dim: int) -> None:
        super().__init__(settings, classes, dim)
        self.settings = settings
        self.register_buffer("centres", torch.zeros(classes, dim))

    def value(self, embeddings: Tensor, labels: Tensor, rows: Tensor | None) -> Tensor:
        """1/2 Σ ‖f_i - c_{y_i}‖² with the centres as they were before this batch; then they move."""
        gap = embeddings - self.centres[labels]  # (N, dim)
        if self.training:
            self._move(gap.detach(), labels)
        total = gap.square().sum() / 2
        return total / len(labels) if self.settings.reduction == "mean" else total

    @torch.no_grad()
    def _move(self, gap: Tensor, labels: Tensor) -> None:
        """c_j += α Σ_{y_i=j} (f_i - c_j) / (1 + count_j); absent people stay, and all where the batch is not finite."""
        present, which, count = _people(labels)
        pull = gap.new_zeros(len(present), self.dim).index_add_(0, which, gap)
        step = self.settings.alpha * pull / (1 + count)[:, None]
        self.centres[present] += torch.where(gap.isfinite().all(), step, 0).to(self.centres.dtype)


@dataclass(frozen=True)
class Marginal:
    """Marginal loss: unit embeddings of one person within θ - ξ of squared distance, those of two beyond θ + ξ."""

    weight: float = 1.0
    """Factor of the term."""
    theta: float = 1.2
    """Border between same and different, a squared distance in 0..4."""
    xi: float = 0.3
    """Margin on either side of it."""

    name: ClassVar[str] = "marginal"
    paper: ClassVar[str] = "Deng et al., Marginal Loss, CVPR Workshops 2017"
    reads_classes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_positive(self, "theta", "xi")
        if self.theta > 4:
            raise UsageError(f"theta = {self.theta} is no border", hint="squared distances end at 4")

    def module(self, classes: int, dim: int) -> BatchTerm:
        """See `Auxiliary.module`."""
        return BatchTerm(self, classes, dim)

    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """1/(N²-N) Σ_{i≠j} [ξ - y_ij (θ - D(f_i, f_j))]_+ with y_ij = ±1."""
        squared = distances(F.normalize(embeddings)).square()
        sign = torch.where(labels[:, None] == labels[None, :], 1.0, -1.0)
        lost = (self.xi - sign * (self.theta - squared)).clamp(min=0)
        n = len(labels)
        return lost.triu(1).sum() * 2 / max(1, n * (n - 1))


@dataclass(frozen=True)
class Range:
    """Range loss: shrinks the largest distances within each person, keeps the two nearest people apart.

    Made for people of very unequal numbers of photos. α, β and m are ours: no values are known for unit vectors.
    """

    weight: float = 0.01
    """Factor of the whole term."""
    alpha: float = 1.0
    """Factor of what happens within people."""
    beta: float = 1.0
    """Factor of what happens between people."""
    margin: float = 1.0
    """m: the squared distance that the means of two people shall keep."""
    largest: int = 2
    """k: how many distances of a person count; all of them where there are fewer."""
    normalise: bool = True
    """Whether embeddings are made unit vectors; the paper's are raw, and their length sets the scale of m."""

    name: ClassVar[str] = "range"
    paper: ClassVar[str] = "Zhang et al., Range Loss, ICCV 2017"
    reads_classes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_positive(self, "margin")
        if not (0 <= self.alpha < math.inf and 0 <= self.beta < math.inf and self.alpha + self.beta > 0):
            raise UsageError(f"range with alpha = {self.alpha}, beta = {self.beta}", hint="both >= 0, one > 0")
        if self.largest < 1:
            raise UsageError(f"range over {self.largest} distances", hint="largest >= 1")

    def module(self, classes: int, dim: int) -> BatchTerm:
        """See `Auxiliary.module`."""
        return BatchTerm(self, classes, dim)

    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """α Σ_people k / Σ 1/D_j + β [m - D(two nearest means)]_+; a pair at D = 0 makes its person's mean 0."""
        x = F.normalize(embeddings) if self.normalise else embeddings
        _, person, count = _people(labels)
        means = x.new_zeros(len(count), x.shape[1]).index_add(0, person, x) / count[:, None]
        return self.alpha * self._within(x, person, len(count)) + self.beta * self._between(means)

    def _within(self, x: Tensor, person: Tensor, people: int) -> Tensor:
        """Harmonic means of each person's largest squared distances, summed; nobody with one photo takes part."""
        first, second = (person[:, None] == person[None, :]).triu(1).nonzero(as_tuple=True)
        squared, owner = distances(x)[first, second].square(), person[first]  # one per pair
        order = squared.detach().argsort(descending=True)
        order = order[owner[order].argsort(stable=True)]  # by person, the largest first
        squared, owner = squared[order], owner[order]
        start = torch.searchsorted(owner, torch.arange(people, device=owner.device))
        chosen = torch.arange(len(owner), device=owner.device) - start[owner] < self.largest
        squared, owner = squared[chosen], owner[chosen]
        inverse = squared.new_zeros(people).index_add(0, owner, 1 / squared.clamp(min=TINY))
        count = torch.bincount(owner, minlength=people)
        return (count[count > 0] / inverse[count > 0]).sum()

    def _between(self, means: Tensor) -> Tensor:
        """[m - D]_+ of the two nearest means; 0 where there is one person."""
        people = len(means)
        first, second = torch.triu_indices(people, people, 1, device=means.device)
        if not len(first):
            return means.new_zeros(())
        return (self.margin - distances(means)[first, second].square().min()).clamp(min=0)


@dataclass(frozen=True)
class Ring:
    """Ring loss: the lengths of raw embeddings are drawn to a radius R that is learned."""

    weight: float = 0.01
    """λ."""
    radius: float | None = None
    """R at the start; the mean length in the first training batch, where that is finite, if none is given."""

    name: ClassVar[str] = "ring"
    paper: ClassVar[str] = "Zheng et al., Ring Loss, CVPR 2018"
    reads_classes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_positive(self, *(() if self.radius is None else ("radius",)))

    def module(self, classes: int, dim: int) -> "RingTerm":
        """See `Auxiliary.module`."""
        return RingTerm(self, classes, dim)


class RingTerm(Term):
    """Ring loss with its `radius`, a parameter for the optimiser; no weight decay should pull at it."""

    started: Tensor

    def __init__(self, settings: Ring, classes: int, dim: int) -> None:
        super().__init__(settings, classes, dim)
        self.radius = nn.Parameter(torch.tensor(settings.radius or 1.0))
        self.register_buffer("started", torch.tensor(settings.radius is not None))

    def value(self, embeddings: Tensor, labels: Tensor, rows: Tensor | None) -> Tensor:
        """1/(2N) Σ (‖f_i‖ - R)²; logs R as `ring_radius`."""
        lengths: Tensor = torch.linalg.vector_norm(embeddings, dim=1)
        if self.training and not self.started:
            with torch.no_grad():
                mean = lengths.mean()
                self.started.copy_(mean.isfinite())
                self.radius.copy_(torch.where(self.started, mean, self.radius))
        return (lengths - self.radius).square().mean() / 2

    def logs(self) -> dict[str, float]:
        """The radius that this batch met."""
        return {"ring_radius": float(self.radius.detach())}


@dataclass(frozen=True)
class Contrastive:
    """The verification signal of DeepID2 over all pairs of the batch: same people together, others m apart."""

    weight: float = 0.05
    """λ."""
    margin: float = 1.0
    """m on the distance, not squared. The paper sets it anew during training and prints no value; this is ours."""
    normalise: bool = True
    """Whether embeddings are made unit vectors; the paper's are raw, and their length sets the scale of m."""

    name: ClassVar[str] = "contrastive"
    paper: ClassVar[str] = "Sun et al., DeepID2, NIPS 2014"
    reads_classes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_positive(self, "margin")
        if self.normalise and self.margin > 2:
            raise UsageError(f"margin = {self.margin} between unit vectors", hint="their distances end at 2")

    def module(self, classes: int, dim: int) -> BatchTerm:
        """See `Auxiliary.module`."""
        return BatchTerm(self, classes, dim)

    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean over pairs of D/2 for one person, [m - √D]_+²/2 for two."""
        distance = distances(F.normalize(embeddings) if self.normalise else embeddings)
        same = labels[:, None] == labels[None, :]
        lost = torch.where(same, distance, (self.margin - distance).clamp(min=0)).square()
        n = len(labels)
        return lost.triu(1).sum() / max(1, n * (n - 1))


AUXILIARY: dict[
    str,
    type[Center | Marginal | Range | Ring | Contrastive | Intra | Inter | AgentContrastive | AgentTriplet],
] = {
    kind.name: kind
    for kind in (Center, Marginal, Range, Ring, Contrastive, Intra, Inter, AgentContrastive, AgentTriplet)
}
"""Choice by name; each class carries its `paper` and says whether it `reads_classes`."""


def distances(x: Tensor) -> Tensor:
    """Distances `(N, N)`, not squared, between rows `(N, D)`; from differences, so that equal rows are at exactly 0.

    There the slope of the root is infinite; the backward gives 0, the middle of what it jumps between.
    """
    distance: Tensor = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    return distance


def _people(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The people of a batch, rising; for each photo the position of its person there; for each person its photos."""
    present, which, count = labels.unique(return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]
    return present, which, count
