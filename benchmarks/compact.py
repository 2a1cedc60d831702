"""Make the packaged model `compact` from the run of a training, with an honest card.

    python benchmarks/compact.py RUN --lfw lfw-crops.tar --pairs pairs.txt --calibrate devtest.tar

The weights are exported in half precision. The card's numbers are LFW's ten folds on aligned crops; its operating
points and what its scores mean are found on the people in `--calibrate`, who are in neither set.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from facespace.faces.detect import Aligned
from facespace.judge.calibrate import calibrate
from facespace.judge.protocols import lfw
from facespace.judge.run import run as judge
from facespace.models.card import Card, write_card
from facespace.models.convert import export
from facespace.models.embedder import load

WEIGHTS = Path(__file__).parents[1] / "src/facespace/models/weights/compact.onnx"
FMRS = (1e-2, 1e-3, 1e-4)


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
    found = calibrate(asked.calibrate, embedder, Aligned(), fmrs=FMRS)
    card = described(found.card, document)
    write_card(card, WEIGHTS)
    sys.stdout.write(json.dumps(card.as_json(), indent=1) + "\n")


def described(card: Card, document: dict[str, object]) -> Card:
    """The card with its name, its limits and what was measured."""
    return replace(
        card,
        name="compact",
        licence="research and evaluation only: trained on photos of celebrities and families, taught by another model",
        commercial=False,
        source=f"facespace train, {card.trained_on.split('recipe ')[-1]}",
        numbers=(
            {
                "protocol": "LFW, ten folds, aligned crops",
                **{key: document[key] for key in ("pairs", "accuracy", "tar_at_far", "eer", "auc")},
                "limits": "celebrities in press photos; children, poor light, errors by group: not measured",
            },
        ),
    )


if __name__ == "__main__":
    main()
