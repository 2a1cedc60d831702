"""The cases of test_sharded in several processes, forked before torch has done anything; results as files.

Run as a program with a folder and numbers of processes: `sharded_processes.py FOLDER 2 4`. Each process leaves what it
found in `FOLDER/PROCESSES-RANK.pt`. Everything is float64.
"""

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from facespace.errors import DataError, UsageError
from facespace.losses import MARGINS, ArcFace, NormFace, Softmax, sharded
from facespace.losses.adaptive import ADAPTIVE
from facespace.losses.head import AnyMargin, HeadOutput, MarginHead
from facespace.losses.sharded import AllReduce, ShardedHead, gather

CLASSES, DIM, BATCH, STEPS = 11, 6, 12, 3
"""11 classes make slices of 5 and 6, or of 2, 3, 3 and 3."""
RATE = 0.5


@dataclass(frozen=True)
class Case:
    margin: AnyMargin
    options: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    """Of the loss."""

    def head(self, kind: Callable[..., MarginHead]) -> MarginHead:
        torch.manual_seed(3)
        head = kind(CLASSES, DIM, self.margin, 16.0, seed=5, **self.options).double()
        if head.bias is not None:
            ramp = torch.linspace(-1, 1, CLASSES, dtype=torch.float64)
            own = getattr(head, "own", range(CLASSES))
            head.bias.data.copy_(ramp[own.start : own.stop])
        return head


CASES = {
    **{name: Case(margin()) for name, margin in (MARGINS | ADAPTIVE).items()},
    "sub-centres": Case(ArcFace(0.3), {"centres": 3}),
    "sub-centres of others apart": Case(ArcFace(0.3), {"centres": 2, "pool_others": False}),
    "learned scale": Case(NormFace(), {"learn_scale": True}),
    "curricularface, sub-centres, learned scale": Case(
        ADAPTIVE["curricularface"](), {"centres": 2, "learn_scale": True}, weight=0.7
    ),
    "sampled": Case(ArcFace(0.3), {"sample": 0.7}),
    "sampled adaface with sub-centres": Case(ADAPTIVE["adaface"](), {"sample": 0.6, "centres": 2}),
    "positives alone": Case(ArcFace(0.3), {"sample": 0.1}),
}


def trunk() -> nn.Module:
    """Without statistics of the batch: the gradient of a batch is the mean of its parts'."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.PReLU(), nn.Flatten(), nn.Linear(36, DIM))
    return net.double()


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Faces and labels; some classes come twice, some not at all."""
    g = torch.Generator().manual_seed(step)
    faces = torch.randn(BATCH, 3, 8, 8, generator=g, dtype=torch.float64)
    return 9 * faces, torch.randint(CLASSES - 3 * (step % 2), (BATCH,), generator=g)


def descended(parameters: list[nn.Parameter]) -> None:
    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.sub_(RATE * parameter.grad)


def figures(out: HeadOutput, net: nn.Module, head: MarginHead) -> dict[str, Any]:
    """What a step shows, before the weights move."""
    found = {f"trunk.{name}": p.grad for name, p in net.named_parameters()}
    found |= {f"head.{name}": p.grad for name, p in head.named_parameters()}
    found |= {f"memory.{name}": value for name, value in head.memory.items()}
    copied = {name: None if value is None else value.detach().clone() for name, value in found.items()}
    return {"loss": float(out.loss.detach()), "logs": out.logs, **copied}


def train(case: Case) -> list[dict[str, Any]]:
    """Some steps with this process's part of the batch and slice of the classes."""
    net, head = trunk(), case.head(ShardedHead)
    assert isinstance(head, ShardedHead)
    rank, processes = dist.get_rank(), dist.get_world_size()
    share = BATCH // processes
    steps = []
    for step in range(STEPS):
        faces, labels = batch(step)
        net.zero_grad()
        head.zero_grad()
        chosen = _chosen(head, labels)
        part = net(faces[rank * share :][:share])
        part.retain_grad()
        out = head(gather(part), labels)
        (case.weight * out.loss).backward()
        meant = [p for name, p in [*net.named_parameters(), *head.named_parameters()] if name not in ("weight", "bias")]
        for parameter in meant:
            assert parameter.grad is not None
            dist.all_reduce(parameter.grad)
            parameter.grad /= processes
        whole = {name: head.collect(p.grad) for name, p in head.named_parameters() if p.grad is not None and p.ndim}
        found = figures(out, net, head) | {f"head.{name}": value for name, value in whole.items()}
        steps.append(found | {"part": part.grad, "chosen": chosen})
        descended([*net.parameters(), *head.parameters()])
    return steps


