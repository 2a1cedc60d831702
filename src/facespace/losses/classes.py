"""Softmax over very many classes: one cosine and one log-sum-exp per photo, with a backward of its own.

The loss of a photo is -log softmax of its own class: softplus(R - z), where z is the logit of the label and
R = log Σ exp(s·c_j) runs over the other classes. A margin only bends z, which is one number per photo; R is the same
for all margins, and is all that costs. So this room computes R, and leaves z to ordinary autograd.

Classes come in blocks that stay in the cache. The class rows are never normalised in memory: cosines are divided by the
length of the row, and its share of the gradient is taken off at the end. Where the cosines of a batch are few
enough they are kept for the backward pass; otherwise each block is computed again, and memory stays bounded.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from facespace.errors import UsageError

KEPT_CELLS = 1 << 25
"""Photos times classes up to which cosines are kept for the backward pass: 128 MiB of float32."""
BLOCK_CELLS = 1 << 19
"""Photos times classes of one block: 2 MiB of float32."""
SHORTEST = 1e-12
"""Rows shorter than this count as this long."""

Bend = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Other classes' cosines `(N, B)` and the label's `(N, 1)` to what takes their place, and its slope, both `(N, B)`."""


class ClassScores(NamedTuple):
    """How photos stand to their classes, each `(N,)`."""

    target: Tensor
    """The cosine to the own class (plain: W·f + b)."""
    rest: Tensor
    """log Σ exp(s·c_j) over the other classes; -inf where there is none."""
    nearest: Tensor
    """The largest c_j among the other classes; no gradient."""


