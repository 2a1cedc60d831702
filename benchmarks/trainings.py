"""Judge finished runs on LFW's crops; gather what a reader wants to know of them: JSON, and a picture of the curves.

python benchmarks/trainings.py RUN... --lfw lfw-crops.tar --pairs pairs.txt --out docs
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from facespace.faces.detect import Aligned
from facespace.judge.charts import Axis, Series, line_chart
from facespace.judge.protocols import lfw
from facespace.judge.run import run as judge
from facespace.models.embedder import load
from facespace.train.runlog import read_log

STYLE = """<style>
svg { background: #fff; font: 13px system-ui, sans-serif } text { fill: #59616b } .legend { fill: #1d2126 }
.grid { stroke: #dfe2e6 } .axis { stroke: #59616b; fill: none } .key { fill: currentColor }
.line { fill: none; stroke: currentColor; stroke-width: 2 }
.c0 { color: #2166ac } .c1 { color: #c2571a } .c2 { color: #3b7d3f }
</style>"""
"""The charts of a report are styled by their page; a picture on its own brings its style along."""
CURVE = "tar_at_far_1e-2"


def main() -> None:
    """A JSON of each run in OUT/results, the curves in OUT/pictures, one line a run on stdout."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("runs", type=Path, nargs="+")
    for option in ("--lfw", "--pairs", "--out"):
        arguments.add_argument(option, type=Path, required=True)
    asked = arguments.parse_args()
    told = [about(run, asked.lfw, asked.pairs) for run in asked.runs]
    for row in told:
        path = asked.out / "results" / f"{row['recipe']['name']}.json"
        path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
        accuracy = row["lfw"]["accuracy"]
        line = {"recipe": row["recipe"]["name"], "lfw": accuracy["mean"], "stderr": accuracy["stderr"]}
        sys.stdout.write(json.dumps(line) + "\n")
    (asked.out / "pictures" / "training-curves.svg").write_text(curves(told), encoding="utf-8")


def about(run: Path, photos: Path, pairs: Path) -> dict[str, Any]:
    """Recipe, data, curve on held-out people and figures on LFW of a run."""
    owner: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    rows = read_log(run / "log.jsonl")
    speeds = sorted(row["images_per_s"] for row in rows if row["kind"] == "step")
    document = judge(lfw(pairs, photos), load(run), Aligned()).as_json()
    return owner | {
        "held_out": [{k: v for k, v in row.items() if k != "kind"} for row in rows if row["kind"] == "held_out"],
        "loss": [[row["step"], row["loss"]] for row in rows if row["kind"] == "step"][::5],
        "median_images_per_s": speeds[len(speeds) // 2],
        "lfw": document,
    }


def curves(told: list[dict[str, Any]]) -> str:
    """TAR at FAR 1 % on held-out people over the steps of every run, as a picture of its own."""
    steps = max(row["held_out"][-1]["step"] for row in told)
    lines = [
        Series(row["recipe"]["name"], [v["step"] for v in row["held_out"]], [v[CURVE] for v in row["held_out"]])
        for row in told
    ]
    up = Axis("TAR at FAR 1 %", 0.0, 1.0, percent=True)
    chart = line_chart("Held-out people", Axis("step", 0, steps), up, lines)
    head, body = chart.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg">{STYLE}{body}\n'


if __name__ == "__main__":
    main()
