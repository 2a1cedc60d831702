"""A margin head whose class rows are spread over processes, so that none holds, or multiplies with, all classes.

The setting of Partial FC (An et al., CVPR 2022, and its code in arcface_torch): each process runs the trunk on its part
of the batch; the embeddings of all are gathered, and each process judges the whole batch against its own slice of the
classes. What the slices find meets in three numbers a photo: the label's cosine, the log-sum-exp of the others, and the
nearest of them. So loss and figures are those of one process with all classes, on every process.

Gradients keep the rule of data-parallel training: the mean over the processes of what each backward pass gives is the
gradient. Class rows and their biases are the exception: their gradient is whole, for no other process has them.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from facespace.errors import DataError, UsageError
from facespace.losses.classes import ClassScores, own_cosines
from facespace.losses.head import AnyMargin, HeadOutput, MarginHead

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup  # absent where torch is built without it

BLOCK_ROWS = 1 << 14
"""Class rows drawn at a time; a multiple of 16, for torch's generator draws normal numbers by 16."""


class AllReduce:
    """How figures of a slice become those of all classes (`losses.classes.Shards`); the same bits on every process."""

    def __init__(self, group: "ProcessGroup | None" = None) -> None:
        self.group = group

    @property
    def count(self) -> int:
        """The processes."""
        return dist.get_world_size(self.group)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the slices."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def max(self, values: Tensor) -> Tensor:
        """Maximum over the slices."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def logsumexp(self, values: Tensor) -> Tensor:
        """log Σ exp over the slices; one of -inf has nothing to add."""
        return _all(values, self.group).logsumexp(0)

    def _reduced(self, values: Tensor, how: Any) -> Tensor:
        values = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(values, how, group=self.group)
        return values


def gather(part: Tensor, group: "ProcessGroup | None" = None) -> Tensor:
    """The tensors `(n, ...)` of all processes one after another, `(processes·n, ...)`; all must be of one shape.

    The gradient of a process's part is the sum over all processes of what they ask of it: where each has the whole
    loss, that many times the gradient, which the mean over the processes undoes.
    """
    whole: Tensor = _Gather.apply(part, group)  # type: ignore[no-untyped-call]
    return whole


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, group: "ProcessGroup | None") -> Tensor:
        ctx.group, ctx.length = group, len(part)
        return _all(part, group).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        slope = slope.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(slope, group=ctx.group)
        return slope.narrow(0, dist.get_rank(ctx.group) * ctx.length, ctx.length), None


def _all(part: Tensor, group: "ProcessGroup | None") -> Tensor:
    """The tensors of all processes, `(processes, ...)`."""
    every = part.new_empty(dist.get_world_size(group), *part.shape)
    dist.all_gather(list(every), part.contiguous(), group=group)
    return every


def slice_of(classes: int, rank: int, processes: int) -> range:
    """The classes of one of `processes`: contiguous, in the order of the ranks, sizes differing by one at most."""
    return range(rank * classes // processes, (rank + 1) * classes // processes)


class ShardedHead(MarginHead):
    """A `MarginHead` that holds the class rows (and biases) of its process alone; it begins with the same rows.

    Every process of `group` gives the same whole batch, and gets the same loss. `sample` counts in the slice, as
    published: of its rows each process keeps those of the batch, and random others up to its share; where the batch has
    more than that, those of the batch alone. So the choices, unlike all else, depend on the number of processes. A
    learned scale is the same everywhere; its gradient, as that of the embeddings, is the mean over the processes.
    """

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
        group: "ProcessGroup | None" = None,
    ) -> None:
        """Raises UsageError as `MarginHead` does, and for fewer classes than processes."""
        rank, processes = dist.get_rank(group), dist.get_world_size(group)
        if classes < processes:
            hint = "fewer processes, or more people"
            raise UsageError(f"{classes} classes cannot be spread over {processes} processes", hint=hint)
        own, before = slice_of(classes, rank, processes), torch.get_rng_state()
        super().__init__(
            len(own),
            dim,
            margin,
            scale,
            centres=centres,
            sample=sample,
            learn_scale=learn_scale,
            pool_others=pool_others,
            seed=seed,
        )
        self.classes, self.own, self.group, self.processes = classes, own, group, processes
        self.seed = int(np.random.SeedSequence([seed, rank]).generate_state(1, np.uint64)[0])  # choices of its own
        self.shards = AllReduce(group)
        torch.set_rng_state(before)
        self._draw()

    @torch.no_grad()
    def _draw(self) -> None:
        """Keep the slice of the rows that one process would draw; never more than two blocks of the others live."""
        start = 0
        while start < self.classes:
            stop = start + BLOCK_ROWS if self.classes - start > 2 * BLOCK_ROWS else self.classes
            rows = self.weight.new_empty(stop - start, *self.weight.shape[1:]).normal_(std=0.01)
            first, last = max(start, self.own.start), min(stop, self.own.stop)
            if first < last:
                self.weight[first - self.own.start : last - self.own.start] = rows[first - start : last - start]
            start = stop

    def forward(self, embeddings: Tensor, labels: Tensor) -> HeadOutput:
        """As `MarginHead.forward`, of the whole batch: the same embeddings and labels on every process."""
        if bool(((labels < 0) | (labels >= self.classes)).any()):
            hint = "renumber from 0"
            raise DataError(f"labels {labels.tolist()[:8]}... leave the classes 0..{self.classes - 1}", hint=hint)
        here = (labels >= self.own.start) & (labels < self.own.stop)
        return super().forward(embeddings, torch.where(here, labels - self.own.start, -1))

    def check(self, embeddings: Tensor, labels: Tensor) -> None:
        """As `MarginHead.check`; -1 stands for a class of another slice."""
        super().check(embeddings, labels.clamp(min=0))

    @torch.no_grad()
    def _sampled(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        here = labels >= 0
        chosen, own = super()._sampled(labels[here])
        return chosen, torch.full_like(labels, -1).masked_scatter_(here, own)

    @torch.no_grad()
    def logs(self, features: Tensor, labels: Tensor, scores: ClassScores) -> dict[str, float]:
        """The figures of a batch."""
        logs = super().logs(features, labels.clamp(min=0), scores)
        if not self.margin.normalised:  # its scores are no cosines, and the rows of most labels are elsewhere
            cosine = own_cosines(F.normalize(features), self.weight, labels, self.shards).clamp(-1, 1)
            logs |= {"target_cosine": float(cosine.mean()), "target_angle_deg": float(cosine.arccos().rad2deg().mean())}
        return logs

    def collect(self, rows: Tensor) -> Tensor | None:
        """Rows `(own, ...)` of all processes as `(classes, ...)` on the CPU of the first; None on the others.

        For the parameters, or what an optimiser keeps of them. All processes must call it.
        """
        longest = len(slice_of(self.classes, self.processes - 1, self.processes))
        padded = rows.new_zeros(longest, *rows.shape[1:], device="cpu")
        padded[: len(rows)] = rows.detach()
        if dist.get_rank(self.group):
            dist.gather(padded, group=self.group, group_dst=0)
            return None
        parts = [torch.empty_like(padded) for _ in range(self.processes)]
        dist.gather(padded, parts, group=self.group, group_dst=0)
        sizes = [len(slice_of(self.classes, rank, self.processes)) for rank in range(self.processes)]
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def deal(self, rows: Tensor) -> Tensor:
        """The own slice of rows `(classes, ...)` that the first process gives; the others give `(0, ...)` of them."""
        longest = len(slice_of(self.classes, self.processes - 1, self.processes))
        own = rows.new_empty(longest, *rows.shape[1:])
        if dist.get_rank(self.group):
            dist.scatter(own, group=self.group, group_src=0)
            return own[: len(self.own)].clone()
        starts = [slice_of(self.classes, rank, self.processes).start for rank in range(self.processes)]
        parts = [rows[start : start + longest].contiguous() for start in starts]
        dist.scatter(own, parts, group=self.group, group_src=0)
        return own[: len(self.own)].clone()