def _chosen(head: ShardedHead, labels: Tensor) -> Tensor:
    """The classes of this slice that the next step will take, as all processes number them."""
    here = (labels >= head.own.start) & (labels < head.own.stop)
    if head.sample == 1:
        return torch.arange(head.own.start, head.own.stop)
    chosen, _ = head._sampled(torch.where(here, labels - head.own.start, -1))
    head.steps -= 1
    return chosen + head.own.start


def beginning() -> dict[str, Any]:
    """Fresh rows and what the generator says after them, in blocks and at once; rows there and back."""
    found: dict[str, Any] = {}
    for name, block in (("blocks", 16), ("at once", 1 << 14)):
        sharded.BLOCK_ROWS = block
        torch.manual_seed(3)
        head = ShardedHead(75, 6, ArcFace(), centres=3)
        whole = head.collect(head.weight)
        found[name] = {"rows": whole, "after": torch.rand(3)}
        again = head.deal(head.weight[:0].detach() if whole is None else whole)
        found[name]["there and back"] = bool(torch.equal(again, head.weight))
    return found


def together() -> dict[str, Tensor]:
    rank = dist.get_rank()
    low = torch.tensor([-torch.inf, 1000.0 + rank, -torch.inf if rank else 2.0], dtype=torch.float64)
    reduce = AllReduce()
    return {"sum": reduce.sum(low[1:2]), "max": reduce.max(low), "logsumexp": reduce.logsumexp(low), "given": low}


def refusals() -> dict[str, str]:
    """What each wrong use is answered with."""
    head = ShardedHead(CLASSES, DIM, Softmax())
    ones = torch.ones(2, DIM)
    attempts: dict[str, Callable[[], object]] = {
        "classes": lambda: ShardedHead(dist.get_world_size() - 1, DIM, Softmax()),
        "label": lambda: head(ones, torch.tensor([0, CLASSES])),
        "negative": lambda: head(ones, torch.tensor([0, -1])),
        "shape": lambda: head(torch.ones(2, DIM + 1), torch.tensor([0, 1])),
        "type": lambda: head(ones, torch.tensor([0.0, 1.0])),
    }
    answers = {}
    for name, attempt in attempts.items():
        try:
            attempt()
        except (UsageError, DataError) as error:
            answers[name] = f"{type(error).__name__}: {error}"
    return answers


def evaluated() -> HeadOutput:
    """A head in evaluation meets all classes, and remembers nothing."""
    head = CASES["sampled adaface with sub-centres"].head(ShardedHead).eval()
    faces, labels = batch(0)
    with torch.no_grad():
        out: HeadOutput = head(trunk()(faces), labels)
    return out


def work(folder: Path, rank: int, processes: int) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder / f'store-{processes}'}"
    dist.init_process_group("gloo", store, timedelta(seconds=60), processes, rank)
    out = evaluated()
    found = {
        "cases": {name: train(case) for name, case in CASES.items()},
        "beginning": beginning(),
        "together": together(),
        "refusals": refusals(),
        "evaluated": {"loss": float(out.loss), "logs": out.logs},
    }
    torch.save(found, folder / f"{processes}-{rank}.pt")
    dist.destroy_process_group()


def fork(folder: Path, processes: int) -> bool:
    """So many processes at work; whether all ended well."""
    children = []
    for rank in range(processes):
        if (child := os.fork()) == 0:
            try:
                work(folder, rank, processes)
                os._exit(0)
            finally:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children] == [0] * processes


if __name__ == "__main__":
    ended = [fork(Path(sys.argv[1]), int(processes)) for processes in sys.argv[2:]]
    sys.exit(not all(ended))
