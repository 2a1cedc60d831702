"""The main path of a training, on one page: recipe and photos in; weights, card, ONNX and log out.

Re-running the same command goes on where a killed training stopped, and ends with the same weights, bit for bit, on
the CPU with the same number of threads: every choice is a function of (seed, epoch, step, place), and all state is in
the checkpoint.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facespace.core.contracts import Embedder
from facespace.data.batches import Batch, Reader
from facespace.data.folder import People, open_people
from facespace.data.splits import split_people
from facespace.errors import DeviceUnavailable, TrainingError
from facespace.train import validate
from facespace.train.outcome import Outcome, finish
from facespace.train.recipe import Recipe
from facespace.train.runlog import RunLog, claim
from facespace.train.schedule import rate, side
from facespace.train.state import State
from facespace.train.teacher import teacher_vectors

Listener = Callable[[dict[str, Any]], None]
PATIENCE = 10
"""Batches in a row whose loss or gradient is not finite before the training stops."""


@dataclass(frozen=True)
class Where:
    """What a training runs on; none of it is part of the recipe. The number of threads may change the last bits."""

    device: str = "cpu"
    threads: int = 1
    workers: int = 0
    """Threads that read photos ahead of the training; the order of the photos does not depend on it."""
    log_every: int = 20
    """Steps between two rows of the log."""
    save_every: int = 500
    """Steps between two checkpoints."""


def train(
    recipe: Recipe,
    data: str | Path | People,
    run: str | Path,
    *,
    teacher: Embedder | None = None,
    where: Where | None = None,
    listen: Listener = lambda row: None,
) -> Outcome:
    """Train `recipe` on the people in `data` into the folder `run`, or go on where it stopped there.

    `listen` hears every row of the log. Raises TrainingError where `run` belongs to another recipe or data, or where
    the loss stays non-finite; DataError for data that cannot be trained on.
    """
    where, run = where or Where(), Path(run)
    device = prepare(recipe, teacher, where)
    everyone = data if isinstance(data, People) else open_people(data)
    people, held = split_people(everyone, recipe.held_out, recipe.seed)
    claim(run, recipe, everyone, teacher)
    targets = None if teacher is None else teacher_targets(everyone, people, teacher, listen)
    held_out = validate.read_held_out(held, recipe.trunk.size) if held.photos else None

    state = State.begin(recipe, people.labels, None if teacher is None else teacher.dim, device)
    passed = state.resume(run)
    log = RunLog(run, state.step, listen)
    for sentence in passed:
        log.note("warning", step=state.step, message=sentence)
    reader = Reader(people, recipe.augment, recipe.seed, where.workers)
    batches = stream(recipe, reader, state)
    while state.step < state.total:
        progress = state.step / state.total
        state.set_rate(rate(recipe.optimiser.rate, recipe.schedule, state.warmup, state.step, state.total))
        state.optimiser.zero_grad(set_to_none=True)
        logs: dict[str, float] = {}
        for _ in range(recipe.accumulate):
            batch = next(batches)
            faces = validate.tensor(batch.faces, device)
            with state.autocast(faces):
                embeddings = state.trunk(faces)
            wanted = None if targets is None else targets_of(targets, batch, device)
            out = state.objective(embeddings, batch, wanted, progress)
            (out.loss / recipe.accumulate).backward()
            logs = {"loss": float(out.loss.detach())} | out.logs
        norm = state.clip(recipe.clip_norm)
        if not np.isfinite(logs["loss"]) or not np.isfinite(norm):
            state.skip(batch.photos, PATIENCE)
        else:
            state.optimiser.step()
            state.bad_in_a_row = 0
        state.step += 1
        log.step(state, logs | {"gradient": norm, "side": float(batch.faces.shape[1])}, where.log_every)
        if held_out is not None and state.epoch_ends():
            state.consider(validate.score(state.trunk, held_out, batch.faces.shape[1]), log, batch.faces.shape[1])
        if state.step % where.save_every == 0 or state.step == state.total:
            state.save(run)
    return finish(state, recipe, run, log, reader.bad, everyone, teacher)


def prepare(recipe: Recipe, teacher: Embedder | None, where: Where) -> torch.device:
    """Check what is asked against what is there, and seed torch."""
    if recipe.teacher is not None and teacher is None:
        raise TrainingError(f"recipe {recipe.name!r} learns from a teacher", hint="name one: --teacher MODEL")
    if recipe.teacher is None and teacher is not None:
        raise TrainingError(
            f"recipe {recipe.name!r} has no use for a teacher", hint="leave --teacher out, or take another recipe"
        )
    if where.device == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable("no CUDA device is visible to torch", hint="--device cpu")
    torch.set_num_threads(where.threads)
    torch.manual_seed(recipe.seed)
    return torch.device(where.device)


def stream(recipe: Recipe, reader: Reader, state: State) -> Iterator[Batch]:
    """Batches from the state's position on, epoch after epoch, at the resolution of their step."""
    epoch, start = divmod(state.step * recipe.accumulate, state.per_epoch)
    while True:
        plan = recipe.sampler.epoch(reader.people.labels, recipe.seed, epoch)
        first = epoch * state.per_epoch

        def side_at(batch: int, first: int = first) -> int:
            return side(recipe.stages, (first + batch) // recipe.accumulate / state.total)

        yield from reader.batches(plan, epoch, start, side_at)
        epoch, start = epoch + 1, 0


def teacher_targets(everyone: People, people: People, teacher: Embedder, listen: Listener) -> Tensor:
    """The teacher's vectors of the training photos, float `(2, N, T)`: as they are, and mirrored."""
    vectors = teacher_vectors(
        teacher, everyone, lambda done, total: listen({"kind": "teacher", "done": done, "total": total})
    )
    place = {photo.name: i for i, photo in enumerate(everyone.photos)}
    return torch.from_numpy(vectors[:, [place[photo.name] for photo in people.photos]])


def targets_of(targets: Tensor, batch: Batch, device: torch.device) -> Tensor:
    """The teacher's vectors of a batch `(N, T)`."""
    return targets[torch.from_numpy(batch.flipped).long(), torch.from_numpy(batch.photos)].to(device)
