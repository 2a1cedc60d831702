"""FaceNet's triplet loss with online mining over all anchor-positive pairs (Schroff et al., CVPR 2015, section 3).

Distances are squared L2 between unit vectors, 0..4. Once the triplets are chosen the loss is linear in the distances,
so mining returns its coefficients, one per distance: no list of triplets is ever made, and memory stays at some (N, N)
matrices however many triplets there are (127 MiB at N = 1,800).
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facespace.errors import DataError, UsageError
from facespace.losses.head import HeadOutput
from facespace.losses.margins import full_precision

Reduction = Literal["mean_active", "sum", "mean_all"]
"""`mean_active`: over triplets with a positive loss; `sum`: the paper's; `mean_all`: over all anchor-positive pairs."""

Negatives = Literal["semihard_hardest", "semihard_random", "semihard_all", "violating_random"]
"""Which negatives a pair (a, p) meets. Semi-hard: D(a,p) < D(a,n) < D(a,p) + alpha (eq. 4 and its text).

- `semihard_hardest`: the nearest of them; `semihard_random`: one drawn; `semihard_all`: all of them.
- `violating_random`: one drawn from all with D(a,n) < D(a,p) + alpha, hard ones too (VGG Face, public FaceNet code).
"""

Fallback = Literal["skip", "hardest", "largest"]
"""Where a pair finds no such negative: none, the nearest negative, or the farthest (TensorFlow Addons)."""

Pairs = Literal["both", "unordered"]
"""`both`: (a, p) and (p, a) are two pairs; `unordered`: one, its anchor the earlier in the batch."""

COLLAPSED_BELOW = 1e-3
"""A batch whose mean squared distance is below this (1.8 degrees) has collapsed to a point."""


@dataclass(frozen=True)
class Triplet:
    """Settings of the triplet loss; contradictions raise UsageError."""

    alpha: float = 0.2
    """Margin on the squared distance, in 0..4."""
    reduction: Reduction = "mean_active"
    """What the sum over triplets is divided by."""
    negatives: Negatives = "semihard_hardest"
    """Which negatives a pair meets."""
    fallback: Fallback = "skip"
    """What a pair without such a negative does."""
    pairs: Pairs = "both"
    """Whether a pair counts once or in both directions."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 4:
            raise UsageError(f"alpha = {self.alpha} is no margin between squared distances", hint="0 < alpha <= 4")
        for name, options in (
            ("reduction", Reduction),
            ("negatives", Negatives),
            ("fallback", Fallback),
            ("pairs", Pairs),
        ):
            if getattr(self, name) not in get_args(options):
                hint = f"one of {', '.join(get_args(options))}"
                raise UsageError(f"{name} = {getattr(self, name)!r} is unknown", hint=hint)


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


@torch.no_grad()
def mine(distances: Tensor, labels: Tensor, settings: Triplet, generator: np.random.Generator) -> Mined:
    """Choose triplets from squared distances `(N, N)` and labels int `(N,)`; `generator` feeds the random choices."""
    same = labels[:, None] == labels[None, :]
    eye = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    anchor, positive = (same.triu(1) if settings.pairs == "unordered" else same & ~eye).nonzero(as_tuple=True)
    # Negatives of each anchor by distance, its own people at the end: what a pair may choose is a range of ranks.
    ranked, order = distances.masked_fill(same, math.inf).sort(dim=1)
    easy = torch.searchsorted(ranked, distances + settings.alpha)[anchor, positive]  # first rank beyond the margin
    beyond = torch.searchsorted(ranked, distances, right=True)[anchor, positive]  # first rank farther than the positive
    start, stop = _choose(beyond, easy, (~same).sum(1)[anchor], settings, generator)
    counts = _count_ranges(anchor, start, stop, len(labels))
    coefficients = torch.zeros_like(distances).scatter_(1, order, -counts.to(distances.dtype))
    coefficients[anchor, positive] += (stop - start).to(distances.dtype)
    return Mined(coefficients, (stop - start).sum(), (easy - beyond).sum(), len(anchor))


def _choose(
    beyond: Tensor, easy: Tensor, negatives: Tensor, settings: Triplet, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Ranks start..stop-1 of the chosen active negatives, per pair."""
    first = torch.zeros_like(easy) if settings.negatives == "violating_random" else beyond
    match settings.negatives:
        case "semihard_all":
            start, stop = first, easy
        case "semihard_hardest":
            start, stop = first, first + 1
        case _:
            # Float64: a product with a count never rounds up to the count.
            share = torch.from_numpy(generator.random(len(easy))).to(easy.device)
            start = first + ((easy - first) * share).long()
            stop = start + 1
    if settings.fallback != "skip":
        last = (negatives - 1).clamp(min=0)
        other = torch.zeros_like(easy) if settings.fallback == "hardest" else last
        start, stop = torch.where(first < easy, start, other), torch.where(first < easy, stop, other + 1)
    # Ranks from `easy` on have no loss: they leave the sum and the count.
    return torch.minimum(start, easy), torch.minimum(stop, easy)


