"""Does BroadFace's compensation follow the encoder? Queued embeddings against the same faces embedded anew. JSON out.

    python benchmarks/compensation.py DATA START [--steps 128] [--out docs]

Trains the variant `queue_8k` of the plan `broadface` from the run START (that plan's start on the same DATA) for some
steps. Then the faces of the last 64 batches, augmented as they were, go through the encoder as it is now, with the
batch statistics of training. What is left between a queued embedding and the new one is the angle of its error: as
stored, and compensated. Intervals: 95 %, over 1,000 draws of people.
"""

import argparse
import copy
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from trainings import STYLE

from facespace.core.resampling import percentile_interval
from facespace.data.batches import Reader
from facespace.data.folder import open_people
from facespace.judge.charts import Axis, Series, line_chart
from facespace.judge.environment import describe_environment
from facespace.losses.broadface import BroadFace
from facespace.train import plans, validate
from facespace.train.schedule import rate
from facespace.train.start import Start
from facespace.train.state import State

VARIANT = "queue_8k"


def main() -> None:
    """Train some steps, embed the queue anew, print the errors and draw them."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("data", type=Path)
    arguments.add_argument("start", type=Path)
    arguments.add_argument("--steps", type=int, default=128)
    arguments.add_argument("--out", type=Path, default=Path("docs"))
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    document, chart = measured(asked.data, asked.start, asked.steps)
    text = json.dumps(document, indent=1) + "\n"
    (asked.out / "results" / "compensation.json").write_text(text, encoding="utf-8")
    head, body = chart.split(">", 1)
    picture = f'{head} xmlns="http://www.w3.org/2000/svg">{STYLE}{body}\n'
    (asked.out / "pictures" / "compensation.svg").write_text(picture, encoding="utf-8")
    sys.stdout.write(text)


def measured(data: Path, start: Path, steps: int) -> tuple[dict[str, Any], str]:
    """The errors after so many steps, as a document and as a picture."""
    people = open_people(data)
    recipe = dataclasses.replace(plans.PLANS["broadface"].variant(VARIANT).recipe, seed=0)
    state = State.begin(recipe, people.labels, None, torch.device("cpu"))
    Start.read(start, recipe).into(recipe, state.trunk, state.objective.margin_head, people)
    reader = Reader(people, recipe.augment, recipe.seed)
    plan = recipe.sampler.epoch(people.labels, recipe.seed, 0)
    for step in range(steps):
        learn(state, reader, plan, step)
    queue = state.objective.labels
    assert isinstance(queue, BroadFace)
    batch = recipe.sampler.batch
    ages = np.arange(1, queue.length // batch + 1)
    stored, moved, labels = by_age(queue, ages, batch)
    errors: dict[str, list[NDArray[np.float64]]] = {"as stored": [], "compensated": []}
    who = []
    for age, old, followed, owner in zip(ages, stored, moved, labels, strict=True):
        faces = reader.batch(plan[steps - age], 0, int(steps - age), recipe.trunk.size)
        assert np.array_equal(faces.labels, owner.numpy())
        with torch.no_grad():
            now, _ = copy.deepcopy(state).represent(validate.tensor(faces.faces, torch.device("cpu")))
        errors["as stored"].append(angles_deg(old, now))
        errors["compensated"].append(angles_deg(followed, now))
        who.append(owner.numpy())
    document = {
        "variant": VARIANT,
        "steps": steps,
        "queue": queue.length,
        "rate": state.optimiser.param_groups[0]["lr"],
        "mean_angle_deg": {name: summary(np.concatenate(v), np.concatenate(who)) for name, v in errors.items()},
        "difference_deg": summary(
            np.concatenate(errors["compensated"]) - np.concatenate(errors["as stored"]), np.concatenate(who)
        ),
        "share_nearer_when_compensated": float(
            np.mean(np.concatenate(errors["compensated"]) < np.concatenate(errors["as stored"]))
        ),
        "by_age_in_steps": {name: [round(float(a.mean()), 3) for a in values] for name, values in errors.items()},
        "data": people.digest[:16],
        "environment": describe_environment(1, "cpu", "", ""),
    }
    lines = [Series(name, ages, [a.mean() for a in values]) for name, values in errors.items()]
    top = max(float(a.mean()) for values in errors.values() for a in values)
    up = Axis("mean angle to the face now, degrees", 0, 1.1 * top)
    return document, line_chart("Error of queued embeddings", Axis("age in steps", 0, int(ages[-1])), up, lines)


def learn(state: State, reader: Reader, plan: NDArray[np.int64], step: int) -> None:
    """One step, as the loop takes it."""
    recipe = state.recipe
    batch = reader.batch(plan[step], 0, step, recipe.trunk.size)
    state.set_rate(rate(recipe.optimiser.rate, recipe.schedule, state.warmup, step, state.total))
    state.optimiser.zero_grad(set_to_none=True)
    embeddings, grouped = state.represent(validate.tensor(batch.faces, torch.device("cpu")))
    state.objective(embeddings, batch, None, step / state.total, grouped).loss.backward()
    state.clip(recipe.clip_norm)
    state.optimiser.step()


def by_age(queue: BroadFace, ages: NDArray[np.int64], batch: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Embeddings as stored, as compensated, and labels, of the batches enqueued so many steps ago."""
    weight = queue.head.weight.detach()
    moved = queue.compensated(slice(0, queue.length), weight)
    newest = int(queue.position[1])
    places = [(newest - int(age) * batch + torch.arange(batch)) % queue.memory.size for age in ages]
    return [queue.embeddings[p] for p in places], [moved[p] for p in places], [queue.labels[p] for p in places]


def angles_deg(a: Tensor, b: Tensor) -> NDArray[np.float64]:
    """Angles between rows."""
    cosines = F.cosine_similarity(a.double(), b.double()).clamp(-1, 1)
    angles: NDArray[np.float64] = cosines.arccos().rad2deg().numpy()
    return angles


def summary(values: NDArray[np.float64], people: NDArray[np.int64]) -> dict[str, Any]:
    """Mean over photos, with its interval over people."""
    _, index = np.unique(people, return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index)
    drawn = np.random.default_rng(0).integers(0, len(sums), (1000, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    return {"mean": float(values.mean()), "ci95": percentile_interval(means)}


if __name__ == "__main__":
    main()
