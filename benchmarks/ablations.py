"""Put the tables of finished plans into docs/ablations.md, and their figures beside it.

    python benchmarks/ablations.py RUNS [--data TRAIN] [--out docs]

RUNS is the --out of `facespace ablate`. Between `<!-- PLAN -->` and `<!-- end -->` of the page stands the section that
the runner wrote of that plan; `table.json` becomes docs/results/ablation-PLAN.json. With --data, how well sub-centres
found the wrong names of the plan `margins_noisy` goes to docs/results/ablation-cleaning.json.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from facespace.data.folder import People, open_people
from facespace.train.planned.margins import NOISE
from facespace.train.runlog import read_log


def main() -> None:
    """Fill the page in."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("runs", type=Path)
    arguments.add_argument("--data", type=Path)
    arguments.add_argument("--out", type=Path, default=Path("docs"))
    asked = arguments.parse_args()
    page = asked.out / "ablations.md"
    text = page.read_text(encoding="utf-8")
    for plan in re.findall(r"<!-- (?!end )(\w+) -->\n", text):
        folder = asked.runs / plan
        if not (folder / "table.md").is_file():
            sys.stdout.write(f"{plan}: no table yet\n")
            continue
        table = (folder / "table.md").read_text(encoding="utf-8").split("\n", 2)[2]  # the page has headings of its own
        text = re.sub(rf"(<!-- {plan} -->\n).*?(<!-- end -->)", lambda m, t=table: m[1] + t + m[2], text, flags=re.S)
        figures = json.loads((folder / "table.json").read_bytes())
        write(asked.out / "results" / f"ablation-{plan}.json", figures)
    page.write_text(text, encoding="utf-8")
    if asked.data:
        people = open_people(asked.data)
        found = [cleaning(people, run) for run in sorted((asked.runs / "margins_noisy").glob("cleaned-seed*"))]
        write(asked.out / "results" / "ablation-cleaning.json", found)
        sys.stdout.write(json.dumps(found, indent=1) + "\n")


def write(path: Path, document: Any) -> None:
    """As JSON with a short line for each value."""
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def cleaning(people: People, run: Path) -> dict[str, Any]:
    """How many of the photos that a run left out were mislabelled, and how many of the mislabelled it left out."""
    seed = int(run.name.rpartition("seed")[2])
    wrong = people.mislabelled(NOISE, seed)
    bad = {a.name for a, b in zip(people.photos, wrong.photos, strict=True) if a.person != b.person}
    begin = next(row for row in read_log(run / "log.jsonl") if row["kind"] == "begin")
    dropped = set(begin["dropped"])
    hit = len(dropped & bad)
    return {
        "seed": seed,
        "photos": len(people.photos),
        "mislabelled": len(bad),
        "dropped": len(dropped),
        "of_dropped_mislabelled": hit / max(1, len(dropped)),
        "of_mislabelled_dropped": hit / max(1, len(bad)),
        "of_kept_mislabelled": (len(bad) - hit) / (len(people.photos) - len(dropped)),
    }


if __name__ == "__main__":
    main()
