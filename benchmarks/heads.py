"""Margin head and BroadFace step against the usual code, in turns: time ratios and peak memory. JSON on stdout.

    pip install --no-deps pytorch-metric-learning scikit-learn scipy joblib threadpoolctl narwhals tqdm   # optional
    python benchmarks/heads.py [--rounds 7] [--threads 1] [--skip-large]

Head: forward and backward of ArcFace (m 0.5, s 64) for 128 embeddings of length 512. Contenders: cosines, margin on the
label's column alone, cross-entropy; the much-copied form with a one-hot mask; and ArcFaceLoss of
pytorch-metric-learning, where it is installed.
Queue: one step of BroadFace with 8,192 old embeddings, against the arrangement that materialises all logits: as the
authors' public code has it, with a one-hot mask, and with the margin on the label's column alone. Then one step at full
size (32,768 old embeddings, 85,742 people, SGD with momentum) of ours alone.

Time: contenders alternate, the ratio is the median over rounds of (theirs / ours). Memory: the highest resident size
during a step less what was resident before it, in a process of its own; class rows and embeddings are there before, the
gradient of the class rows (`gradient_mib`, which none can do without) is not.
"""

import argparse
import json
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from facespace.judge.environment import describe_environment
from facespace.losses import ArcFace, MarginHead
from facespace.losses.broadface import BroadFace, Memory

BATCH, DIM, SCALE, MARGIN = 128, 512, 64.0, 0.5
MIB = 1 << 20
Step = Callable[[], None]
"""Forward and backward; the gradients are dropped."""


def main() -> None:
    """Race the contenders and print what they took."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--skip-large", action="store_true", help="Leave out the step at full size.")
    asked = arguments.parse_args()
    torch.set_num_threads(asked.threads)
    document: dict[str, Any] = {
        "head": [race("head", classes, 0, asked.rounds, asked.threads) for classes in (10_000, 85_742)],
        "queue": [race("queue", 10_575, 8_192, asked.rounds, asked.threads)],
    }
    if not asked.skip_large:
        document["largest_step"] = largest(asked.threads)
    document["environment"] = describe_environment(asked.threads, "cpu", "", "")
    sys.stdout.write(json.dumps(document, indent=1) + "\n")


def race(kind: str, classes: int, queue: int, rounds: int, threads: int) -> dict[str, Any]:
    """Seconds and memory of all contenders, ours first, and the ratios of the others to it."""
    steps = {name: make(classes, queue) for name, make in CONTENDERS[kind].items() if present(name)}
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            taken[name].append(time.perf_counter() - began)
    del steps
    memory = {name: peak_mib(kind, name, classes, queue, threads) for name in taken}
    ours, *others = taken
    products = 3 if kind == "head" else 2  # cosines, gradient of the rows, and of the embeddings where they learn
    return {
        "classes": classes,
        "queue": queue,
        "seconds": {name: statistics.median(times) for name, times in taken.items()},
        "times_ours": {
            name: statistics.median(a / b for a, b in zip(taken[name], taken[ours], strict=True)) for name in others
        },
        "extra_mib": memory,
        "memory_of_ours": {name: memory[ours] / memory[name] for name in others},
        "gradient_mib": classes * DIM * 4 / MIB,
        "gemm_floor_s": products * 2 * (BATCH + queue) * classes * DIM / (gemm_rate() * 1e9),
    }


def batch(classes: int) -> tuple[Tensor, Tensor]:
    """Embeddings and labels, the same for all."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(BATCH, DIM, generator=generator), torch.randint(classes, (BATCH,), generator=generator)


def rows(classes: int) -> Tensor:
    """Class rows, the same for all."""
    return torch.randn(classes, DIM, generator=torch.Generator().manual_seed(1)).mul_(0.01).requires_grad_()


def stepping(loss: Callable[[Tensor, Tensor], Tensor], weight: Tensor, classes: int) -> Step:
    """A step of a loss of (embeddings, labels)."""
    start, labels = batch(classes)

    def step() -> None:
        embeddings = start.clone().requires_grad_()
        loss(embeddings, labels).backward()
        weight.grad = None

    return step


def our_head(classes: int, _: int) -> Step:
    """The head of this package."""
    head = MarginHead(classes, DIM, ArcFace(MARGIN), SCALE)
    head.weight = torch.nn.Parameter(rows(classes).detach())
    return stepping(lambda x, y: head(x, y).loss, head.weight, classes)


def label_column(cosines: Tensor, labels: Tensor) -> Tensor:
    """Loss with the margin on the column of the label."""
    target = cosines.gather(1, labels[:, None])
    bent = torch.cos(torch.acos(target.clamp(-1 + 1e-7, 1 - 1e-7)) + MARGIN)
    return F.cross_entropy(SCALE * cosines.scatter(1, labels[:, None], bent), labels)


def one_hot_mask(cosines: Tensor, labels: Tensor) -> Tensor:
    """Loss with the margin on all cosines, of which a mask chooses the label's; past pi - m a straight line."""
    cos_m, sin_m = math.cos(MARGIN), math.sin(MARGIN)
    sines = (1 - cosines.clamp(-1 + 1e-7, 1 - 1e-7) ** 2).sqrt()
    bent = cosines * cos_m - sines * sin_m
    bent = torch.where(cosines > -cos_m, bent, cosines - MARGIN * sin_m)
    mask = torch.zeros_like(cosines).scatter_(1, labels[:, None], 1.0)
    return F.cross_entropy(SCALE * (mask * bent + (1 - mask) * cosines), labels)


def plain_head(classes: int, _: int) -> Step:
    """The straightforward form: only the label's column is bent."""
    weight = rows(classes)
    return stepping(lambda x, y: label_column(F.linear(F.normalize(x), F.normalize(weight)), y), weight, classes)


