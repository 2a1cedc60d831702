"""How long a user waits before anything happens: medians of cold processes. JSON on stdout.

    python benchmarks/startup.py [--yunet WEIGHTS] [--model NAME|PATH] [--rounds 7]

Three claims: `import facespace` under 0.3 s, `facespace --help` under 0.5 s, and a photo of 12 megapixels verified
against a small one under 1.5 s, process start included. The contenders take turns, so that a busy minute meets all of
them; an empty Python process, the floor under every figure, stands beside. Without YuNet's weights, or without the
model, the third is left out and the reason given.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2

from facespace.data.drawn import draw_photo, person
from facespace.errors import ModelNotFound
from facespace.judge.environment import describe_environment
from facespace.models.shelf import find_weights

LARGE, USUAL = (3000, 4000), (960, 1280)  # (height, width) in pixels; 12 megapixels, and one
LIMITS_S = {"import facespace": 0.3, "facespace --help": 0.5, "verify 12 megapixels": 1.5}
ANSWERS = (0, 1)


def main() -> None:
    """Time the contenders in turn, and print medians beside their limits."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--yunet", type=Path, help="YuNet's weights, by path.")
    arguments.add_argument("--model", default="compact", help="Name of a model, or path to its weights.")
    arguments.add_argument("--rounds", type=int, default=7)
    asked = arguments.parse_args()
    facespace = str(Path(sys.executable).with_name("facespace"))
    contenders = {
        "empty python": [sys.executable, "-c", "pass"],
        "import facespace": [sys.executable, "-c", "import facespace"],
        "facespace --help": [facespace, "--help"],
    }
    missing = why_not(asked.yunet, asked.model)
    with tempfile.TemporaryDirectory() as folder:
        if not missing:
            photos = [draw(Path(folder) / f"{photo}.jpg", photo, size) for photo, size in enumerate((LARGE, USUAL))]
            options = ["--model", asked.model, "--detector-weights", str(asked.yunet), "--json"]
            contenders["verify 12 megapixels"] = [facespace, "verify", *photos, *options]
        taken = race(contenders, asked.rounds)
    document = {
        "seconds": {name: described(name, times) for name, times in taken.items()},
        "left_out": {"verify 12 megapixels": missing} if missing else {},
        "rounds": asked.rounds,
        "environment": describe_environment(1, "cpu", "yunet", "refuse"),
    }
    sys.stdout.write(json.dumps(document, indent=1) + "\n")


def why_not(yunet: Path | None, model: str) -> str:
    """Why the photo cannot be verified here; empty where it can."""
    if yunet is None or not yunet.is_file():
        return "YuNet's weights are not here; give them with --yunet"
    try:
        find_weights(model)
    except ModelNotFound as error:
        return str(error)
    return ""


def draw(path: Path, photo: int, size: tuple[int, int]) -> str:
    """A drawn photo of one person as JPEG; its path."""
    picture, _ = draw_photo([person(0, 0)], photo, size=size)
    cv2.imwrite(str(path), picture[:, :, ::-1])
    return str(path)


def race(contenders: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender, one process after the other, in turn; the first round only warms the disk."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, command in contenders.items():
            started = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            taken[name].append(time.perf_counter() - started)
            if done.returncode not in ANSWERS:
                raise SystemExit(f"{' '.join(command)} failed: {done.stdout}{done.stderr}")
    return {name: times[1:] for name, times in taken.items()}


def described(name: str, times: list[float]) -> dict[str, Any]:
    """Median and range, and whether the median keeps the limit."""
    median = statistics.median(times)
    figures: dict[str, Any] = {"median": round(median, 3), "least": round(min(times), 3), "most": round(max(times), 3)}
    limit = LIMITS_S.get(name)
    return figures if limit is None else figures | {"limit": limit, "kept": median < limit}


if __name__ == "__main__":
    main()
