"""The scores of LFW's pairs by two public models, as numbers alone: what tests/judge/test_lfw_figures.py judges.

    for model in mobilefacenet face512; do
        facespace evaluate $model.onnx --data lfw-crops.tar --protocol lfw --pairs pairs.txt \\
            --detector aligned --report $model-crops.html
        facespace evaluate $model.onnx --data lfw-photos-folds1-3.tar --protocol lfw --pairs pairs.txt --folds 1-3 \\
            --report $model-photos.html
    done
    python benchmarks/lfw_scores.py . tests/judge/lfw_scores.npz

Reads the documents beside these reports. Of photos and names nothing is kept: people are numbers. `first` and `second`
int16 `(6000,)` are the people of each pair, in the order of the list, ten folds of 600; scores are float32, of whole
photos those of the first 1,800 pairs.
"""

import argparse
from pathlib import Path

import numpy as np

from facespace.judge.people import PairPeople
from facespace.judge.scored import Scored, read_scored

MODELS = ("mobilefacenet", "face512")
FOLDS, PAIRS = 10, 600


def main() -> None:
    """Check that all four are of the same list, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    crops, photos = (
        {model: read_scored(chosen.folder / f"{model}-{kind}.json") for model in MODELS} for kind in ("crops", "photos")
    )
    whole = crops[MODELS[0]]
    people = PairPeople.of(whole)
    if not np.array_equal(whole.folds, np.repeat(np.arange(1, FOLDS + 1), PAIRS)):
        raise SystemExit("not the ten folds of LFW")
    if any(stems(scored)[:1800] != stems(whole)[:1800] for scored in (*crops.values(), *photos.values())):
        raise SystemExit("the documents are not of the same list")
    columns = {f"{model}_crops": crops[model].scores for model in MODELS}
    columns |= {f"{model}_photos": photos[model].scores for model in MODELS}
    np.savez_compressed(chosen.out, first=people.a.astype(np.int16), second=people.b.astype(np.int16), **columns)


def stems(scored: Scored) -> list[str]:
    """The two photos of each pair without their suffixes."""
    return [name.replace(".jpg", "") for name in scored.names]


if __name__ == "__main__":
    main()
