"""FaceNet's triplet loss with online mining over all anchor-positive pairs (Schroff et al., CVPR 2015, section 3).

Distances are squared L2 between unit vectors, 0..4, unless the settings say otherwise. Once the triplets are chosen the
loss is linear in the distances, so mining returns its coefficients, one per distance: no list of triplets is ever made,
and memory stays at some (N, N) matrices however many triplets there are (150 MB at N = 1,800).

Random photos that only serve as negatives need no setting here: a photo that is the only one of its person in the batch
has no positive, so it is never an anchor (`data.sampler.FaceNetBatches` draws them so).
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facespace.errors import DataError, UsageError, check_choices
from facespace.losses.head import HeadOutput
from facespace.losses.margins import full_precision

Reduction = Literal["mean_active", "sum", "mean_all"]
"""`mean_active`: over triplets with a positive loss; `sum`: the paper's; `mean_all`: over all anchor-positive pairs."""

Metric = Literal["squared_l2", "l2", "angle"]
"""What is compared, and so the unit of alpha.

- `squared_l2`: |a - b|² of unit vectors, 0..4 (FaceNet).
- `l2`: |a - b|, 0..2, as much public code has it: with the same alpha another loss.
- `angle`: arccos(a·b), radians 0..π (Deng et al., ArcFace, CVPR 2019, the triplet loss of section 2.3; alpha 0.35).
"""

Negatives = Literal["semihard_hardest", "semihard_random", "semihard_all", "violating_random", "hardest"]
"""Which negatives a pair (a, p) meets. Semi-hard: D(a,p) < D(a,n) < D(a,p) + alpha (eq. 4 and its text).

- `semihard_hardest`: the nearest of them; `semihard_random`: one drawn; `semihard_all`: all of them.
- `violating_random`: one drawn from all with D(a,n) < D(a,p) + alpha, hard ones too (VGG Face, public FaceNet code).
- `hardest`: the nearest of all, wherever the positive is; early in a training the paper saw it collapse.
"""

UpperBound = Literal["margin", "none"]
"""Where semi-hard ends: at D(a,p) + alpha, or nowhere (eq. 4 without its text).

Without it negatives of no loss count as semi-hard. The loss of the nearest and of all is the same, and so are the
active triplets; `triplets_semihard` is another number, a random draw may hit a negative without loss, and the fallback
waits until no negative at all is farther than the positive.
"""

Fallback = Literal["skip", "hardest", "largest"]
"""Where a pair finds no such negative: none, the nearest negative, or the farthest (TensorFlow Addons).

Only semi-hard choices have use for it: where no negative violates the margin, none has a loss.
"""

Pairs = Literal["both", "unordered"]
"""`both`: (a, p) and (p, a) are two pairs; `unordered`: one, its anchor the earlier in the batch."""

COLLAPSED_BELOW = 1e-3
"""A batch whose mean squared distance is below this (1.8 degrees) has collapsed to a point."""

LARGEST: dict[Metric, float] = {"squared_l2": 4.0, "l2": 2.0, "angle": math.pi}
"""The distance of opposite vectors."""


@dataclass(frozen=True)
class Triplet:
    """Settings of the triplet loss; contradictions raise UsageError."""

    alpha: float = 0.2
    """Margin on the distance, above 0 and at most the distance of opposite vectors; radians where that is an angle."""
    reduction: Reduction = "mean_active"
    """What the sum over triplets is divided by."""
    negatives: Negatives = "semihard_hardest"
    """Which negatives a pair meets."""
    fallback: Fallback = "skip"
    """What a pair without such a negative does."""
    pairs: Pairs = "both"
    """Whether a pair counts once or in both directions."""
    metric: Metric = "squared_l2"
    """Which distance is meant."""
    upper_bound: UpperBound = "margin"
    """Where semi-hard ends."""

    def __post_init__(self) -> None:
        check_choices(self, _OPTIONS)
        if not 0 < self.alpha <= LARGEST[self.metric]:
            hint = f"0 < alpha <= {LARGEST[self.metric]:.4g}"
            raise UsageError(f"alpha = {self.alpha} is no margin for {self.metric}", hint=hint)


_OPTIONS = {
    "reduction": Reduction,
    "negatives": Negatives,
    "fallback": Fallback,
    "pairs": Pairs,
    "metric": Metric,
    "upper_bound": UpperBound,
}