class Shards(Protocol):
    """How figures of a slice of the classes become those of all; each method maps `(N,)` to `(N,)`, no gradient."""

    @property
    def count(self) -> int:
        """How many slices there are."""
        ...

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the slices."""
        ...

    def max(self, values: Tensor) -> Tensor:
        """Maximum over the slices."""
        ...

    def logsumexp(self, values: Tensor) -> Tensor:
        """log Σ exp over the slices."""
        ...


def class_scores(
    features: Tensor,
    weight: Tensor,
    labels: Tensor,
    scale: Tensor,
    *,
    bias: Tensor | None = None,
    unit: bool = True,
    bend: Bend | None = None,
    shards: Shards | None = None,
    pooled: bool = True,
) -> ClassScores:
    """Scores of features float `(N, D)` against class rows `(C, D)`, or `(C, K, D)` with K sub-centres.

    With `unit` the features are unit vectors and rows count by direction alone; otherwise plain products are meant, to
    which `bias` `(C,)` is added where K = 1. Of K sub-centres the nearest counts, for label and other classes alike,
    and alone has a gradient; unless `pooled`, all K of every other class stand in the sum. `labels` int64 `(N,)` are
    rows of `weight`; -1 for a class in another slice. `scale` is `(N,)`. `bend` replaces the other classes' cosines,
    knowing the label's. With `shards`, `weight` is a slice of the classes, which may be empty: all results are those of
    the whole; the gradients of `features` and `scale` come from the slice alone, so many times as large as there are
    slices: their mean is the whole, as data-parallel training wants it. Raises UsageError for a bias that has no place.
    """
    if bias is not None and (unit or weight.ndim == 3):
        raise UsageError("cosines and sub-centres have no bias", hint="leave it out")
    settings = unit, bend, shards, pooled
    target, rest, nearest = _ClassScores.apply(features, weight, bias, scale, labels, *settings)  # type: ignore[no-untyped-call]
    return ClassScores(target, rest, nearest)


def own_cosines(features: Tensor, weight: Tensor, labels: Tensor, shards: Shards | None = None) -> Tensor:
    """The cosines `(N,)` of unit features to their own classes alone; see `class_scores`."""
    cosines = _Rows(features, weight, None, labels, True).own_cosines()
    return cosines if shards is None else shards.sum(cosines)


class _ClassScores(torch.autograd.Function):
    """All outputs in one function, so that there is one gradient of the class rows, written once."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: Tensor,
        labels: Tensor,
        unit: bool,
        bend: Bend | None,
        shards: Shards | None,
        pooled: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        rows = _Rows(features, weight, bias, labels, unit)
        target = rows.own_cosines()
        target = target if shards is None else shards.sum(target)
        rest, nearest = torch.full_like(target, -torch.inf), torch.full_like(target, -torch.inf)
        keep = len(features) * weight[..., 0].numel() <= KEPT_CELLS and any(ctx.needs_input_grad)
        kept = []
        for block in rows.blocks():
            cosines, _ = rows.cosines(block)
            kept += [cosines] if keep else []
            classes = _nearest_centre(cosines) if pooled else cosines.flatten(1)  # (N, B), or all centres (N, B·K)
            values = classes * scale[:, None] if bend is None else bend(classes, target[:, None])[0] * scale[:, None]
            rows.own_cells(values, block, -torch.inf)
            top = values.amax(1)
            if bend is None:
                nearest = torch.maximum(nearest, top / scale)
            else:
                nearest = torch.maximum(nearest, rows.own_cells(classes.clone(), block, -torch.inf).amax(1))
            top = top.clamp(min=torch.finfo(top.dtype).min)  # no class but the own: exp(-inf) is 0, not nan
            rest = torch.logaddexp(rest, values.sub_(top[:, None]).exp_().sum(1).log_() + top)
        if shards is not None:
            rest, nearest = shards.logsumexp(rest), shards.max(nearest)
        ctx.save_for_backward(features, weight, bias, scale, labels, target, rest, *kept)
        ctx.unit, ctx.bend, ctx.pooled, ctx.slices = unit, bend, pooled, 1 if shards is None else shards.count
        ctx.mark_non_differentiable(nearest)
        return target, rest, nearest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_target: Tensor | None, g_rest: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
        features, weight, bias, scale, labels, target, rest, *kept = ctx.saved_tensors
        rows = _Rows(features, weight, bias, labels, ctx.unit)
        wanted = ctx.needs_input_grad[:4]
        given = (features, weight, bias, scale)
        slopes = _Slopes(*(_zeros(x) if want else None for x, want in zip(given, wanted, strict=True)))
        g_rest = torch.zeros_like(rest) if g_rest is None else g_rest
        for number, block in enumerate(rows.blocks()):
            cosines, inverse = rows.cosines(block, kept[number] if kept else None)
            classes = _nearest_centre(cosines) if ctx.pooled else cosines.flatten(1)
            values, bent = (classes, None) if ctx.bend is None else ctx.bend(classes, target[:, None])
            share = (values * scale[:, None]).sub_(rest[:, None]).exp_()  # softmax among the other classes
            rows.own_cells(share, block, 0.0).mul_(g_rest[:, None])
            if slopes.scale is not None:
                slopes.scale.add_((share * values).sum(1))
            share.mul_(scale[:, None])
            if bent is not None:
                share.mul_(bent)
            share = _to_nearest_centre(share, cosines) if ctx.pooled else share
            rows.descend(slopes, block, share, cosines, inverse)
        if g_target is not None:
            rows.descend_own(slopes, g_target)
        for shared in (slopes.features, slopes.scale):
            if shared is not None and ctx.slices > 1:
                shared.mul_(ctx.slices)
        return *slopes, *(None,) * 5


class _Slopes(NamedTuple):
    """Gradients that are asked for, filled in block by block."""

    features: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    scale: Tensor | None


