"""The plans of the table: each compares what it says, and every variant can take a step from its start."""

from pathlib import Path

import numpy as np
import pytest
import torch

from facespace.data.batches import Batch
from facespace.models.nets.groupface import GroupFace, adopt
from facespace.models.nets.trunks import build, normalise
from facespace.train.objective import Objective
from facespace.train.plan import Run
from facespace.train.planned.budget import BUDGET
from facespace.train.plans import PLANS
from facespace.train.recipe import Recipe

TRAININGS = {
    f"{plan.name}-{run.variant.name}": (plan, run) for plan in PLANS.values() for run in plan.runs() if run.seed == 0
}


SIDE_LIGHTS = ("facenet_sizes", "claims")
"""Of one seed: they show a direction, no more."""


def test_every_plan_is_named_where_the_verb_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    assert [name for name in PLANS if f"`{name}`" not in page] == []


@pytest.mark.parametrize("name", [name for name in PLANS if name != "demo"])
def test_the_budget_holds_everywhere_and_nobody_is_held_out(name: str) -> None:
    plan = PLANS[name]
    assert plan.seeds == (1 if name in SIDE_LIGHTS else BUDGET.seeds)
    for variant in plan.all:
        recipe = variant.recipe
        allowed = BUDGET.start_epochs if recipe.optimiser.rate == 0.1 else BUDGET.epochs
        allowed /= 2 if variant.name.endswith("_early") else 1
        assert recipe.epochs == (BUDGET.triplet_epochs if recipe.triplet else allowed)
        assert recipe.held_out == 0
        assert variant.note or variant in plan.start


def test_noise_is_the_same_for_all_that_are_compared() -> None:
    assert {variant.recipe.mislabelled for variant in PLANS["margins_noisy"].all} == {0.2}
    assert {variant.recipe.mislabelled for variant in PLANS["margins"].all} == {0.0}


def stepped(recipe: Recipe, net: torch.nn.Module) -> float:
    """The loss of a batch of 8 people with 2 photos each, after a backward pass whose gradients are finite."""
    torch.manual_seed(0)
    labels = np.repeat(np.arange(8), 2)
    faces = torch.randint(0, 256, (16, 3, recipe.trunk.size, recipe.trunk.size), dtype=torch.uint8)
    batch = Batch(np.zeros((16, 1, 1, 3), np.uint8), labels, np.arange(16), np.zeros(16, bool))
    objective = Objective(recipe, 8, None)
    grouped = net.represent(normalise(faces)) if isinstance(net, GroupFace) else None
    embeddings = net(normalise(faces)) if grouped is None else grouped.embedding
    out = objective(embeddings, batch, None, 0.5, grouped)
    out.loss.backward()
    gradients = [p.grad for module in (net, objective) for p in module.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    return float(out.loss.detach())


@pytest.mark.parametrize("name", TRAININGS)
def test_a_variant_takes_what_its_start_has_and_can_take_a_step(name: str) -> None:
    """Only what belongs to groups begins afresh."""
    plan, run = TRAININGS[name]
    net = build(run.recipe.trunk)
    if run.start is not None:
        first = next(other for other in plan.runs() if other.name == run.start)
        fresh = adopt(net, build(first.recipe.trunk).state_dict())
        assert [tensor for tensor in fresh if not tensor.startswith(("members.", "decision."))] == []
    assert np.isfinite(stepped(run.recipe, net))


def weights(run: Run) -> int:
    return sum(parameter.numel() for parameter in build(run.recipe.trunk).parameters())


def test_the_wide_network_without_groups_has_as_many_weights_as_that_with_32() -> None:
    groups, wide = (weights(TRAININGS[f"groupface-{name}"][1]) for name in ("soft_32", "no_groups_wide"))
    assert wide == pytest.approx(groups, rel=1e-3)


def test_the_group_aware_variant_shares_the_training_of_its_like() -> None:
    plan = PLANS["groupface"]
    aware, alike = plan.variant("soft_32_aware"), plan.variant("soft_32")
    assert plan.run(aware, 1) == plan.run(alike, 1)
    assert (aware.similarity, alike.similarity) == ("own", "cosine")
    assert aware.recipe.trunk.group_aware is not None
