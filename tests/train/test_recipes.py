"""Recipes on the shelf: their published numbers, their costs as the page tells them, and that each takes a step."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import TINY

from facespace.data.batches import Batch
from facespace.data.sampler import FaceNetBatches, PeopleByPhotos, Shuffled
from facespace.errors import UsageError
from facespace.losses.margins import ArcFace, NormFace
from facespace.models.nets.counts import multiply_adds, parameters
from facespace.models.nets.groupface import GroupFace
from facespace.models.nets.trunks import TrunkSpec, build, normalise
from facespace.train.papers import CASIA, PAPERS, Published, Source
from facespace.train.recipe import SGD, AdaGrad, Adam, Labels, Recipe
from facespace.train.recipes import PART, RECIPES
from facespace.train.schedule import Polynomial, rate
from facespace.train.state import State

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
SMALL = {name: recipe for name, recipe in RECIPES.items() if name.endswith("_small")}
HERE = Source("the training crops, 100 people held out", 21_000, 1_600)
GPU_MULTIPLY_ADDS_PER_S = 4e12
CORE_MULTIPLY_ADDS_PER_S = 25e9


def test_no_recipe_is_another_under_a_second_name() -> None:
    digests = {replace(recipe, name="").digest for recipe in RECIPES.values()}
    assert len(digests) == len(RECIPES)
    assert RECIPES.keys() == PAPERS.keys() | SMALL.keys() | {"arcface_demo"}


@pytest.mark.parametrize("name", PAPERS)
def test_what_a_paper_recipe_begins_with_is_there_and_fits(name: str) -> None:
    published = PAPERS[name]
    assert published.recipe.name == name
    assert published.twin in SMALL
    assert (published.teacher != "") == published.recipe.wants_teacher
    for other in filter(None, (published.start, published.teacher)):
        assert list(PAPERS).index(other) < list(PAPERS).index(name)
    if published.start:
        one, two = published.recipe.trunk, PAPERS[published.start].recipe.trunk
        assert (one.name, one.size) == (two.name, two.size)
        shapes = {key: value.shape for key, value in on_meta(two).state_dict().items()}
        own = {key: value.shape for key, value in on_meta(one).state_dict().items()}
        assert {key for key in own if own[key] != shapes.get(key)} <= {
            key for key in own if key.startswith(("members.", "decision."))
        }


PUBLISHED = {
    # name: steps, batch, dim, scale, rate, momentum, weight decay
    "arcface_r100_ms1mv2": (180_000, 512, 512, 64, 0.1, 0.9, 5e-4),
    "cosface_r100_ms1mv2": (180_000, 512, 512, 64, 0.1, 0.9, 5e-4),
    "arcface_r50_casia": (32_000, 512, 512, 64, 0.1, 0.9, 5e-4),
    "normface_s20_r50_casia": (32_000, 512, 512, 20, 0.1, 0.9, 5e-4),
    "sphereface_annealed_r50_casia": (28_000, 512, 512, 64, 0.1, 0.9, 5e-4),
    "groupface_r100": (80_000, 1024, 512, 64, 5e-3, 0.9, 5e-4),
    "broadface_r100": (80_000, 512, 512, 64, 5e-3, 0.9, 5e-4),
    "broadface_r18": (80_000, 512, 128, 64, 5e-3, 0.9, 5e-4),
    "partial_fc_r100": (20 * (17_091_657 // 1024), 1024, 512, 64, 0.1, 0.9, 1e-4),
    "magface_r100_ms1mv2": (25 * 11_372, 512, 512, 64, 0.1, 0.9, 5e-4),
    "curricularface_r100_ms1mv2": (24 * 11_372, 512, 512, 64, 0.1, 0.9, 5e-4),
    "adaface_r50_ms1mv2": (26 * 22_744, 256, 512, 64, 0.1, 0.9, 1e-4),
    "mv_softmax_mobilefacenet": (18 * 6_406, 512, 512, 32, 0.1, 0.9, 1e-4),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_has_the_published_numbers(name: str) -> None:
    steps, batch, dim, scale, *sgd = PUBLISHED[name]
    published, recipe = PAPERS[name], PAPERS[name].recipe
    assert recipe.labels is not None
    assert (published.steps, recipe.sampler.batch, recipe.trunk.dim, recipe.labels.scale) == (steps, batch, dim, scale)
    assert recipe.optimiser == SGD(*sgd)
    assert (recipe.warmup, recipe.held_out, recipe.labels.growth) == (0.0, 0, (0.0, 0.0))
    assert recipe.augment.flip_p == 0.5


RATES = {
    "arcface_r100_ms1mv2": ({0: 0.1, 99_999: 0.1, 100_000: 0.01, 159_999: 0.01, 160_000: 1e-3, 179_999: 1e-3}),
    "subcentre_arcface_r50": ({99_999: 0.1, 100_000: 0.01, 160_000: 1e-3}),
    "cm2_r50_casia": ({19_999: 0.1, 20_000: 0.01, 27_999: 0.01, 28_000: 1e-3}),
    "sphereface_annealed_r50_casia": ({15_999: 0.1, 16_000: 0.01, 23_999: 0.01, 24_000: 1e-3}),
    "triplet_r50_casia": ({19_999: 5e-3, 20_000: 5e-4, 28_000: 5e-5}),
    "groupface_r100": ({0: 5e-3, 49_999: 5e-3, 50_000: 5e-4, 69_999: 5e-4, 70_000: 5e-5}),
    "broadface_cosface_r100": ({49_999: 5e-3, 50_000: 5e-4, 70_000: 5e-5}),
    "magface_r100_ms1mv2": ({113_719: 0.1, 113_720: 0.01, 204_696: 1e-3, 250_184: 1e-4}),
    "broadface_r50_retrieval": ({40 * 465 - 1: 1e-4, 40 * 465: 2e-5, 60 * 465: 4e-6, 80 * 465: 8e-7}),
    "partial_fc_r100": ({0: 0.1, 166_910: 0.025}),
}


@pytest.mark.parametrize("name", RATES)
def test_the_rate_falls_at_the_published_iterations(name: str) -> None:
    published = PAPERS[name]
    recipe = published.recipe
    for step, expected in RATES[name].items():
        assert rate(recipe.optimiser.rate, recipe.schedule, 0, step, published.steps) == pytest.approx(expected)


def test_facenet_has_the_batches_of_the_paper() -> None:
    for name in ("nn1", "nn2", "nn3", "nn4"):
        recipe = RECIPES[f"facenet_{name}"]
        assert recipe.sampler == FaceNetBatches(40, 40, 200)
        assert recipe.sampler.batch == 1800
        assert recipe.triplet is not None
        assert (recipe.triplet.alpha, recipe.triplet.metric, recipe.trunk.dim) == (0.2, "squared_l2", 128)
        assert recipe.optimiser.rate == 0.05
    harmonic = RECIPES["facenet_harmonic"]
    assert harmonic.trunk == RECIPES["facenet_nn2"].trunk
    assert harmonic.trunk.dim == RECIPES[PAPERS["facenet_harmonic"].teacher].trunk.dim


@pytest.mark.parametrize("sampler", [Shuffled(8), PeopleByPhotos(3, 2), FaceNetBatches(3, 4, 2)], ids=str)
def test_steps_are_those_of_the_sampler(sampler: Shuffled | PeopleByPhotos | FaceNetBatches) -> None:
    labels = np.repeat(np.arange(11), 5)
    recipe = replace(TINY, epochs=2.5, sampler=sampler)
    counted = Published(recipe, Source("eleven people", len(labels), 11), "arcface_small").steps
    assert counted == round(2.5 * len(sampler.epoch(labels, 0, 0)))
    assert counted == State.begin(recipe, labels, None, torch.device("cpu")).total


def test_small_margins_are_the_published_ones_in_part() -> None:
    for name in ("sphereface", "cosface", "cm1", "cm2"):
        small, large = SMALL[f"{name}_small"].labels, RECIPES[f"{name}_r50_casia"].labels
        assert small is not None
        assert large is not None
        cosines = torch.tensor([-0.5, 0.1, 0.7])  # where no rule for angles past pi is asked
        assert torch.equal(small.margin.target_logit(cosines), large.margin.grown(PART).target_logit(cosines))  # type: ignore[call-arg]


# What a training costs


@cache
def on_meta(trunk: TrunkSpec) -> torch.nn.Module:
    with torch.device("meta"):
        return build(trunk)


@cache
def products(trunk: TrunkSpec, size: int) -> int:
    return multiply_adds(on_meta(trunk), size)


def products_in_training(recipe: Recipe, people: int) -> float:
    """Of one face: three times those of the forward pass through network and class rows, for the batch and the queue.

    Groups are all computed in training, even where one is used afterwards.
    """
    trunk, labels = recipe.trunk, recipe.labels
    if trunk.groups is not None:
        trunk = replace(trunk, groups=replace(trunk.groups, mode="soft"))
    ends = [*(stage.start for stage in recipe.stages[1:]), 1.0]
    net = sum((end - s.start) * products(trunk, s.size) for s, end in zip(recipe.stages, ends, strict=True))
    rows = 0.0 if labels is None else people * labels.centres * labels.sample * trunk.dim
    judged = 1.0 if recipe.memory is None else 1 + recipe.memory.size / recipe.sampler.batch
    return 3 * (net + rows * judged)


def paper_row(published: Published) -> str:
    recipe, seen = published.recipe, published.photos_seen
    in_all = seen * products_in_training(recipe, published.source.people)
    cells = (
        f"`{recipe.name}`",
        published.source.name,
        f"{recipe.sampler.batch:,}",
        f"{published.steps:,}",
        f"{parameters(on_meta(recipe.trunk)) / 1e6:.1f} M",
        f"{products(recipe.trunk, recipe.trunk.size) / 1e9:.2f} G",
        f"{seen / 1e6:.1f} M",
        f"{in_all / 1e15:,.0f}",
        f"{in_all / GPU_MULTIPLY_ADDS_PER_S / 3600:,.0f}",
        f"`{published.twin}`",
    )
    return "| " + " | ".join(cells) + " |"


def small_row(recipe: Recipe) -> str:
    counted = Published(recipe, HERE, "")
    in_all = counted.photos_seen * products_in_training(recipe, HERE.people)
    trunk = recipe.trunk
    cells = (
        f"`{recipe.name}`",
        f"{trunk.size} px, {trunk.dim}-D",
        f"{recipe.sampler.batch}",
        f"{counted.steps:,}",
        f"{parameters(on_meta(trunk)) / 1e6:.2f} M",
        f"{products(trunk, trunk.size) / 1e6:.0f} M",
        f"{counted.photos_seen:,}",
        f"{in_all / 1e12:.0f}",
        f"{in_all / CORE_MULTIPLY_ADDS_PER_S / 60:.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def test_the_page_has_the_cost_of_every_recipe() -> None:
    rows = [paper_row(published) for published in PAPERS.values()] + [small_row(recipe) for recipe in SMALL.values()]
    missing = [row for row in rows if row not in PAGE]
    assert missing == [], "\n".join(missing)


def test_no_small_recipe_takes_longer_than_it_says() -> None:
    for recipe in SMALL.values():
        in_all = Published(recipe, HERE, "").photos_seen * products_in_training(recipe, HERE.people)
        assert in_all / CORE_MULTIPLY_ADDS_PER_S < 1.5 * 3600, recipe.name


# The commands on the page


def commands() -> Iterator[dict[str, str]]:
    """The options of each `facespace train` on the page."""
    for block in re.findall(r"^```sh.*?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] == ["facespace", "train"]:
                yield dict(zip(words[3::2], words[4::2], strict=True))


def test_every_recipe_has_its_command_with_what_it_begins_with() -> None:
    told = {options["--recipe"]: options for options in commands() if "--clean-with" not in options}
    for name, published in PAPERS.items():
        expected = {"--start": published.start, "--teacher": published.teacher}
        for option, other in expected.items():
            given = told[name].get(option, "")
            assert given.removeprefix("runs/").partition("/")[0] == other, f"{name} {option}"
            assert not other or told[other].get("--run", f"runs/{other}") == f"runs/{other}"
        share = int(told[name].get("--processes", "1"))
        assert published.recipe.sampler.batch % share == 0
    assert SMALL.keys() <= told.keys()


def test_the_page_drops_noise_with_the_run_of_sub_centres() -> None:
    cleaned = {options["--clean-with"]: options["--recipe"] for options in commands() if "--clean-with" in options}
    assert cleaned == {
        "runs/subcentre_arcface_r50": "arcface_r50_ms1mv0",
        "runs/subcentre_small": "arcface_small",
    }


# Every recipe takes a step


def shrunk(recipe: Recipe) -> Recipe:
    """The recipe for sixteen photos of eight people: all its settings, a tiny trunk, a short queue, short features."""
    groups = recipe.trunk.groups
    groups = None if groups is None else replace(groups, shared=32, hidden=8)
    memory = None if recipe.memory is None else replace(recipe.memory, size=24)
    sampler = Shuffled(16) if isinstance(recipe.sampler, Shuffled) else PeopleByPhotos(8, 2)
    trunk = TrunkSpec("iresnet10-tiny", 32, 16, groups)
    return replace(recipe, trunk=trunk, memory=memory, sampler=sampler, resolutions=())


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_takes_two_steps(name: str) -> None:
    """The second meets a queue, a momentum and sums of squares."""
    recipe = shrunk(RECIPES[name])
    labels = np.repeat(np.arange(8), 2)
    state = State.begin(recipe, labels, 16, torch.device("cpu"))
    rng = torch.Generator().manual_seed(0)
    batch = Batch(np.zeros((16, 1, 1, 3), np.uint8), labels, np.arange(16), np.zeros(16, bool))
    teacher = torch.randn(16, 16, generator=rng) if recipe.wants_teacher else None
    for _ in range(2):
        faces = torch.randint(0, 256, (16, 3, 32, 32), generator=rng, dtype=torch.uint8)
        embeddings, grouped = state.represent(normalise(faces))
        state.optimiser.zero_grad(set_to_none=True)
        out = state.objective(embeddings, batch, teacher, 0.5, grouped)
        out.loss.backward()
        assert np.isfinite(float(out.loss.detach()))
        assert state.heads_finite()
        assert np.isfinite(state.clip(recipe.clip_norm))
        state.optimiser.step()
    assert (grouped is not None) == isinstance(state.trunk, GroupFace)
    assert all(bool(p.isfinite().all()) for p in (*state.trunk.parameters(), *state.objective.parameters()))


# What the recipes needed of the settings


def test_adagrad_begins_with_squares_so_that_small_gradients_make_small_steps() -> None:
    """One step from a gradient g is rate * g / sqrt(initial + g²); from 0 it is the rate, whatever g."""

    def first_step(initial: float) -> float:
        recipe = replace(TINY, optimiser=AdaGrad(0.05, initial))
        state = State.begin(recipe, np.repeat(np.arange(8), 5), None, torch.device("cpu"))
        for parameter in state.trunk.parameters():
            parameter.grad = torch.full_like(parameter, 1e-3)
        parameter = next(state.trunk.parameters())
        before = parameter.detach().clone()
        state.optimiser.step()
        return float((before - parameter.detach()).mean())

    assert first_step(0.0) == pytest.approx(0.05, rel=1e-3)
    assert first_step(0.1) == pytest.approx(0.05 * 1e-3 / 0.1**0.5, rel=1e-3)
    with pytest.raises(UsageError):
        AdaGrad(0.05, -1.0)


def test_adam_decays_through_the_gradient() -> None:
    """Without a gradient of the loss its first step is the rate against the sign of the weight: decay is normalised."""
    recipe = replace(TINY, optimiser=Adam(1e-3, 0.1))
    state = State.begin(recipe, np.repeat(np.arange(8), 5), None, torch.device("cpu"))
    kernel = state.trunk.get_parameter("conv1.weight")
    before = kernel.detach().clone()
    kernel.grad = torch.zeros_like(kernel)
    state.optimiser.step()
    torch.testing.assert_close(before - kernel.detach(), 1e-3 * before.sign(), rtol=1e-3, atol=1e-7)


def test_a_polynomial_falls_from_one_to_nothing() -> None:
    assert [Polynomial(2.0).factor(p) for p in (0.0, 0.5, 0.9, 1.0)] == pytest.approx([1, 0.25, 0.01, 0])
    assert Polynomial(1.0).factor(0.3) == pytest.approx(0.7)
    with pytest.raises(UsageError):
        Polynomial(0.0)


@pytest.mark.parametrize("unsampled", ["move", "frozen"])
def test_unsampled_rows_do_as_the_recipe_says(unsampled: str) -> None:
    labels = Labels(NormFace(), 16.0, sample=0.5, unsampled=unsampled)  # type: ignore[arg-type]
    recipe = replace(TINY, labels=labels, optimiser=SGD(0.1, 0.9, 0.1))
    state = State.begin(recipe, np.repeat(np.arange(8), 5), None, torch.device("cpu"))
    head = state.objective.margin_head
    assert head is not None
    own = torch.tensor([0, 1, 2])
    for step in range(3):
        before, rows = head.weight.detach().clone(), set(range(8))
        state.optimiser.zero_grad(set_to_none=True)
        head(torch.randn(3, 16, generator=torch.Generator().manual_seed(step)), own).loss.backward()
        assert head.weight.grad is not None
        rows -= set(head.weight.grad.abs().sum(1).nonzero()[:, 0].tolist())
        state.optimiser.step()
        still = (head.weight.detach() == before).all(1).nonzero()[:, 0].tolist()
        assert set(still) == (rows if unsampled == "frozen" else set())
        assert len(rows) == 4


def test_rows_cannot_be_frozen_where_all_are_judged() -> None:
    with pytest.raises(UsageError):
        Labels(ArcFace(), unsampled="frozen")
    with pytest.raises(UsageError):
        Labels(ArcFace(), sample=0.5, unsampled="thawed")  # type: ignore[arg-type]


def test_casia_is_counted_as_the_paper_counts_it() -> None:
    """32,000 batches of 512 are 33 epochs of 0.49 million photos."""
    assert round(32_000 * 512 / CASIA.photos) == 33