def one_hot_head(classes: int, _: int) -> Step:
    """The much-copied form: all cosines are bent, a mask chooses."""
    weight = rows(classes)
    return stepping(lambda x, y: one_hot_mask(F.linear(F.normalize(x), F.normalize(weight)), y), weight, classes)


def metric_learning_head(classes: int, _: int) -> Step:
    """pytorch-metric-learning's ArcFaceLoss, whose margin is in degrees."""
    from pytorch_metric_learning.losses import ArcFaceLoss

    loss = ArcFaceLoss(classes, DIM, margin=MARGIN * 180 / torch.pi, scale=SCALE)
    loss.W.data.copy_(rows(classes).detach().T)
    return stepping(lambda x, y: loss(x, y), loss.W, classes)


def filled(classes: int, queue: int, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Old embeddings, their labels, and their class rows as they were."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(classes, (queue,), generator=generator)
    drift = 0.001 * torch.randn(queue, DIM, generator=generator)
    return torch.randn(queue, DIM, generator=generator), labels, weight.detach()[labels] + drift


def our_queue(classes: int, queue: int) -> Step:
    """The queue of this package, in evaluation: nothing is enqueued, so that each step is the same."""
    head = MarginHead(classes, DIM, ArcFace(MARGIN), SCALE)
    head.weight = torch.nn.Parameter(rows(classes).detach())
    net = BroadFace(head, Memory(queue)).eval()
    for kept, value in zip((net.embeddings, net.labels, net.rows), filled(classes, queue, head.weight), strict=True):
        kept.copy_(value)
    net.position[0] = queue
    return stepping(lambda x, y: net(x, y).loss, head.weight, classes)


def materialised(margin: Callable[[Tensor, Tensor], Tensor], classes: int, queue: int) -> Step:
    """Batch and queue side by side in one matrix of logits."""
    weight = rows(classes)
    old, old_labels, old_rows = filled(classes, queue, weight)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        ratio = old.norm(dim=1, keepdim=True) / old_rows.norm(dim=1, keepdim=True)
        moved = old + ratio * (weight.detach()[old_labels] - old_rows)
        everyone, labels = torch.cat([x.detach(), moved]), torch.cat([y, old_labels])
        encoder = margin(F.linear(F.normalize(x), F.normalize(weight.detach())), y)
        return encoder + margin(F.linear(F.normalize(everyone), F.normalize(weight)), labels)

    return stepping(loss, weight, classes)


CONTENDERS: dict[str, dict[str, Callable[[int, int], Step]]] = {
    "head": {
        "facespace": our_head,
        "plain PyTorch, label's column": plain_head,
        "plain PyTorch, one-hot": one_hot_head,
        "pytorch-metric-learning": metric_learning_head,
    },
    "queue": {
        "facespace": our_queue,
        "materialised logits, one-hot (the authors')": partial(materialised, one_hot_mask),
        "materialised logits, label's column": partial(materialised, label_column),
    },
}


def present(name: str) -> bool:
    """Whether a contender is installed."""
    try:
        import pytorch_metric_learning  # noqa: F401
    except ImportError:
        return name != "pytorch-metric-learning"
    return True


def peak_mib(kind: str, name: str, classes: int, queue: int, threads: int) -> float:
    """Extra memory of one step in a process of its own, after one step on few classes that loads what torch loads."""
    ours, its = multiprocessing.Pipe(duplex=False)
    arguments = (kind, name, classes, queue, threads, its)
    process = multiprocessing.get_context("spawn").Process(target=_measure, args=arguments)
    process.start()
    extra: float = ours.recv()
    process.join()
    return extra


def _measure(kind: str, name: str, classes: int, queue: int, threads: int, answer: Connection) -> None:
    torch.set_num_threads(threads)
    CONTENDERS[kind][name](1000, min(queue, 256))()
    step = CONTENDERS[kind][name](classes, queue)
    answer.send(extra_mib(step))


def extra_mib(step: Step) -> float:
    """The highest resident size during a step less that before it, in MiB (Linux)."""
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    step()
    return (resident("VmHWM") - before) / 1024


def resident(what: str) -> int:
    """A line of /proc/self/status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what + ":"))


def largest(threads: int) -> dict[str, Any]:
    """One training step at the size of the paper: seconds, and the highest resident size of the whole process."""
    ours, its = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_largest, args=(threads, its))
    process.start()
    document: dict[str, Any] = ours.recv()
    process.join()
    return document


def _largest(threads: int, answer: Connection) -> None:
    classes, queue = 85_742, 32_768
    torch.set_num_threads(threads)
    empty = resident("VmRSS") / 1024
    net = BroadFace(MarginHead(classes, DIM, ArcFace(MARGIN), SCALE), Memory(queue))
    for kept in (net.embeddings, net.rows):
        kept.normal_()
    net.labels.random_(classes)
    net.position[0] = queue
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    embeddings, labels = batch(classes)
    began = time.perf_counter()
    net(embeddings.requires_grad_(), labels).loss.backward()
    optimiser.step()
    answer.send(
        {
            "classes": classes,
            "queue": queue,
            "seconds": time.perf_counter() - began,
            "peak_mib_of_process": resident("VmHWM") / 1024,
            "of_it_before_anything_mib": empty,
            "class_rows_mib": classes * DIM * 4 / MIB,
            "buffers_of_queue_mib": sum(b.numel() * b.element_size() for b in net.buffers()) / MIB,
            "materialised_logits_mib": (BATCH + queue) * classes * 4 / MIB,
        }
    )


def gemm_rate() -> float:
    """GFLOP/s of a large product, the limit of all this."""
    a = torch.randn(2048, 2048)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - began)
    return 2 * 2048**3 / min(times) / 1e9


if __name__ == "__main__":
    main()
