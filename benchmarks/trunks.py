"""What every trunk costs, beside what is published: weights, and multiply-adds of one face. JSON on stdout.

    python benchmarks/trunks.py

Each at the size and dimension of its paper or public code; nothing is computed but shapes, so it takes seconds.
"""

import json
import sys
from typing import Any

import torch

from facespace.models.nets.counts import multiply_adds, parameters
from facespace.models.nets.trunks import TRUNKS, TrunkSpec, build

FACENET = {
    "facenet_nn1": (220, 140e6, 1.6e9),
    "facenet_nn2": (224, 7.5e6, 1.6e9),
    "facenet_nn3": (160, None, None),
    "facenet_nn4": (96, None, 285e6),
    "facenet_nns1": (165, 26e6, 220e6),
    "facenet_nns2": (140, 4.3e6, 20e6),
}
"""Side in pixels, published weights and multiply-adds, as rounded in the paper. 128 dimensions."""


def main() -> None:
    """A row for each trunk of the table."""
    rows = [json.dumps(cost(name)) for name in TRUNKS]
    sys.stdout.write("[\n" + ",\n".join(rows) + "\n]\n")


def cost(name: str) -> dict[str, Any]:
    """Weights and multiply-adds of a trunk, in millions."""
    size, weights, products = FACENET.get(name, (112, None, None))
    spec = TrunkSpec(name, size, 128 if name in FACENET else 512)
    with torch.device("meta"):
        trunk = build(spec)
    row = {"trunk": name, "size": size, "dim": spec.dim}
    found = {"parameters_m": in_millions(parameters(trunk)), "multiply_adds_m": in_millions(multiply_adds(trunk, size))}
    published = {"published_parameters_m": weights, "published_multiply_adds_m": products}
    return row | found | {key: in_millions(value) for key, value in published.items() if value is not None}


def in_millions(number: float) -> float:
    """Rounded to a thousand."""
    return round(number / 1e6, 3)


if __name__ == "__main__":
    main()
