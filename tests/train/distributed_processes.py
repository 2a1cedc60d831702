"""Trainings in several processes, forked before torch has done anything; told by files.

Run as a program: `distributed_processes.py FOLDER PEOPLE`. It prints how the processes of each stage ended; each
writes `FOLDER/STAGE-RANK.json`: its error, if any, and the digest of its trunk and the kind of its head whenever it
saved. The trunk has no normalisation over the batch, so that one process and several can be compared.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import io
import json
import os
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tiny_training import TINY, Projection, quick_export
from torch import Tensor, nn

from facespace.cli import app
from facespace.data.sampler import PeopleByPhotos, Shuffled
from facespace.errors import FacespaceError
from facespace.losses import ArcFace, Softmax, Triplet
from facespace.losses.adaptive import CurricularFace
from facespace.losses.agents import Inter
from facespace.losses.auxiliary import Center
from facespace.losses.broadface import Memory
from facespace.losses.groupface import GroupLabels
from facespace.losses.harmonic import Harmonic
from facespace.models.nets import trunks
from facespace.models.nets.groupface import Groups
from facespace.models.nets.trunks import TrunkSpec
from facespace.train import checkpoint, outcome, recipes
from facespace.train.distributed import joined
from facespace.train.loop import Where, train
from facespace.train.recipe import SGD, AdaGrad, AdamW, Labels, Recipe, Teacher
from facespace.train.state import State

OFTEN = Where(save_every=4, log_every=1)
STEPS = 15


class Flat(nn.Module):
    """A convolution and its embedding layer, `fc`, without statistics of the batch."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.conv, self.act, self.pool = nn.Conv2d(3, 4, 3, 2), nn.PReLU(4), nn.AdaptiveAvgPool2d(4)
        self.fc = nn.Linear(64, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.pool(self.act(self.conv(x))).flatten(1))
        return out


trunks.TRUNKS["flat"] = Flat  # known while recipes are made
FLAT = dataclasses.replace(TINY, name="flat", trunk=TrunkSpec("flat", 48, 16), optimiser=SGD(0.2))
PAIRS = PeopleByPhotos(4, 2)
SHORT = dataclasses.replace(FLAT, epochs=1.4, held_out=0)
PLAIN = Groups(3, shared=12, hidden=5, norm="none")
HARD = dataclasses.replace(PLAIN, mode="hard", train_mode="hard")
GROUPED, HARD_GROUPED = (TrunkSpec("flat", 48, 16, groups) for groups in (PLAIN, HARD))
EQUAL: dict[str, Recipe] = {
    "arcface": dataclasses.replace(
        FLAT, labels=Labels(ArcFace(0.3), 16.0, growth=(0.2, 0.7), centres=2), sampler=Shuffled(12), epochs=5
    ),
    "softmax": dataclasses.replace(SHORT, labels=Labels(Softmax()), optimiser=AdamW(0.01), accumulate=2),
    "curricularface": dataclasses.replace(SHORT, labels=Labels(CurricularFace(0.3), 16.0, learn_scale=True)),
    "groupface": dataclasses.replace(SHORT, trunk=GROUPED, group_labels=GroupLabels(window=3)),
    "hard groups": dataclasses.replace(SHORT, trunk=HARD_GROUPED, optimiser=AdaGrad(0.02)),
    "broadface": dataclasses.replace(SHORT, memory=Memory(20), auxiliary=(Center(), Inter())),
    "taught triplets": dataclasses.replace(
        SHORT, labels=None, triplet=Triplet(negatives="semihard_random"), teacher=Teacher(), sampler=PAIRS
    ),
    "harmonic": dataclasses.replace(
        SHORT, trunk=TrunkSpec("flat", 48, 12), labels=None, harmonic=Harmonic(freeze_share=0.4), sampler=PAIRS
    ),
}
"""What several processes do as one; class rows are spread but for `broadface`."""
SAMPLED = dataclasses.replace(SHORT, labels=Labels(ArcFace(0.3), 16.0, sample=0.5))
del trunks.TRUNKS["flat"]  # who imports this keeps the table as it is


def killed_after(step: int) -> Callable[[dict[str, Any]], None]:
    """Ears of the first process, which end it."""

    def listen(row: dict[str, Any]) -> None:
        if row["kind"] == "step" and row["step"] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return listen


def one(recipe: Recipe, people: Path, run: Path, **options: Any) -> None:
    """One training in a group that is there, as every process calls it."""
    teacher = Projection() if recipe.wants_teacher else None
    train(recipe, people, run, teacher=teacher, where=OFTEN, **options)