def _count_ranges(anchor: Tensor, start: Tensor, stop: Tensor, n: int) -> Tensor:
    """How many of an anchor's ranges cover each rank, int64 `(N, N)`: running sum of +1 at starts and -1 at stops."""
    edges = torch.zeros(n, n + 1, dtype=torch.int64, device=anchor.device)
    one = torch.ones_like(start)
    edges.index_put_((anchor, start), one, accumulate=True)
    edges.index_put_((anchor, stop), -one, accumulate=True)
    return edges.cumsum(1)[:, :n]


class TripletHead(nn.Module):
    """Triplet loss on a batch that holds several photos of some people; it has no weights.

    Random choices come from (seed, number of training steps so far); the number is a buffer: a restart draws the same.
    """

    steps: Tensor

    def __init__(self, settings: Triplet | None = None, seed: int = 0) -> None:
        """`seed` is 0 or more; UsageError otherwise."""
        super().__init__()
        if seed < 0:
            raise UsageError(f"seed = {seed} is negative", hint="give 0 or more")
        self.settings = settings or Triplet()
        self.seed = seed
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, embeddings: Tensor, labels: Tensor) -> HeadOutput:
        """Loss of embeddings `(N, D)`, any float type, normalised here, with labels int64 `(N,)`.

        A batch without triplets has loss 0 and zero gradients. Logs: `triplets_active`, `triplets_semihard`, `pairs`,
        `collapsed` (0 or 1) and, where such pairs exist, the mean squared distances `d_ap` and `d_an`. Raises DataError
        for unfit shapes.
        """
        if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
            shapes = f"embeddings {tuple(embeddings.shape)} and labels {tuple(labels.shape)}"
            raise DataError(f"{shapes} do not fit together", hint="give (N, D) and (N,)")
        with torch.autocast(embeddings.device.type, enabled=False):
            distances = squared_distances(F.normalize(full_precision(embeddings)))
            mined = mine(distances.detach(), labels, self.settings, self._generator())
            margins = self.settings.alpha * mined.active.to(distances.dtype)
            total = (mined.coefficients * distances).sum() + margins
            return HeadOutput(total / self._divisor(mined), _logs(distances.detach(), labels, mined))

    def _generator(self) -> np.random.Generator:
        # Not torch's: on the CPU it keeps only 32 bits of a seed, and both numbers must count.
        generator = np.random.default_rng([self.seed, int(self.steps)])
        if self.training:
            self.steps += 1
        return generator

    def _divisor(self, mined: Mined) -> Tensor | int:
        match self.settings.reduction:
            case "sum":
                return 1
            case "mean_all":
                return max(mined.pairs, 1)
            case "mean_active":
                return mined.active.clamp(min=1)


def _logs(distances: Tensor, labels: Tensor, mined: Mined) -> dict[str, float]:
    same = labels[:, None] == labels[None, :]
    figures = [same.sum(), (distances * same).sum(), (distances * ~same).sum(), mined.active, mined.semihard]
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
