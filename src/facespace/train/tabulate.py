"""What the finished trainings of a plan show: the table, and their curves."""

import contextlib
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from facespace.errors import TrainingError
from facespace.judge.ablation import REPLICATES, Measures, Row, Table, Trained, difference, measure, measure_lfw
from facespace.models.card import write_atomic
from facespace.train.plan import Plan, Variant
from facespace.train.runlog import read_log
from facespace.train.trial import Result, Sources, is_done

POINTS = 200
"""Of each curve that are kept."""


def write_table(plan: Plan, folder: Path, sources: Sources) -> Table:
    """Judge what is finished; write `table.json`, `table.md` and `curves.json` into the plan's folder."""
    refused: dict[str, str] = {}
    rows = []
    for variant in plan.all:
        trained = [_trained(plan, variant, seed, folder, sources, refused) for seed in plan.seeds_of(variant)]
        rows.append(Row(variant.name, variant.note, tuple(trained)))
    by_name = {row.variant: row for row in rows}
    table = Table(
        plan=plan.name,
        people=len(sources.judged.names),
        photos=len(sources.judged.photos),
        digest=sources.judge_digest,
        rows=tuple(rows),
        differences=tuple(difference(by_name[one], by_name[other]) for one, other in plan.comparisons),
        refused=refused,
    )
    curves = {run.name: curve for run in plan.runs() if (curve := read_curve(folder / run.name))}
    write_atomic(folder / "table.json", (json.dumps(table.as_json(), indent=1) + "\n").encode())
    write_atomic(folder / "table.md", table.markdown().encode())
    write_atomic(folder / "curves.json", (json.dumps(curves) + "\n").encode())
    return table


def read_curve(run: Path) -> dict[str, list[float]]:
    """Step, loss and whatever else the log of a run has at every step, thinned; empty where there is no log."""
    rows = [row for row in read_log(run / "log.jsonl") if row["kind"] == "step"]
    rows = rows[:: max(1, -(-len(rows) // POINTS))]
    names = [name for name in (rows[0] if rows else {}) if all(isinstance(row.get(name), int | float) for row in rows)]
    return {name: [row[name] for row in rows] for name in names}


def _trained(
    plan: Plan, variant: Variant, seed: int, folder: Path, sources: Sources, refused: dict[str, str]
) -> Trained:
    """What one training of a variant shows; why figures are refused is added to `refused`."""
    run = plan.run(variant, seed)
    result = Result.read(folder / run.name)
    done = False
    with contextlib.suppress(TrainingError):  # of another recipe: not asked for now, or it would have been said
        done = is_done(run, folder, sources)
    if result is None or not (done or result.status == "failed"):
        return Trained(seed, "missing")
    measures: Measures = {}
    if result.status in ("finished", "collapsed"):
        measures, why = _measured(variant, plan.judged_fars, folder / run.name, sources)
        refused |= why
    return Trained(seed, result.status, result.message, result.photos, result.minutes, measures)


def _measured(
    variant: Variant, fars: tuple[float, ...], run: Path, sources: Sources
) -> tuple[dict[str, Any], dict[str, str]]:
    """The measures of a run, and why others are refused; kept beside the vectors, for they take seconds."""
    aware = variant.recipe.trunk.group_aware if variant.similarity == "own" else None
    content = (run / "vectors.npz").read_bytes()
    key = hashlib.sha256(content + repr((fars, aware, REPLICATES)).encode()).hexdigest()
    path = run / f"measures-{'cosine' if aware is None else 'own'}.npz"
    with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
        kept = _arrays(path.read_bytes())
        if str(kept.pop("key")) == key:
            refused = json.loads(str(kept.pop("refused")))
            return kept, refused
    arrays = _arrays(content)
    length = None if aware else variant.recipe.trunk.dim  # what follows is for the group-aware similarity
    measures, refused = measure(arrays["vectors"][:, :length], arrays["labels"], fars, aware)
    if sources.protocol is not None:
        measures |= measure_lfw(arrays["lfw"][:, :length], sources.protocol, aware)
    buffer = io.BytesIO()
    extra: dict[str, Any] = measures | {"key": np.array(key), "refused": np.array(json.dumps(refused))}
    np.savez(buffer, **extra)
    write_atomic(path, buffer.getvalue())
    return measures, refused


def _arrays(content: bytes) -> dict[str, Any]:
    """The arrays in an npz file."""
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return dict(stored)
