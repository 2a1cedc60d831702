"""Claims of the papers that need no plan: angles, recall, few people, an old and a new model. JSON on stdout.

    python benchmarks/claims.py angles RUN... --data TRAIN      class rows against the means of their people (ArcFace)
    python benchmarks/claims.py recall RUN... --judge OTHERS    Recall@1, from the vectors a plan stored (BroadFace)
    python benchmarks/claims.py tenth --data TRAIN --judge OTHERS --run FOLDER       a tenth of the people (FaceNet)
    python benchmarks/claims.py harmonic V1 START --data TRAIN --judge OTHERS --run FOLDER     (FaceNet, appendix)

RUN, V1 and START are folders of trainings. What is trained here has the settings of the plan `facenet`, and as many
steps. Intervals: 95 %, over 1,000 draws of people; for `angles` over people too.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from facespace.core.resampling import draw_people, percentile_interval
from facespace.core.retrieval import mean_over_people, rank_mates
from facespace.data.batches import read_crop
from facespace.data.folder import People, open_people
from facespace.faces.detect import Aligned
from facespace.judge.ablation import measure, together
from facespace.judge.compatibility import run_compatibility
from facespace.judge.protocols import folder
from facespace.losses.harmonic import Harmonic
from facespace.losses.triplet import Triplet
from facespace.models.embedder import load
from facespace.models.nets.trunks import load_trunk
from facespace.train import validate
from facespace.train.loop import Where, train
from facespace.train.plans import PLANS
from facespace.train.start import CLASSES, TRUNK, read_rows
from facespace.train.trial import embed_people

FARS = (1e-2, 1e-3)
BLOCK = 1024
TENTH = 170
"""People of the small training."""


def main() -> None:
    """Answer one question."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("question", choices=("angles", "recall", "tenth", "harmonic"))
    arguments.add_argument("runs", type=Path, nargs="*")
    for option in ("--data", "--judge", "--run"):
        arguments.add_argument(option, type=Path)
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    match asked.question:
        case "angles":
            people = open_people(asked.data)
            answer: Any = {str(run.name): angles(run, people) for run in asked.runs}
        case "recall":
            answer = {str(run.name): recall(run) for run in asked.runs}
        case "tenth":
            answer = tenth(asked.data, asked.judge, asked.run)
        case _:
            answer = harmonic(asked.runs[0], asked.runs[1], asked.data, asked.judge, asked.run)
    sys.stdout.write(json.dumps(answer, indent=1) + "\n")


def angles(run: Path, people: People) -> dict[str, Any]:
    """Degrees between class rows and the mean vectors of their people, between rows, and of photos to both."""
    trunk, spec = load_trunk(run / TRUNK)
    rows, _ = read_rows(run / CLASSES)
    assert rows is not None
    faces = (np.stack([read_crop(people, i, spec.size) for i in part]) for part in blocks(len(people.photos)))
    vectors = np.concatenate([validate.embed(trunk, block) for block in faces])
    means = np.zeros((len(people.names), vectors.shape[1]))
    np.add.at(means, people.labels, vectors)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    unit = F.normalize(rows.double(), dim=1).numpy()
    between = unit @ unit.T
    np.fill_diagonal(between, -1)
    return {
        "row_to_mean_deg": spread(degrees((unit * means).sum(1))),
        "nearest_row_to_row_deg": spread(degrees(between.max(1))),
        "photo_to_mean_deg": spread(degrees((vectors * means[people.labels]).sum(1))),
        "photo_to_row_deg": spread(degrees((vectors * unit[people.labels]).sum(1))),
    }


def blocks(count: int) -> list[range]:
    """Positions in blocks."""
    return [range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]


def degrees(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles of cosines."""
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def spread(values: NDArray[np.float64]) -> dict[str, Any]:
    """Mean, with the interval over people or photos drawn anew."""
    drawn = np.random.default_rng(0).integers(0, len(values), (1000, len(values)))
    return {"mean": float(values.mean()), "ci95": percentile_interval(values[drawn].mean(1))}


def recall(run: Path) -> dict[str, Any]:
    """Recall@1 of the judged photos of a plan's training."""
    stored = np.load(run / "vectors.npz")
    _, people, photos = np.unique(stored["labels"], return_inverse=True, return_counts=True)
    ranks = rank_mates(stored["vectors"], people)
    weights = draw_people(photos, 1000, np.random.default_rng(0))
    value, interval = mean_over_people(ranks.found_within(1), people[ranks.queries], weights)
    return {"recall_at_1": value, "ci95": interval}


def tenth(data: Path, judge: Path, run: Path) -> dict[str, Any]:
    """FaceNet's triplets on a tenth of the people, in as many steps as the plan `facenet` takes on all."""
    everyone = open_people(data)
    recipe = PLANS["facenet"].variant("semihard").recipe
    steps = recipe.epochs * len(recipe.sampler.epoch(everyone.labels, 0, 0))
    few = everyone.only(frozenset(np.random.default_rng(0).permutation(everyone.names)[:TENTH].tolist()))
    per_epoch = len(recipe.sampler.epoch(few.labels, 0, 0))
    small = dataclasses.replace(recipe, name="semihard_tenth", epochs=steps / per_epoch)
    train(small, few, run, where=Where(onnx=False))
    return {"people": len(few.names), "photos": len(few.photos), "steps": round(steps)} | judged(run, judge)


def judged(run: Path, judge: Path) -> dict[str, Any]:
    """TAR at FAR over all pairs of the judged people."""
    people = open_people(judge)
    vectors, positions = embed_people(load(run / TRUNK, threads=1), people)
    figures = together([measure(vectors, people.labels[positions], FARS)[0]])
    return {name: {"value": figure.value, "ci95": figure.ci95} for name, figure in figures.items()}


def harmonic(v1: Path, start: Path, data: Path, judge: Path, run: Path) -> dict[str, Any]:
    """A v2 from another network's trunk, in harmony with v1; both judged alone and against each other."""
    plan = PLANS["facenet"].variant("semihard").recipe
    recipe = dataclasses.replace(plan, name="harmonic", triplet=None, harmonic=Harmonic(Triplet()))
    old = load(v1 / TRUNK, threads=1)
    train(recipe, data, run, teacher=old, start=start, where=Where(onnx=False))
    found = run_compatibility(folder(judge), old, load(run / TRUNK, threads=1), Aligned(), threads=1)
    document: dict[str, Any] = found.as_json()
    return document


if __name__ == "__main__":
    main()
