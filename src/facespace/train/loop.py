"""The main path of a training, on one page: recipe and photos in; weights, card, ONNX and log out.

Re-running the same command goes on where a killed training stopped, and ends with the same weights, bit for bit, on
the CPU with the same number of threads: every choice is a function of (seed, epoch, step, place), and all state is in
the checkpoint.
"""

import contextlib
from collections.abc import Callable, Generator
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
from facespace.errors import DeviceUnavailable, UsageError
from facespace.train import validate
from facespace.train.cleaning import check_names, cleaned
from facespace.train.distributed import Silence, World
from facespace.train.mining import mined_batches
from facespace.train.outcome import Outcome, finish
from facespace.train.recipe import Recipe
from facespace.train.runlog import RunLog, claim
from facespace.train.schedule import rate, side
from facespace.train.start import Start
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
    onnx: bool = True
    """Whether the end writes `model.onnx` beside the torch weights; `facespace export` can do it later."""

    def __post_init__(self) -> None:
        if min(self.threads, self.log_every, self.save_every) < 1 or self.workers < 0:
            raise UsageError("threads, log_every and save_every are 1 or more, workers 0 or more")


def train(
    recipe: Recipe,
    data: str | Path | People,
    run: str | Path,
    *,
    teacher: Embedder | None = None,
    start: Path | None = None,
    clean_with: Path | None = None,
    where: Where | None = None,
    listen: Listener = lambda row: None,
) -> Outcome:
    """Train `recipe` on the people in `data` into the folder `run`, or go on where it stopped there.

    `start` is a finished run, or its `trunk.safetensors`, whose weights the training begins with; `clean_with` one of a
    recipe with sub-centres, whose doubts about photos are taken for true. `listen` hears every row of the log. Raises
    TrainingError where `run` belongs to another recipe or data, or where the loss stays non-finite; DataError for data
    that cannot be trained on; UsageError for a teacher too many or few. Where torch.distributed is set up, its
    processes share the work (see `train.distributed`), and each calls this.
    """
    where, run, world = where or Where(), Path(run), World.present()
    world.check(recipe)
    listen = listen if world.leads else lambda row: None
    device = prepare(recipe, teacher, where)
    everyone = data if isinstance(data, People) else open_people(data)
    people, held = split_people(everyone, recipe.held_out, recipe.seed)
    people = people.mislabelled(recipe.mislabelled, recipe.seed) if recipe.mislabelled else people
    first = None if start is None else Start.read(start, recipe)
    if clean_with is not None:
        check_names(clean_with, recipe, everyone)
    clean = None if clean_with is None else cleaned(people, clean_with, recipe.cleaning)
    people = people if clean is None else clean.people
    world.check_same(recipe, people)
    state = State.begin(recipe, people.labels, None if teacher is None else teacher.dim, device, world)
    held_out = validate.read_held_out(held, recipe.trunk.size) if held.photos and world.leads else None
    if world.leads:  # once the data are known to do: a training that cannot begin leaves no folder
        claim(run, recipe, everyone, teacher, *(None if part is None else part.digest for part in (first, clean)))
    targets = None if teacher is None else teacher_targets(everyone, people, teacher, listen)

    head = state.objective.margin_head
    begun = None if first is None else first.into(recipe, state.trunk, head, people)
    if begun is not None:
        state.given = frozenset(state.trunk.state_dict()) - frozenset(begun.fresh)
    passed = state.resume(run)
    part = world.part(recipe.sampler.batch)
    reader = Reader(people, recipe.augment, recipe.seed, where.workers, state.bad, part)
    written = RunLog(run, state.step, listen) if world.leads else Silence()
    with written as log, contextlib.closing(stream(recipe, reader, state)) as batches:
        if state.step == 0 and begun is not None and head is not None and (new := len(people.names) - begun.known):
            passed.append(f"class rows begin afresh for {new} of {len(people.names)} people")
        for sentence in passed:
            log.note("warning", step=state.step, message=sentence)
        if state.step == 0 and ((begun and begun.fresh) or clean):
            log.note("begin", step=0, fresh=begun.fresh if begun else [], dropped=list(clean.dropped) if clean else [])
        while state.step < state.total:
            progress, statistics = state.step / state.total, state.statistics()
            state.set_rate(rate(recipe.optimiser.rate, recipe.schedule, state.warmup, state.step, state.total))
            state.optimiser.zero_grad(set_to_none=True)
            state.freeze(progress)
            rows: list[dict[str, float]] = []
            for _ in range(recipe.accumulate):
                batch = next(batches)
                faces = validate.tensor(batch.faces, device)
                embeddings, grouped, batch = world.gather(*state.represent(faces), batch)
                wanted = None if targets is None else targets_of(targets, batch, device)
                out = state.objective(embeddings, batch, wanted, progress, grouped)
                (out.loss / recipe.accumulate).backward()
                rows.append({"loss": float(out.loss.detach())} | out.logs)
            world.average([state.trunk, state.objective])
            logs, norm, side_px = averaged(rows), state.clip(recipe.clip_norm), batch.faces.shape[1]
            if world.all(bool(np.isfinite(logs["loss"]) and np.isfinite(norm) and state.heads_finite())):
                state.optimiser.step()
                state.bad_in_a_row = 0
            else:
                state.skip(batch.photos, PATIENCE, statistics)
            state.step += 1
            log.step(state, logs | {"gradient": norm, "side": float(side_px)}, where.log_every)
            if held_out is not None and state.epoch_ends():
                state.consider(validate.score(state.trunk, held_out, side_px), log, side_px)
            if state.step % where.save_every == 0 or state.step == state.total:
                state.save(run)
        world.unite(state.objective)
        outcome = (
            finish(state, run, log, everyone, people, teacher, first, where.onnx) if isinstance(log, RunLog) else None
        )
        outcome = world.told(outcome)
        assert outcome is not None  # the first process has one
        return outcome


def prepare(recipe: Recipe, teacher: Embedder | None, where: Where) -> torch.device:
    """Check what is asked against what is there, and set torch's threads; the device."""
    if recipe.wants_teacher and teacher is None:
        raise UsageError(f"recipe {recipe.name!r} learns from a teacher", hint="name one: --teacher MODEL")
    if not recipe.wants_teacher and teacher is not None:
        raise UsageError(
            f"recipe {recipe.name!r} has no use for a teacher", hint="leave --teacher out, or take another recipe"
        )
    if recipe.harmonic is not None and teacher is not None and teacher.dim != recipe.trunk.dim:
        lengths = f"{recipe.name!r} gives vectors of length {recipe.trunk.dim}, {teacher.name!r} of {teacher.dim}"
        raise UsageError(f"{lengths}: they could not be compared", hint="an older model of the same length")
    if where.device != "cpu" and not (where.device == "cuda" and torch.cuda.is_available()):
        raise DeviceUnavailable(f"there is no device {where.device!r} (torch sees none)", hint="--device cpu")
    torch.set_num_threads(where.threads)
    return torch.device(where.device)


def averaged(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over the batches of a step that define it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}


def stream(recipe: Recipe, reader: Reader, state: State) -> Generator[Batch]:
    """Batches from the state's position on, epoch after epoch, at the resolution of their step."""
    if recipe.offline is not None:
        yield from mined_batches(reader, state)
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