def spoilt(people: Path, run: Path) -> None:
    """A training in whose third step the class rows of the second process alone have a gradient that is not finite."""
    begin, steps = State.begin, iter(range(STEPS))

    def begin_with_a_trap(*arguments: Any) -> State:
        state = begin(*arguments)
        head = state.objective.margin_head
        assert head is not None
        bad = {2} if rank() == 1 else set()
        head.weight.register_hook(lambda slope: slope * (torch.inf if next(steps) in bad else 1.0))  # type: ignore[no-untyped-call]
        return state

    State.begin = begin_with_a_trap  # type: ignore[method-assign, assignment]
    one(SHORT, people, run)


def stages(folder: Path, people: Path) -> list[tuple[str, int, Callable[[], Any]]]:
    """(name, number of processes, what each does), one after another."""

    def every(processes: int) -> None:
        for name, recipe in EQUAL.items():
            begin = folder / "arcface-1" if recipe.harmonic is not None else None
            one(recipe, people, folder / f"{name}-{processes}", start=begin)

    def resumed(processes: int) -> None:
        run = folder / f"resumed-{processes}"
        if rank() == 0:
            shutil.copytree(folder / "killed", run)
        one(EQUAL["arcface"], people, run)

    def command() -> dict[str, Any]:
        sys.argv = ["facespace", "train", str(people), "--recipe", "flat", "--run", str(folder / "command"), "--json"]
        with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
            app()
        return {"said": said.getvalue()}

    start = folder / "arcface-1"
    return [
        ("one", 1, lambda: every(1)),
        ("two", 2, lambda: every(2)),
        ("killed", 2, lambda: one(EQUAL["arcface"], people, folder / "killed", listen=killed_after(10))),
        ("resumed by one", 1, lambda: resumed(1)),
        ("resumed by four", 4, lambda: resumed(4)),
        ("sampled", 2, lambda: one(SAMPLED, people, folder / "sampled")),
        ("spoilt", 2, lambda: spoilt(people, folder / "spoilt")),
        ("started", 2, lambda: one(EQUAL["arcface"], people, folder / "started-2", start=start)),
        ("started by one", 1, lambda: one(EQUAL["arcface"], people, folder / "started-1", start=start)),
        ("other recipes", 2, lambda: one(dataclasses.replace(FLAT, seed=rank()), people, folder / "other")),
        ("uneven", 2, lambda: one(dataclasses.replace(FLAT, sampler=Shuffled(7)), people, folder / "uneven")),
        ("command", 2, command),
    ]


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def work(folder: Path, stage: str, rank: int, processes: int, port: int, do: Callable[[], Any]) -> None:
    """One process of a stage: joins as torchrun has it join, does its part, and writes how it ended."""
    torch.set_num_threads(1)
    if processes > 1:
        there = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1"}
        os.environ |= {key: str(value) for key, value in there.items()} | {"MASTER_PORT": str(port)}
    told: dict[str, Any] = {"saved": []}
    save = State.save

    def told_and_saved(state: State, run: Path) -> None:
        weights = b"".join(value.numpy().tobytes() for value in state.trunk.state_dict().values())
        told["saved"].append([hashlib.sha256(weights).hexdigest(), type(state.objective.margin_head).__name__])
        save(state, run)

    State.save = told_and_saved  # type: ignore[method-assign, assignment]
    try:
        if stage == "command":
            told |= do()
        else:
            with joined("cpu", timeout_s=60):
                do()
    except FacespaceError as error:
        told["error"] = f"{type(error).__name__}: {error}"
    (folder / f"{stage}-{rank}.json").write_text(json.dumps(told))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def fork(folder: Path, stage: str, processes: int, do: Callable[[], Any]) -> list[int]:
    """How the processes of a stage ended."""
    children, port = [], free_port()
    for number in range(processes):
        if (child := os.fork()) == 0:
            try:
                work(folder, stage, number, processes, port, do)
                os._exit(0)
            finally:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    for slow in ("torch._dynamo", "torch.utils.tensorboard"):  # loaded here once, not in every process
        importlib.import_module(slow)
    checkpoint.KEEP = STEPS
    trunks.TRUNKS["flat"], recipes.RECIPES["flat"] = Flat, FLAT
    setattr(outcome, "export_onnx", quick_export)  # noqa: B010 (not a name that outcome offers)
    folder, people = Path(sys.argv[1]), Path(sys.argv[2])
    asked = stages(folder, people)
    sys.stdout.write(json.dumps({name: fork(folder, name, processes, do) for name, processes, do in asked}))
