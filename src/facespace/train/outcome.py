"""The end of a training: weights, ONNX checked against them, and a card beside each."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facespace.core.contracts import Embedder
from facespace.data.folder import People
from facespace.models.card import Card, Input, compared_by, write_card
from facespace.models.nets.export import export_onnx
from facespace.models.nets.groupface import GroupFace
from facespace.models.nets.trunks import build, save_trunk
from facespace.train.groupsheet import write_group_sheets
from facespace.train.recipe import Recipe
from facespace.train.runlog import RunLog
from facespace.train.start import CLASSES, TRUNK, Start, save_rows
from facespace.train.state import State

SHEET_PHOTOS = 4000
"""Photos, spread over the training set, among which the pictures of groups look for theirs."""


@dataclass(frozen=True)
class Outcome:
    """What a training left behind."""

    run: Path
    onnx: Path
    """The model to use: `model.onnx`, with `model.card.json` beside it; not there where no ONNX was asked for."""
    weights: Path
    """The same weights for torch: `trunk.safetensors`."""
    step: int
    """The step whose weights were chosen."""
    figures: dict[str, float]
    """Their figures on the held-out people; empty where none were held out."""
    bad: dict[str, str]
    """Damaged photos that were left out, and why."""


def finish(
    state: State,
    run: Path,
    log: RunLog,
    everyone: People,
    people: People,
    teacher: Embedder | None,
    start: Start | None,
    onnx: bool = True,
) -> Outcome:
    """Write the chosen weights, their ONNX form and the cards into `run`; the class rows of `people` as they end; and
    pictures of what the groups hold, where there are groups.
    """
    recipe, bad = state.recipe, state.bad
    taught = "" if teacher is None else f", taught by {teacher.name} ({teacher.contract})"
    begun = "" if start is None else f", begun with weights {start.digest[:16]}"
    trunk = build(recipe.trunk)
    trunk.load_state_dict(state.best["trunk"] if state.best else state.trunk.state_dict())
    step, figures = (state.best["step"], state.best["figures"]) if state.best else (state.step, {})
    weights, model = run / TRUNK, run / "model.onnx"
    save_trunk(weights, trunk, recipe.trunk)
    if (head := state.objective.margin_head) is not None:
        save_rows(run / CLASSES, head, people)
    exported = {"onnx_distance": export_onnx(trunk, recipe.trunk, model)} if onnx else {}
    for path in (weights, model)[: 1 + onnx]:
        write_card(_card(path, recipe, everyone, taught + begun, figures), path)
    if isinstance(trunk, GroupFace) and trunk.groups.count:
        looked_at = people.without(frozenset(bad)).sample(SHEET_PHOTOS)
        write_group_sheets(trunk.to(state.device), looked_at, run / "groups", size=recipe.trunk.size)
    for name, reason in sorted(bad.items()):
        log.note("left_out", step=state.step, file=name, message=reason)
    log.note("end", step=state.step, chosen=step, **exported, **figures)
    return Outcome(run, model, weights, step, figures, bad)


def _card(path: Path, recipe: Recipe, people: People, with_what: str, figures: dict[str, float]) -> Card:
    numbers: tuple[dict[str, Any], ...] = ()
    if figures:
        by = "" if recipe.trunk.group_aware is None else ", by cosine of the embedding alone"
        numbers = ({"protocol": "all pairs of held-out people" + by, "people": recipe.held_out} | figures,)
    card = Card(
        name=recipe.name,
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        input=Input(recipe.trunk.size, "rgb", 127.5, 127.5),
        dim=recipe.trunk.vector_dim,
        licence="whoever trained it decides, within the rights to the photos",
        commercial=None,
        trained_on=(
            f"{len(people.photos)} photos of {len(people.names)} people, {recipe.held_out} of them held out "
            f"(data {people.digest[:16]}), recipe {recipe.name} ({recipe.digest}){with_what}"
        ),
        source="facespace train",
        numbers=numbers,
    )
    return compared_by(recipe.trunk.group_aware, card)
