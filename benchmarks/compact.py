"""Make the packaged model `compact` from the run of a training, with an honest card.

    python benchmarks/compact.py RUN --lfw lfw-crops.tar --pairs pairs.txt --calibrate devtest.tar

The weights are exported in half precision. The card's numbers are LFW's ten folds on aligned crops; its operating
point is the threshold at which one in a thousand impostor pairs of the people in `--calibrate`, who are in neither
set, is accepted.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facespace.core.verification import at_far, roc
from facespace.data.batches import read_crop
from facespace.data.folder import open_people
from facespace.faces.detect import Aligned
from facespace.judge.protocols import lfw
from facespace.judge.run import run as judge
from facespace.models.card import Card, OperatingPoint, read_card, write_card
from facespace.models.convert import export
from facespace.models.embedder import NetEmbedder, load

WEIGHTS = Path(__file__).parents[1] / "src/facespace/models/weights/compact.onnx"
FMR = 1e-3
PHOTOS_EACH = 6
"""Photos per person in the calibration: more pairs of the same people would not make it surer."""
DRAWS = 200


def main() -> None:
    """Export, judge, calibrate, write the card, print it."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("run", type=Path)
    for option in ("--lfw", "--pairs", "--calibrate"):
        arguments.add_argument(option, type=Path, required=True)
    asked = arguments.parse_args()
    export(asked.run, WEIGHTS, half=True)
    embedder = load(WEIGHTS)
    document = judge(lfw(asked.pairs, asked.lfw), embedder, Aligned()).as_json()
    path = WEIGHTS.with_name("compact.card.json")
    card = described(read_card(path), document, operating_point(embedder, asked.calibrate))
    write_card(card, WEIGHTS)
    sys.stdout.write(json.dumps(card.as_json(), indent=1) + "\n")


def described(card: Card, document: dict[str, object], point: OperatingPoint) -> Card:
    """The card with its name, its limits and what was measured."""
    return replace(
        card,
        name="compact",
        licence="research and evaluation only: trained on photos of celebrities and families, taught by another model",
        commercial=False,
        source=f"facespace train, {card.trained_on.split('recipe ')[-1]}",
        operating_points=(point,),
        numbers=(
            {
                "protocol": "LFW, ten folds, aligned crops",
                **{key: document[key] for key in ("pairs", "accuracy", "tar_at_far", "eer", "auc")},
                "limits": "celebrities in press photos; children, poor light, errors by group: not measured",
            },
        ),
    )


def operating_point(embedder: NetEmbedder, data: Path) -> OperatingPoint:
    """The threshold at the FMR over all pairs of the people in `data`, with a bootstrap interval over people."""
    people = open_people(data)
    chosen = np.concatenate(
        [np.flatnonzero(people.labels == label)[:PHOTOS_EACH] for label in range(len(people.names))]
    )
    vectors = embedder.embed(np.stack([read_crop(people, int(position)) for position in chosen]))
    labels = people.labels[chosen]
    first, second = np.triu_indices(len(vectors), 1)
    scores, same = embedder.similarity(vectors, vectors)[first, second], labels[first] == labels[second]
    threshold = at_far(roc(scores, same), FMR).threshold
    order = np.argsort(-scores[~same])
    a, b = labels[first[~same]][order], labels[second[~same]][order]
    drawn = [resampled(scores[~same][order], a, b, len(people.names), seed) for seed in range(DRAWS)]
    low, high = (float(v) for v in np.quantile(drawn, (0.025, 0.975)))
    where = f"{len(chosen)} photos of {len(people.names)} people (data {people.digest[:16]}), interval over people"
    return OperatingPoint(f"FMR={FMR:g}", float(threshold), (low, high), int((~same).sum()), where)


def resampled(
    falling: NDArray[np.float32], a: NDArray[np.int64], b: NDArray[np.int64], people: int, seed: int
) -> float:
    """The threshold where people are drawn with replacement; a pair counts as often as both its people were drawn."""
    times = np.bincount(np.random.default_rng(seed).integers(0, people, people), minlength=people)
    weight = np.cumsum(times[a] * times[b])
    return float(falling[np.searchsorted(weight, FMR * weight[-1])])


if __name__ == "__main__":
    main()
