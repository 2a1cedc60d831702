"""The plain install: how large it is, and that it verifies two photos without torch. JSON on stdout.

    python benchmarks/install.py [--model NAME|PATH]

A fresh virtual environment gets `pip install .` without extras; the photos are two drawn crops of one person. The limit
holds for all of site-packages, in millions of bytes: what the empty environment had (pip, setuptools) and what pip
compiled included; `before` tells the first of these. The exit status is 1 where the limit is exceeded, torch is there,
or `verify` gives no answer.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
LIMIT_MB = 400
LARGEST = 6
DRAW = """
import cv2
from facespace.data.drawn import draw_crop, person
for photo in (0, 1):
    cv2.imwrite(f"{photo}.png", draw_crop(person(0, 0), photo)[:, :, ::-1])
"""
HAS_TORCH = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is not None)"
ANSWERS = (0, 1)  # the same person, different people


def main() -> None:
    """Install, measure, verify, print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--model", default="compact", help="Name of a packaged model, or path to ONNX weights.")
    model = arguments.parse_args().model
    with tempfile.TemporaryDirectory() as folder:
        found = examine(Path(folder), str(Path(model).resolve()) if Path(model).is_file() else model)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    passed = found["megabytes"] <= LIMIT_MB and found["torch_absent"] and found["verify"]["status"] in ANSWERS
    sys.exit(0 if passed else 1)


def examine(folder: Path, model: str) -> dict[str, Any]:
    """Build the environment below `folder`, and say what it weighs and what `verify` says there."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv/bin/python"
    packages = next((folder / "venv").glob("lib/python*/site-packages"))
    before = size_bytes(packages) / 1e6
    install(python)
    sizes = sorted(((size_bytes(path) / 1e6, path.name) for path in packages.iterdir()), reverse=True)
    run(folder, python, "-c", DRAW, check=True)
    return {
        "megabytes": round(sum(size for size, _ in sizes), 1),
        "before": round(before, 1),
        "limit_megabytes": LIMIT_MB,
        "largest": {name: round(size, 1) for size, name in sizes[:LARGEST]},
        "torch_absent": run(folder, python, "-c", HAS_TORCH).returncode == 0,
        "verify": verify(folder, python, model),
    }


def install(python: Path) -> None:
    """Install the package and what it requires for this Python."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(PROJECT)]
    subprocess.run(pip, check=True, stdout=sys.stderr)


def size_bytes(path: Path) -> int:
    """Bytes of a file, or of all files below a folder, compiled ones among them."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def verify(folder: Path, python: Path, model: str) -> dict[str, Any]:
    """Exit status, answer and seconds of `facespace verify` on the two photos."""
    started = time.perf_counter()
    words = ("verify", "0.png", "1.png", "--model", model, "--detector", "aligned", "--json")
    done = run(folder, python.with_name("facespace"), *words)
    seconds = round(time.perf_counter() - started, 2)
    answer = json.loads(done.stdout) if done.stdout else {"stderr": done.stderr}
    return {"model": Path(model).stem, "status": done.returncode, "seconds": seconds, "answer": answer}


def run(folder: Path, *command: str | Path, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Run in `folder`, seeing no package but those of the environment."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, check=check
    )


if __name__ == "__main__":
    main()