class _Rows:
    """Features against class rows, block by block."""

    def __init__(self, features: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, unit: bool) -> None:
        self.features, self.weight, self.bias, self.labels, self.unit = features, weight, bias, labels, unit
        self.here = (labels >= 0).nonzero()[:, 0]  # photos whose class is in this slice

    def blocks(self) -> Iterator[slice]:
        classes = len(self.weight)
        centres = self.weight.shape[1:-1].numel()  # 1 without sub-centres; also where a slice has no class
        size = max(1, BLOCK_CELLS // max(1, len(self.features) * centres))
        return (slice(start, min(start + size, classes)) for start in range(0, classes, size))

    def cosines(self, block: slice, kept: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Cosines `(N, B)` or `(N, B, K)` of a block of classes, and 1/length of its rows `(B·K,)` (None: plain)."""
        rows = self.weight[block].flatten(0, -2)  # (B·K, D)
        inverse = 1 / torch.linalg.vector_norm(rows, dim=1).clamp(min=SHORTEST) if self.unit else None
        if kept is not None:
            return kept, inverse
        products = self.features @ rows.T
        if inverse is not None:
            products.mul_(inverse)
        elif self.bias is not None:
            products.add_(self.bias[block])
        return products.view(-1, *self.weight[block].shape[:-1]), inverse

    def own_cells(self, cells: Tensor, block: slice, value: float) -> Tensor:
        """Set the cells `(N, B)` or `(N, B·K)` of the photos' own classes to `value`."""
        columns, width = self.labels - block.start, block.stop - block.start  # below 0 for a class in another slice
        inside = ((columns >= 0) & (columns < width)).nonzero()[:, 0]
        cells.view(len(cells), width, cells.shape[1] // width)[inside, columns[inside]] = value
        return cells

    def own_cosines(self) -> Tensor:
        """Cosines `(N,)` to the own classes; 0 where the class is in another slice."""
        cosines, _, _ = self._own()
        return cosines.new_zeros(len(self.features)).index_put((self.here,), cosines)

    def _own(self) -> tuple[Tensor, Tensor, Tensor]:
        """Cosine `(n,)`, row number in `(C·K, D)` and 1/length of the own (nearest sub-)centre, for photos `here`."""
        labels = self.labels[self.here]
        rows = self.weight[labels]  # (n, D) or (n, K, D)
        products = torch.einsum("nd,n...d->n...", self.features[self.here], rows)
        inverse = torch.ones_like(products)
        if self.unit:
            inverse = 1 / torch.linalg.vector_norm(rows, dim=-1).clamp(min=SHORTEST)
            products = products * inverse
        elif self.bias is not None:
            products = products + self.bias[labels]
        if products.ndim == 1:
            return products, labels, inverse
        cosines, centre = products.max(1)
        return cosines, labels * products.shape[1] + centre, inverse.gather(1, centre[:, None])[:, 0]

    def descend(self, slopes: _Slopes, block: slice, slope: Tensor, cosines: Tensor, inverse: Tensor | None) -> None:
        """Add the gradients of a block from the slopes of the loss in its cosines, `(N, B)` or `(N, B, K)`."""
        rows, slope, cosines = self.weight[block].flatten(0, -2), slope.flatten(1), cosines.flatten(1)
        if inverse is not None:
            slope.mul_(inverse)
        if slopes.features is not None:
            slopes.features.addmm_(slope, rows)
        if slopes.weight is not None:
            gradient = slopes.weight[block].flatten(0, -2)
            torch.mm(slope.T, self.features, out=gradient)
            if inverse is not None:  # the part along the row changes no cosine
                gradient.addcmul_(rows, ((slope * cosines).sum(0) * inverse)[:, None], value=-1)
        if slopes.bias is not None:
            slopes.bias[block] = slope.sum(0)

    def descend_own(self, slopes: _Slopes, slope: Tensor) -> None:
        """Add the gradients of the own classes' cosines from the slopes `(N,)` of the loss in them."""
        cosines, numbers, inverse = self._own()
        rows = self.weight.flatten(0, -2)[numbers]  # (n, D)
        slope, features = slope[self.here], self.features[self.here]
        steep = (slope * inverse)[:, None]
        if slopes.features is not None:
            slopes.features.index_add_(0, self.here, steep * rows)
        if slopes.weight is not None:
            along = (cosines * inverse)[:, None] * rows if self.unit else 0
            slopes.weight.flatten(0, -2).index_add_(0, numbers, steep * (features - along))
        if slopes.bias is not None:
            slopes.bias.index_add_(0, numbers, slope)


def _zeros(like: Tensor) -> Tensor:
    """Room for a gradient, contiguous whatever `like` is: blocks of it must be views."""
    return torch.zeros_like(like, memory_format=torch.contiguous_format)


def _nearest_centre(cosines: Tensor) -> Tensor:
    """`(N, B)` as it is; of `(N, B, K)` the largest over the sub-centres."""
    return cosines if cosines.ndim == 2 else cosines.amax(2)


def _to_nearest_centre(slope: Tensor, cosines: Tensor) -> Tensor:
    """Slopes `(N, B)` as they are, or given to the nearest of K sub-centres alone, `(N, B, K)`."""
    if cosines.ndim == 2:
        return slope
    return torch.zeros_like(cosines).scatter_(2, cosines.argmax(2, keepdim=True), slope[:, :, None])
