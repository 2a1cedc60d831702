"""A training on several processes, of one machine or many, that torchrun has started.

Each process computes the embeddings of its part of a batch; these are gathered, and every process sees the whole batch
in its heads, mining and memories among them. The rows of a margin head are spread where nothing else reads them
(`losses.sharded`); other heads are the same everywhere. So apart from two things a training is that of one process, to
rounding: normalisations in the trunk know their process's part of the batch, as those of the papers know their GPU's,
and sampled classes are drawn in each slice. The first process alone writes: log, checkpoints as one process would write
them, and models. Its running means are the ones that are judged and kept.

The trunk's gradients are averaged in one piece after the backward pass, and not by DistributedDataParallel, which
forbids what recipes here do: layers that rest for a while (harmonic), or that a loss does not reach (hard groups).
"""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from facespace.data.batches import Batch
from facespace.data.folder import People
from facespace.errors import DeviceUnavailable, TrainingError, UsageError
from facespace.losses.margins import full_precision
from facespace.losses.sharded import ShardedHead, gather
from facespace.models.nets.groupface import Grouped
from facespace.train.recipe import Recipe

T = TypeVar("T")
TIMEOUT_S = 1800.0
"""How long a process waits for the others: longer than judging held-out people or writing a model takes."""


@contextlib.contextmanager
def joined(device: str, timeout_s: float = TIMEOUT_S) -> Iterator["World"]:
    """Join the processes that torchrun has started, over gloo, and nccl between GPUs; alone where it has not.

    Where another process ends, or does not answer in time, TrainingError is raised instead of waiting for ever.
    """
    if "WORLD_SIZE" not in os.environ or not dist.is_available() or dist.is_initialized():
        yield World.present()
        return
    cuda, local = device == "cuda" and torch.cuda.is_available(), int(os.environ.get("LOCAL_RANK", 0))
    if cuda and local >= torch.cuda.device_count():
        raise DeviceUnavailable(f"there is no GPU for process {local} of this machine", hint="a process for each GPU")
    if cuda:
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=timedelta(seconds=timeout_s))
    try:
        yield World.present()
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        hint = "it says why; then run the same command again"
        raise TrainingError("another process of this training has ended, or does not answer", hint=hint) from error
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True)
class World:
    """The processes of a training; alone, its methods do nothing but give back what they are given.

    What a method is called with may differ between processes, but all of them must call it.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def present(cls) -> Self:
        """Those of torch's default process group."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def leads(self) -> bool:
        """Whether this process is the one that judges, logs and saves."""
        return self.rank == 0

    def check(self, recipe: Recipe) -> None:
        """UsageError for a recipe that several processes would not follow as one does."""
        if self.size == 1:
            return
        if recipe.offline is not None:
            message = "offline mining looks at photos with the running means of one process"
            raise UsageError(f"{message}, and each has others", hint="one process, or online mining")
        part, rest = divmod(recipe.sampler.batch, self.size)
        if rest or part < 2:
            message = f"a batch of {recipe.sampler.batch} does not give {self.size} processes equal parts of 2 or more"
            raise UsageError(message, hint="another batch, or another number of processes")

    def part(self, batch: int) -> slice:
        """The places of a batch of so many photos that are this process's to read."""
        share = batch // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def check_same(self, recipe: Recipe, people: People) -> None:
        """TrainingError where processes were started with other recipes, photos or torch than the first."""
        named = "\n".join(f"{photo.person}/{photo.name}" for photo in people.photos) if self.size > 1 else ""
        mine = (recipe.digest, hashlib.sha256(named.encode("utf-8", "surrogateescape")).digest(), torch.__version__)
        if not self.all(mine == self.told(mine)):
            hint = "start all with the same command, on the same photos"
            raise TrainingError("the processes do not agree on recipe, photos or version of torch", hint=hint)

    def shards(self, recipe: Recipe) -> bool:
        """Whether class rows are spread: not where a queue or another term reads those of all classes."""
        return self.size > 1 and recipe.memory is None and not any(term.reads_classes for term in recipe.auxiliary)

    def told(self, value: T) -> T:
        """What the first process gives."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def all(self, fine: bool) -> bool:
        """Whether it is so on every process."""
        if self.size == 1:
            return fine
        failed = torch.tensor(float(not fine))
        dist.all_reduce(failed)
        return float(failed) == 0

    def union(self, found: dict[str, str]) -> dict[str, str]:
        """What all processes found."""
        if self.size == 1:
            return found
        every: list[dict[str, str]] = [{}] * self.size
        dist.all_gather_object(every, found)
        return {key: value for part in every for key, value in part.items()}

    def average(self, modules: Iterable[nn.Module]) -> None:
        """Replace gradients by their means over the processes; those of spread class rows are whole as they are."""
        if self.size == 1:
            return
        whole = {id(p) for module in modules for head in module.modules() for p in _spread(head).values()}
        parameters = [p for module in modules for p in module.parameters() if id(p) not in whole]
        slopes = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([slope.flatten() for slope in slopes])
        dist.all_reduce(flat)
        flat /= self.size
        for slope, mean in zip(slopes, torch.split(flat, [slope.numel() for slope in slopes]), strict=True):
            slope.copy_(mean.view(slope.shape))

    def gather(self, embeddings: Tensor, grouped: Grouped | None, batch: Batch) -> tuple[Tensor, Grouped | None, Batch]:
        """What the trunk says of the whole batch, with gradients, and its labels; the faces stay those of the part."""
        if self.size == 1:
            return embeddings, grouped, batch
        counts = gather(torch.tensor([len(batch.labels)])).tolist()
        table = torch.from_numpy(np.stack([batch.labels, batch.photos, batch.flipped], 1))  # (n, 3)
        labels, photos, flipped = _padded(table, counts).T.numpy()
        whole = Batch(batch.faces, labels, photos, flipped.astype(np.bool_))
        if grouped is None:
            return _padded(full_precision(embeddings), counts), None, whole
        grouped = Grouped(*(_padded(full_precision(part), counts) for part in grouped))
        return grouped.embedding, grouped, whole

    def collect(self, saved: dict[str, Any], objective: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        """A checkpoint with the class rows of all, and what the optimiser keeps of them; whole on the first process."""
        steps = {number: dict(kept) for number, kept in saved["optimiser"]["state"].items()}
        saved = saved | {"optimiser": saved["optimiser"] | {"state": steps}}
        for head, box, key in list(_spread_in(saved, objective, optimiser)):
            box[key] = head.collect(box[key])
        return saved

    def deal(
        self, saved: dict[str, Any] | None, objective: nn.Module, optimiser: torch.optim.Optimizer
    ) -> dict[str, Any] | None:
        """The checkpoint that the first process gives, to each its part of it; `best` stays with the first."""
        if self.size == 1:
            return saved
        best, rows = {}, []
        if saved is not None:
            best, saved["best"] = saved["best"], {}
            for _, box, key in list(_spread_in(saved, objective, optimiser)):
                rows.append(box[key])
                box[key] = box[key].new_empty(0, *box[key].shape[1:])
        saved = self.told(saved)
        if saved is not None:
            for place, (head, box, key) in enumerate(list(_spread_in(saved, objective, optimiser))):
                box[key] = head.deal(rows[place] if self.leads else box[key])
            saved["best"] = best
        return saved

    def unite(self, objective: nn.Module) -> None:
        """After the last step: the heads of the first process hold the rows of all classes."""
        for head in objective.modules():
            for name, parameter in _spread(head).items():
                assert isinstance(head, ShardedHead)
                whole = head.collect(parameter)
                if whole is not None:
                    setattr(head, name, nn.Parameter(whole))


def _padded(part: Tensor, counts: list[int]) -> Tensor:
    """The rows of all processes, `(sum of counts, ...)`, from each its `(count, ...)`."""
    longest = max(counts)
    whole = gather(F.pad(part, (0, 0) * (part.ndim - 1) + (0, longest - len(part))))
    if min(counts) == longest:
        return whole
    return torch.cat([whole[i * longest :][:count] for i, count in enumerate(counts)])


def _spread(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that lie in slices on the processes: a row for each class."""
    if not isinstance(module, ShardedHead):
        return {}
    return {name: parameter for name, parameter in module.named_parameters() if parameter.ndim > 0}


def _spread_in(
    saved: dict[str, Any], objective: nn.Module, optimiser: torch.optim.Optimizer
) -> Iterator[tuple[ShardedHead, dict[Any, Any], Any]]:
    """Where a checkpoint holds what lies in slices: its head, and the container and key of the tensor."""
    order = [id(parameter) for group in optimiser.param_groups for parameter in group["params"]]
    for name, head in objective.named_modules():
        for part, parameter in _spread(head).items():
            assert isinstance(head, ShardedHead)
            yield head, saved["objective"], f"{name}.{part}"
            kept = saved["optimiser"]["state"].get(order.index(id(parameter)), {})
            for key, value in kept.items():
                if isinstance(value, Tensor) and value.ndim == parameter.ndim:
                    yield head, kept, key


class Silence:
    """The log of a process that does not write one."""

    def note(self, kind: str, **what: Any) -> None:
        """Nothing."""

    def step(self, state: object, logs: dict[str, float], every: int) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing."""