class Mined(NamedTuple):
    """The triplets chosen in a batch, summed up."""

    coefficients: Tensor
    """(N, N): how often distance (i, j) enters the sum, + as anchor-positive, - as anchor-negative."""
    active: Tensor
    """Number of chosen triplets with a positive loss, a scalar int64."""
    semihard: Tensor
    """Number of semi-hard triplets that the batch offers, a scalar int64."""
    pairs: int
    """Number of anchor-positive pairs."""


def squared_distances(x: Tensor) -> Tensor:
    """Squared L2 distances `(N, N)` between rows `(N, D)`, float32 or float64; rounding may leave -1e-7 for 0."""
    squares = (x * x).sum(1)
    return squares[:, None] + squares[None, :] - 2 * x @ x.T


def measured(squared: Tensor, metric: Metric) -> Tensor:
    """Squared L2 distances of unit vectors, any shape, in another metric; finite slopes everywhere.

    Within 8 roundings of 0 and of 4 no direction is left to move in: the value is that of equal or opposite vectors,
    and the slope 0. In float32 this holds below 0.06 degrees.
    """
    if metric == "squared_l2":
        return squared
    chord = _guarded_root(squared)
    return chord if metric == "l2" else 2 * torch.atan2(chord, _guarded_root(4 - squared))


def _guarded_root(x: Tensor) -> Tensor:
    floor = 8 * torch.finfo(x.dtype).eps
    return torch.where(x > floor, x.clamp(min=floor).sqrt(), 0)  # the clamp: 0 times an infinite slope would be NaN


@torch.no_grad()
def mine(distances: Tensor, labels: Tensor, settings: Triplet, generator: np.random.Generator) -> Mined:
    """Choose triplets from distances `(N, N)` and labels int `(N,)`; `generator` feeds the random choices."""
    same = labels[:, None] == labels[None, :]
    return mine_among(distances, pairs_of(same, settings), ~same, settings, generator)


def pairs_of(same: Tensor, settings: Triplet) -> Tensor:
    """Which cells of bool `(N, N)`, true where two photos show one person, are anchor-positive pairs."""
    if settings.pairs == "unordered":
        return same.triu(1)
    return same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)


@torch.no_grad()
def mine_among(
    distances: Tensor, positives: Tensor, negatives: Tensor, settings: Triplet, generator: np.random.Generator
) -> Mined:
    """`mine` where bool `(N, N)` say, row by row, what may be a positive and what a negative of an anchor."""
    anchor, positive = positives.nonzero(as_tuple=True)
    # Negatives of each anchor by distance, all others at the end: what a pair may choose is a range of ranks.
    ranked, order = distances.masked_fill(~negatives, math.inf).sort(dim=1)
    easy = torch.searchsorted(ranked, distances + settings.alpha)[anchor, positive]  # first rank beyond the margin
    beyond = torch.searchsorted(ranked, distances, right=True)[anchor, positive]  # first rank farther than the positive
    beyond = torch.minimum(beyond, easy)  # where alpha is lost in rounding nothing lies between
    available = negatives.sum(1)[anchor]
    end = easy if settings.upper_bound == "margin" else available  # of the semi-hard ranks
    start, stop = _choose(beyond, end, easy, available, settings, generator)
    counts = _count_ranges(anchor, start, stop, len(distances))
    coefficients = torch.zeros_like(distances).scatter_(1, order, -counts.to(distances.dtype))
    coefficients[anchor, positive] += (stop - start).to(distances.dtype)
    return Mined(coefficients, (stop - start).sum(), (end - beyond).sum(), len(anchor))


