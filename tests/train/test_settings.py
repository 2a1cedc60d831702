"""Settings of a training: schedules as functions of the progress, recipes that contradict themselves refused."""

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import TINY

from facespace.data.sampler import PeopleByPhotos, Shuffled
from facespace.errors import UsageError
from facespace.losses.adaptive import AnnealedSphereFace
from facespace.losses.agents import Intra
from facespace.losses.auxiliary import Ring
from facespace.losses.broadface import Memory
from facespace.losses.groupface import GroupLabels
from facespace.losses.harmonic import Harmonic
from facespace.losses.margins import ArcFace, Softmax
from facespace.losses.offline import Offline
from facespace.losses.subcentres import DropSettings
from facespace.losses.triplet import Triplet
from facespace.models.nets.groupface import Groups
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.recipe import SGD, Labels, Recipe, Teacher
from facespace.train.recipes import RECIPES, recipe
from facespace.train.schedule import Cosine, Resolution, Steps, grown, rate, side


def test_the_rate_rises_in_even_steps_then_follows_half_a_cosine() -> None:
    rates = [rate(0.1, Cosine(), 4, step, 12) for step in range(12)]
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert rates[4:] == pytest.approx([0.05 * (1 + math.cos(math.pi * i / 8)) for i in range(8)])
    assert rate(0.1, Cosine(end=0.2), 0, 5, 10) == pytest.approx(0.1 * (0.2 + 0.8 * 0.5))
    assert rate(0.1, Cosine(), 12, 11, 12) == pytest.approx(0.1), "all of it may be warm-up"


def test_steps_fall_at_their_milestones() -> None:
    schedule = Steps((0.5, 0.75), gamma=0.1)
    assert [rate(1.0, schedule, 0, step, 8) for step in range(8)] == pytest.approx([1] * 4 + [0.1] * 2 + [0.01] * 2)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_margin_grows_from_nothing_to_full_and_never_falls(a: float, b: float, progress: float) -> None:
    start, end = sorted((a, b))
    value = grown(start, end, progress)
    assert 0 <= value <= 1
    assert grown(start, end, start) == (1.0 if start == end else 0.0)
    assert grown(start, end, end) == 1.0
    assert grown(start, end, min(1.0, progress + 0.1)) >= value
    if start < progress < end:
        assert value == pytest.approx((progress - start) / (end - start))


def test_the_side_is_that_of_the_last_stage_begun() -> None:
    stages = (Resolution(0.0, 64), Resolution(0.5, 80), Resolution(0.9, 112))
    assert [side(stages, p) for p in (0, 0.49, 0.5, 0.89, 0.9, 1.0, 1.5)] == [64, 64, 80, 80, 112, 112, 112]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0.0),
        ("epochs", -1.0),
        ("epochs", math.nan),
        ("epochs", math.inf),
        ("accumulate", 0),
        ("warmup", 1.0),
        ("held_out", -2),
        ("clip_norm", -0.5),
        ("seed", -1),
    ],
)
def test_a_number_out_of_its_range_is_named_with_its_value(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"'tiny': {name} = {value:g}$") as refused:
        dataclasses.replace(TINY, **{name: value})
    assert refused.value.hint.startswith(f"{name} >")


