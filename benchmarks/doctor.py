"""Planted defects and identities: how many `doctor` and `audit` find, and what else they name. JSON on stdout.

    python benchmarks/doctor.py CROPS --witness OTHER.onnx [--model compact] [--seeds 3] [--cache DIR] [--sheet X.html]

Aligned crops of real people (a folder, or a tar). Doctor: 200 defects (`planting.py`) in a copy in memory. Precision is
the share of planted defects found among these and the false alarms. Real folders have defects of their own; whether a
finding is one of them is not for the model to say that is being measured: it is passed over only where `doctor` with
the witness, another model, finds the same in the data before anything is planted. `precision, not one pardoned` counts
these as false too. --sheet shows what the model finds then. Audit: 100 people stand in both sets under unlike names,
half of their photos in each.
"""

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from planting import Named, already_there, matches, named, plant

from facespace.core.contracts import AlignedFaces, Vectors
from facespace.data.folder import People, PhotoRef, open_people
from facespace.faces.detect import Aligned
from facespace.judge.audit import audit
from facespace.judge.doctor import diagnose
from facespace.judge.environment import describe_environment
from facespace.judge.findings import cases
from facespace.judge.sheets import page
from facespace.models.embedder import NetEmbedder, load

IN_BOTH = 100


class Remembering:
    """An embedder that keeps the vectors of faces it has seen, in a file."""

    def __init__(self, inner: NetEmbedder, file: Path | None) -> None:
        self.name, self.dim, self.contract, self.similarity = inner.name, inner.dim, inner.contract, inner.similarity
        self._inner, self._file = inner, file
        self._known: dict[str, Vectors] = {}
        if file and file.exists():
            with np.load(file) as kept:
                self._known = dict(zip(kept["keys"].tolist(), kept["vectors"], strict=True))

    def embed(self, faces: AlignedFaces) -> Vectors:
        keys = [hashlib.sha256(face.tobytes()).hexdigest() for face in faces]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        if new:
            self._known |= dict(zip([keys[i] for i in new], self._inner.embed(faces[new]), strict=True))
        return np.stack([self._known[key] for key in keys])

    def save(self) -> None:
        if self._file:
            np.savez(self._file, keys=list(self._known), vectors=np.stack(list(self._known.values())))


def main() -> None:
    """Plant, look, count."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("crops", type=Path)
    arguments.add_argument("--model", default="compact")
    arguments.add_argument("--witness", required=True)
    arguments.add_argument("--seeds", type=int, default=3)
    for option in ("--cache", "--sheet"):
        arguments.add_argument(option, type=Path)
    asked = arguments.parse_args()
    people = open_people(asked.crops)
    embedder, witness = (remembering(model, asked.cache) for model in (asked.model, asked.witness))
    natural, testimony = (diagnose(people, each, Aligned(), threads=1) for each in (embedder, witness))
    if asked.sheet:
        asked.sheet.write_text(page("already there", embedder.name, cases(natural, people, Aligned())))
    before = [named(finding) for finding in testimony.findings]
    document = {
        "model": natural.model,
        "witness": testimony.model,
        "data": natural.data,
        "already there": natural.counts,
        "by both": Counter(f.kind for f in natural.findings if already_there(named(f), before)),
        "doctor": [doctored(people, embedder, before, seed) for seed in range(asked.seeds)],
        "audit": [audited(people, embedder, seed) for seed in range(asked.seeds)],
        "environment": describe_environment(1, "cpu", "aligned", "central"),
    }
    for each in (embedder, witness):
        each.save()
    sys.stdout.write(json.dumps(document, indent=1) + "\n")


def remembering(model: str, cache: Path | None) -> Remembering:
    """The model, with what it has seen before."""
    net = load(model, threads=1)
    return Remembering(net, cache and cache / f"{net.name}-{net.contract}.npz")


def doctored(people: People, embedder: Remembering, before: Sequence[Named], seed: int) -> dict[str, Any]:
    """Recall and precision of doctor."""
    sick = plant(people, np.random.default_rng(seed))
    result = diagnose(sick.people, embedder, Aligned(), threads=1)
    missed = [defect for defect in sick.planted if not any(matches(finding, defect) for finding in result.findings)]
    others = [f for f in result.findings if not any(matches(f, defect) for defect in sick.planted)]
    false = [finding for finding in others if not already_there(named(finding, sick.origins), before)]
    found = len(sick.planted) - len(missed)
    return {
        "seed": seed,
        "planted": len(sick.planted),
        "recall": found / len(sick.planted),
        "precision": found / (found + len(false)),
        "precision, not one pardoned": found / (found + len(others)),
        "planted by kind": Counter(defect.kind for defect in sick.planted),
        "missed by kind": Counter(defect.kind for defect in missed),
        "already there by kind": Counter(f.kind for f in others) - Counter(f.kind for f in false),
        "false by kind": Counter(finding.kind for finding in false),
        "thresholds": result.thresholds,
    }


def audited(people: People, embedder: Remembering, seed: int) -> dict[str, Any]:
    """Recall and precision of audit: 100 people in both sets under unlike names, the others in one of them."""
    rng = np.random.default_rng(seed)
    names = [str(name) for name in rng.permutation(people.names)]
    both, train_only = set(names[:IN_BOTH]), set(names[IN_BOTH : (IN_BOTH + len(names)) // 2])
    refs: tuple[list[PhotoRef], list[PhotoRef]] = ([], [])
    seen: Counter[str] = Counter()
    for photo in people.photos:
        seen[photo.person] += 1
        test = seen[photo.person] % 2 == 0 if photo.person in both else photo.person not in train_only
        refs[test].append(PhotoRef(f"known-{photo.person}" if test else photo.person, photo.name))
    train, test = (People(people.root, tuple(part), people.read_bytes) for part in refs)
    result = audit(train, test, embedder, Aligned(), threads=1)
    found = {(leak.train, leak.test) for leak in result.leaks}
    right = {(name, f"known-{name}") for name in both}
    return {
        "seed": seed,
        "planted": len(right),
        "recall": len(found & right) / len(right),
        "precision": len(found & right) / len(found),
        "false": len(found - right),
        "thresholds": result.thresholds,
    }


if __name__ == "__main__":
    main()