def _choose(
    beyond: Tensor, end: Tensor, easy: Tensor, available: Tensor, settings: Triplet, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Ranks start..stop-1 of the chosen active negatives, per pair; semi-hard are beyond..end-1."""
    if not settings.negatives.startswith("semihard"):
        beyond, end = torch.zeros_like(easy), easy
    match settings.negatives:
        case "semihard_all":
            start, stop = beyond, end
        case "semihard_hardest" | "hardest":
            start, stop = beyond, beyond + 1
        case "semihard_random" | "violating_random":
            # Float64: a product with a count never rounds up to the count.
            share = torch.from_numpy(generator.random(len(easy))).to(easy.device)
            start = beyond + ((end - beyond) * share).long()
            stop = start + 1
    if settings.fallback != "skip":
        other = torch.zeros_like(easy) if settings.fallback == "hardest" else (available - 1).clamp(min=0)
        start, stop = torch.where(beyond < end, start, other), torch.where(beyond < end, stop, other + 1)
    # Ranks from `easy` on have no loss: they leave the sum and the count.
    return torch.minimum(start, easy), torch.minimum(stop, easy)


def _count_ranges(anchor: Tensor, start: Tensor, stop: Tensor, n: int) -> Tensor:
    """How many of an anchor's ranges cover each rank, int64 `(N, N)`: running sum of +1 at starts and -1 at stops."""
    edges = torch.zeros(n, n + 1, dtype=torch.int64, device=anchor.device)
    one = torch.ones_like(start)
    edges.index_put_((anchor, start), one, accumulate=True)
    edges.index_put_((anchor, stop), -one, accumulate=True)
    return edges.cumsum(1)[:, :n]


class MiningHead(nn.Module):
    """What heads that mine share; they have no weights.

    Random choices come from (seed, number of training steps so far); the number is a buffer: a restart draws the same.
    """

    steps: Tensor

    def __init__(self, settings: Triplet, seed: int) -> None:
        """`seed` is 0 or more; UsageError otherwise."""
        super().__init__()
        if seed < 0:
            raise UsageError(f"seed = {seed} is negative", hint="give 0 or more")
        self.settings = settings
        self.seed = seed
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def _generator(self) -> np.random.Generator:
        # Not torch's: on the CPU it keeps only 32 bits of a seed, and both numbers must count.
        generator = np.random.default_rng([self.seed, int(self.steps)])
        if self.training:
            self.steps += 1
        return generator

    def _loss(self, distances: Tensor, mined: Mined) -> Tensor:
        total = (mined.coefficients * distances).sum() + self.settings.alpha * mined.active.to(distances.dtype)
        match self.settings.reduction:
            case "sum":
                return total
            case "mean_all":
                return total / max(mined.pairs, 1)
            case "mean_active":
                return total / mined.active.clamp(min=1)


class TripletHead(MiningHead):
    """Triplet loss on a batch that holds several photos of some people."""

    def __init__(self, settings: Triplet | None = None, seed: int = 0) -> None:
        """`seed` is 0 or more; UsageError otherwise."""
        super().__init__(settings or Triplet(), seed)

    def forward(self, embeddings: Tensor, labels: Tensor) -> HeadOutput:
        """Loss of embeddings `(N, D)`, any float type, normalised here, with labels int64 `(N,)`.

        A batch without triplets has loss 0 and zero gradients. Logs: `triplets_active`, `triplets_semihard`, `pairs`,
        `collapsed` (0 or 1) and, where such pairs exist, the mean squared distances `d_ap` and `d_an`, squared whatever
        the metric. Raises DataError for unfit shapes.
        """
        check_batch(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            squared = squared_distances(F.normalize(full_precision(embeddings)))
            distances = measured(squared, self.settings.metric)
            mined = mine(distances.detach(), labels, self.settings, self._generator())
            logs = mining_logs(squared.detach(), labels, mined)
            return HeadOutput(self._loss(distances, mined), logs)


def check_batch(embeddings: Tensor, labels: Tensor) -> None:
    """Raises DataError where embeddings are not `(N, D)` or labels not `(N,)`."""
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        shapes = f"embeddings {tuple(embeddings.shape)} and labels {tuple(labels.shape)}"
        raise DataError(f"{shapes} do not fit together", hint="give (N, D) and (N,)")


def mining_logs(squared: Tensor, labels: Tensor, mined: Mined) -> dict[str, float]:
    """Counts of what was mined, and means of the squared distances `(N, N)`; what the batch lacks is left out."""
    same = labels[:, None] == labels[None, :]
    figures = [same.sum(), (squared * same).sum(), (squared * ~same).sum(), mined.active, mined.semihard]
    # One transfer for all five, where the batch lives on a GPU.
    n_same, d_same, d_other, active, semihard = torch.stack([x.double() for x in figures]).tolist()
    n = len(labels)
    n_ap, n_an = n_same - n, n * n - n_same
    logs = {
        "triplets_active": active,
        "triplets_semihard": semihard,
        "pairs": float(mined.pairs),
        "collapsed": float(n > 1 and (d_same + d_other) / (n_ap + n_an) < COLLAPSED_BELOW),
    }
    return logs | ({"d_ap": d_same / n_ap} if n_ap else {}) | ({"d_an": d_other / n_an} if n_an else {})
