"""BroadFace: a classifier that sees tens of thousands of people at once (Kim et al., ECCV 2020, arXiv 2008.06674).

A queue keeps past embeddings e⁻ with their labels and the class rows W⁻ of that moment. As the network learns, an old
embedding would have moved, about as its class row has: it is compensated (section 3.3),

    e* = e⁻ + (‖e⁻‖ / ‖W⁻‖) · (W - W⁻).

The encoder learns from the batch alone, against class rows that stand still; the class rows learn from the batch and
the whole queue, whose embeddings stand still. So no gradient of an old embedding ever reaches the encoder.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from facespace.errors import UsageError, check_choices
from facespace.losses import classes
from facespace.losses.head import Classifier, HeadOutput, MarginHead
from facespace.losses.margins import full_precision

Start = Literal["partial", "full"]
Vectors = Literal["raw", "unit"]
Rows = Literal["before", "after"]


@dataclass(frozen=True)
class Memory:
    """Settings of the queue; contradictions raise UsageError."""

    size: int = 8192
    """Embeddings remembered, Q; 0 gives the margin head alone (the paper: 8,192 on each of 4 GPUs)."""
    compensate: bool = True
    """Whether old embeddings follow their class rows."""
    start: Start = "partial"
    """`partial`: what is there is used at once; `full`: the queue teaches only when it is full."""
    after_steps: int = 0
    """Training batches in which the queue fills but teaches nothing."""
    vectors: Vectors = "raw"
    """`raw`: lengths as they are, in e and in W; `unit`: the rule on unit vectors, with e* as long as e⁻."""
    rows: Rows = "before"
    """Class rows stored as they were used in their step, or as the optimiser left them."""
    batch: bool = True
    """Whether the batch itself teaches the class rows too."""
    restore: bool = False
    """Whether a compensated embedding takes the place of the old one (then W⁻ becomes W), as a public copy does."""
    saved: bool = True
    """Whether the queue is part of checkpoints; else a restart has an empty one, and waits `after_steps` anew."""

    def __post_init__(self) -> None:
        if self.size < 0 or self.after_steps < 0:
            raise UsageError(f"a queue of {self.size} after {self.after_steps} steps", hint="both must be >= 0")
        check_choices(self, {"start": Start, "vectors": Vectors, "rows": Rows})
        if self.restore and not self.compensate:
            raise UsageError("nothing to restore without compensation", hint="compensate=True, or restore=False")
        if not self.batch and self.size == 0:
            raise UsageError("class rows would learn from nothing", hint="batch=True, or a queue")


class BroadFace(nn.Module):
    """A margin head with a memory; any margin, any number of sub-centres. The queue is a ring in buffers.

    Memory beside the head's: Q·(2·D + 2) numbers, and one block of old embeddings against all classes.
    """

    embeddings: Tensor
    rows: Tensor
    labels: Tensor
    centres: Tensor
    position: Tensor

    def __init__(self, head: MarginHead, memory: Memory | None = None) -> None:
        """Raises UsageError for a head that judges against sampled classes, or a slice of them."""
        super().__init__()
        if head.sample < 1 or head.shards is not None:
            raise UsageError("a queue is for all classes to see", hint="sample=1 and an unsharded head")
        self.head, self.memory = head, memory or Memory()
        size, dim = self.memory.size, head.weight.shape[-1]
        kept = self.memory.saved
        self.register_buffer("embeddings", torch.zeros(size, dim), persistent=kept)
        self.register_buffer("rows", torch.zeros(size, dim), persistent=kept)  # W⁻ of each
        self.register_buffer("labels", torch.zeros(size, dtype=torch.int64), persistent=kept)
        self.register_buffer("centres", torch.zeros(size, dtype=torch.int64), persistent=kept)
        # Length, place of the oldest (next to be overwritten), training batches so far, and how many of the newest wait
        # for the optimiser to move their class rows.
        self.register_buffer("position", torch.zeros(4, dtype=torch.int64), persistent=kept)

    @property
    def length(self) -> int:
        """Embeddings in the queue."""
        return int(self.position[0])

    def forward(self, embeddings: Tensor, labels: Tensor) -> HeadOutput:
        """L_enc of the batch plus L_cls of batch and queue; see `MarginHead.forward` for shapes, errors and logs.

        L_enc is the batch's mean; L_cls the mean over batch and queue, (Σ_X l + Σ_E l*) / (N + |E|). In training the
        batch is enqueued afterwards, with the class rows that it has just met, unless it is not finite; so is each of
        several batches that make one step. The log adds `queue`, its length, and `classifier_loss`; `loss` is the sum
        of both.
        """
        head = self.head
        head.check(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            features = full_precision(embeddings)
            head.remember(features, labels)
            if self.training and self.memory.rows == "after":
                self._take_rows_again()
            encoder = head.photo_losses(features, labels, head.classifier.detached())
            blocks = list(self._blocks(features.detach(), labels))
            taught = _Sum.apply(blocks, head, *head.classifier)  # type: ignore[no-untyped-call]
            loss = encoder.losses.mean() + head.penalty(features) + taught
            logs = head.logs(features, labels, encoder.scores)
            logs |= {"queue": float(self.length), "classifier_loss": float(taught.detach())}
            if self.training:
                self.position[2] += 1
                if bool(loss.isfinite() & features.isfinite().all()):  # one bad batch must not spoil all that follow
                    self._enqueue(features.detach(), labels)
            return HeadOutput(loss, logs)

    def compensated(self, part: slice, weight: Tensor) -> Tensor:
        """Embeddings of a part of the queue as they would be now, `(n, D)`, given the class rows as they are."""
        old, then = self.embeddings[part], self.rows[part]
        if not self.memory.compensate:
            return old
        now = self._rows_of(weight, self.labels[part], self.centres[part])
        old_length, then_length = (torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in (old, then))
        drift = (now - then) / then_length.clamp(min=classes.SHORTEST)
        if self.memory.vectors == "unit":
            drift = F.normalize(now) - F.normalize(then)
        moved: Tensor = old + old_length * drift
        return moved

    @staticmethod
    def _rows_of(weight: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
        rows: Tensor = weight[labels] if weight.ndim == 2 else weight[labels, centres]
        return rows

    def _teaching(self) -> bool:
        length, _, steps, _ = self.position.tolist()
        waits = steps < self.memory.after_steps or (self.memory.start == "full" and length < self.memory.size)
        return length > 0 and not waits

    def _blocks(self, features: Tensor, labels: Tensor) -> Iterator["Block"]:
        """Who teaches the class rows, in blocks whose cosines to all classes stay within `classes.KEPT_CELLS`."""
        length = self.length if self._teaching() else 0
        count = length + (len(features) if self.memory.batch or not length else 0)
        if self.memory.batch or not length:
            yield Block(lambda weight: features, labels, 1 / count)
        size = max(1, classes.KEPT_CELLS // self.head.weight[..., 0].numel())
        for start in range(0, length, size):
            part = slice(start, min(start + size, length))
            yield Block(partial(self._old, part), self.labels[part], 1 / count)

    def _old(self, part: slice, weight: Tensor) -> Tensor:
        """What a part of the queue teaches with; put back where that is asked for."""
        features = self.compensated(part, weight)
        if self.memory.restore and self.training:
            self.embeddings[part] = features
            self.rows[part] = self._rows_of(weight, self.labels[part], self.centres[part])
        return features

    @torch.no_grad()
    def _enqueue(self, features: Tensor, labels: Tensor) -> None:
        """Put the batch (its last Q, if it is longer) in place of the oldest."""
        size = self.memory.size
        length, oldest, steps, waiting = self.position.tolist()
        features, labels = features[-size:] if size else features[:0], labels[-size:] if size else labels[:0]
        weight = self.head.weight.detach()
        centres = torch.zeros_like(labels)
        if weight.ndim == 3:
            own = F.normalize(weight[labels], dim=2)  # (N, K, D)
            centres = torch.einsum("nd,nkd->nk", features, own).argmax(1)
        places = (oldest + torch.arange(len(labels), device=labels.device)) % max(size, 1)
        self.embeddings[places] = features.to(self.embeddings.dtype)
        self.rows[places] = self._rows_of(weight, labels, centres).to(self.rows.dtype)
        self.labels[places], self.centres[places] = labels, centres
        length, oldest = min(length + len(labels), size), (oldest + len(labels)) % max(size, 1)
        waiting = min(waiting + len(labels), size) if self.memory.rows == "after" else 0
        self.position.copy_(torch.tensor([length, oldest, steps, waiting]))

    @torch.no_grad()
    def _take_rows_again(self) -> None:
        """Store the class rows of the newest as the optimiser left them, once it has moved them."""
        _, oldest, _, waiting = self.position.tolist()
        places = (oldest - waiting + torch.arange(waiting, device=self.labels.device)) % max(self.memory.size, 1)
        rows = self._rows_of(self.head.weight, self.labels[places], self.centres[places]).to(self.rows.dtype)
        if not torch.equal(rows, self.rows[places]):
            self.rows[places] = rows
            self.position[3] = 0


@dataclass(frozen=True)
class Block:
    """Some embeddings that teach the class rows."""

    features: Callable[[Tensor], Tensor]
    """Class rows to embeddings `(n, D)`, which stand still."""
    labels: Tensor
    share: float
    """Weight of each of them in the sum."""


class _Sum(torch.autograd.Function):
    """The loss of many blocks, whose gradients in the class rows are taken one block at a time and added up.

    So one block's cosines live at a time, computed once, however long the queue.
    """

    @staticmethod
    def forward(ctx: Any, blocks: list[Block], head: MarginHead, *parameters: Tensor | None) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        leaves = [None if p is None else p.detach().requires_grad_(wanted) for p in parameters]
        asked = [leaf for leaf in leaves if leaf is not None]
        weight = asked[0]
        total, slopes = weight.new_zeros(()), tuple[Tensor, ...]()
        for block in blocks:
            features = block.features(weight.detach()).to(weight.dtype)
            with torch.set_grad_enabled(wanted):
                losses = head.photo_losses(features, block.labels, Classifier(weight, *leaves[1:]))
                loss = losses.losses.sum() * block.share
            total += loss.detach()
            if wanted:
                new = torch.autograd.grad(loss, asked)
                slopes = tuple(a.add_(b) for a, b in zip(slopes, new, strict=True)) if slopes else new
        ctx.slopes, ctx.present = slopes, [leaf is not None for leaf in leaves]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:
        slopes = iter(ctx.slopes)
        return None, None, *(next(slopes) * slope if here else None for here in ctx.present)