@pytest.mark.parametrize(
    "stages",
    [
        ((0.1, 48),),
        ((0.0, 32),),
        ((0.0, 48), (0.5, 32)),
        ((0.5, 48), (0.0, 32)),
        ((0.0, 32), (0.0, 48)),
        ((0.0, 32), (1.0, 48)),
        ((0.0, 16), (0.5, 48)),
        ((0.0, 32), (math.nan, 48)),
    ],
)
def test_stages_that_do_not_lead_to_the_trunk_s_side_are_refused(stages: tuple[tuple[float, int], ...]) -> None:
    with pytest.raises(UsageError):
        dataclasses.replace(TINY, resolutions=tuple(Resolution(*stage) for stage in stages))


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": None},
        {"labels": None, "triplet": Triplet()},
        {"labels": None, "memory": Memory(64), "teacher": Teacher()},
        {"labels": Labels(ArcFace(), sample=0.5), "memory": Memory(64)},
        {"group_labels": GroupLabels()},
        {"trunk": TrunkSpec("iresnet10-tiny", 48, 16, Groups(0, shared=32)), "group_labels": GroupLabels()},
        {"auxiliary": (Intra(),), "labels": None, "teacher": Teacher()},
        {"auxiliary": (Intra(),), "labels": Labels(ArcFace(), centres=3)},
        {"auxiliary": (Intra(),), "labels": Labels(Softmax())},
        {"auxiliary": (Ring(), Ring(0.2))},
        {"offline": Offline()},
        {"harmonic": Harmonic()},
        {"mislabelled": 1.0},
        {"mislabelled": -0.1},
        {"triplet": Triplet(), "sampler": Shuffled(8)},
        {"epochs": 0},
        {"epochs": math.nan},
        {"epochs": math.inf},
        {"accumulate": 0},
        {"warmup": 1.0},
        {"warmup": -0.1},
        {"held_out": -1},
        {"seed": -1},
        {"clip_norm": -1.0},
        {"clip_norm": math.nan},
        {"optimiser": SGD(0.0)},
        {"optimiser": SGD(math.nan)},
    ],
    ids=str,
)
def test_contradictions_are_refused_when_a_recipe_is_made(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        dataclasses.replace(TINY, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"growth": (0.6, 0.3)},
        {"growth": (-0.1, 0.3)},
        {"growth": (0, 2)},
        {"weight": 0},
        {"centres": 0},
        {"pool_others": False},
        {"sample": 0.0},
        {"margin": Softmax(), "centres": 3},
        {"margin": Softmax(), "sample": 0.5},
        {"margin": Softmax(), "learn_scale": True},
        {"margin": AnnealedSphereFace(), "learn_scale": True},
    ],
    ids=str,
)
def test_labels_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Labels(**{"margin": ArcFace()} | changes)


def variants(of: Recipe) -> list[Recipe]:
    """The recipe with each of its settings changed in turn."""
    changed: dict[str, Any] = {
        "name": "other",
        "trunk": TrunkSpec("iresnet10-narrow", 48, 16),
        "epochs": 4.0,
        "labels": Labels(ArcFace(0.31), scale=16.0, growth=(0.2, 0.7)),
        "memory": Memory(64),
        "group_labels": GroupLabels(),
        "auxiliary": (Ring(),),
        "triplet": Triplet(),
        "offline": Offline(),
        "harmonic": Harmonic(),
        "teacher": Teacher(),
        "sampler": PeopleByPhotos(4, 2),
        "augment": dataclasses.replace(of.augment, light=0.21),
        "optimiser": SGD(0.06),
        "schedule": Steps(),
        "warmup": 0.1,
        "resolutions": (Resolution(0.0, 32), Resolution(0.6, 48)),
        "accumulate": 2,
        "clip_norm": 4.0,
        "autocast": "auto",
        "held_out": 5,
        "cleaning": DropSettings(70.0),
        "mislabelled": 0.2,
        "seed": 1,
    }
    assert changed.keys() == {field.name for field in dataclasses.fields(Recipe)}
    sampled = dataclasses.replace(of, sampler=PeopleByPhotos(4, 3))
    grouped = dataclasses.replace(of, trunk=dataclasses.replace(of.trunk, groups=Groups(4, shared=32, hidden=8)))
    needs = {
        "triplet": sampled,
        "harmonic": sampled,
        "offline": dataclasses.replace(sampled, triplet=Triplet(0.3)),
        "group_labels": grouped,
    }
    return [
        sampled,
        grouped,
        needs["offline"],
        *(dataclasses.replace(needs.get(name, of), **{name: v}) for name, v in changed.items()),
    ]


def test_the_digest_tells_every_setting_apart_and_nothing_else() -> None:
    digests = [recipe.digest for recipe in (TINY, *variants(TINY))]
    assert len(set(digests)) == len(digests)
    assert dataclasses.replace(TINY).digest == TINY.digest


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_on_the_shelf_is_under_its_name_and_plain_json(name: str) -> None:
    assert recipe(name).name == name
    document = json.loads(json.dumps(recipe(name).as_json()))
    assert document["kind"] == "Recipe"
    assert document["trunk"]["name"] == recipe(name).trunk.name
    assert document["optimiser"]["kind"] == type(recipe(name).optimiser).__name__


def test_an_unknown_recipe_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError) as refusal:
        recipe("?")
    assert all(name in refusal.value.hint for name in RECIPES)
