"""The loop: gathered gradients, steps left out, the teacher's part, and what a run folder refuses."""

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import STEPS, TINY, Projection, quick_export, write_people
from torch import Tensor, nn

from facespace.data.augment import Augment
from facespace.data.batches import Batch, read_crop, sound_crops
from facespace.data.folder import open_people
from facespace.data.sampler import PeopleByPhotos, Shuffled
from facespace.data.splits import split_people
from facespace.errors import DataError, DeviceUnavailable, TrainingError, UsageError
from facespace.losses.adaptive import AdaFace
from facespace.losses.auxiliary import Center, Ring
from facespace.losses.broadface import Memory
from facespace.losses.head import HeadOutput
from facespace.losses.margins import NormFace
from facespace.losses.triplet import Triplet
from facespace.models.nets import trunks
from facespace.models.nets.trunks import TrunkSpec, load_trunk
from facespace.train import loop, objective, outcome, teacher
from facespace.train.loop import Where, train
from facespace.train.precision import bf16_is_faster
from facespace.train.recipe import SGD, AdaGrad, AdamW, Labels, Recipe, Teacher
from facespace.train.runlog import read_log
from facespace.train.state import State

STILL = Augment(flip_p=0)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(outcome, "export_onnx", quick_export)
    monkeypatch.setenv("FACESPACE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("people"))


class Flat(nn.Module):
    """A trunk without normalisation over the batch: the gradient of a batch is the mean of its parts'."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(8), nn.Linear(192, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.pool(x).flatten(1))
        return out


@pytest.fixture
def flat(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setitem(trunks.TRUNKS, "flat", Flat)
    labels = Labels(NormFace(), scale=8.0)
    spec = TrunkSpec("flat", 32, 8)
    return dataclasses.replace(TINY, trunk=spec, resolutions=(), labels=labels, augment=STILL, held_out=0)


def rows(run: Path, kind: str = "step") -> list[dict[str, Any]]:
    return [row for row in read_log(run / "log.jsonl") if row["kind"] == kind]


def weights(run: Path) -> dict[str, Tensor]:
    return load_trunk(run / "trunk.safetensors")[0].state_dict()


@pytest.mark.parametrize("optimiser", [SGD(0.5), AdamW(0.01), AdaGrad(0.05)], ids=lambda o: type(o).__name__)
def test_trap16_the_gradients_of_three_batches_gathered_are_those_of_one_as_large(
    optimiser: SGD | AdamW | AdaGrad, flat: Recipe, people: Path, tmp_path: Path
) -> None:
    """psj0919/groupface_sj clears the gradients between the parts of a step. Samplers of 5 and of 15 take the photos in
    the same order, for one permutation is cut into rows."""
    common = dataclasses.replace(flat, optimiser=optimiser, clip_norm=0.05, epochs=3)  # the clip must see the mean
    train(dataclasses.replace(common, sampler=Shuffled(15)), people, tmp_path / "one")
    train(dataclasses.replace(common, sampler=Shuffled(5), accumulate=3), people, tmp_path / "parts")
    one, parts = weights(tmp_path / "one"), weights(tmp_path / "parts")
    for name, value in one.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-5, atol=1e-6)
    start = dataclasses.replace(common, sampler=Shuffled(15), epochs=0.25)
    train(start, people, tmp_path / "start")
    assert (one["fc.weight"] - weights(tmp_path / "start")["fc.weight"]).abs().max() > 1e-3, "something was learnt"
    for a, b in zip(rows(tmp_path / "one"), rows(tmp_path / "parts"), strict=True):
        assert a["step"] == b["step"]
        for figure in ("loss", "target_cosine", "accuracy", "gradient"):
            assert b[figure] == pytest.approx(a[figure], rel=1e-4, abs=1e-6)


class Spoilt(nn.Module):
    """A trunk whose output is infinite at the forward passes of a training in `at`."""

    at: frozenset[int] = frozenset()

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.inner, self.norm, self.passes = Flat(size, dim), nn.BatchNorm1d(dim), 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
            x = x * (torch.nan if self.passes - 1 in self.at else 1.0)
        out: Tensor = self.norm(self.inner(x))
        return out


@pytest.fixture
def spoilt(flat: Recipe, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setitem(trunks.TRUNKS, "spoilt", Spoilt)
    return dataclasses.replace(flat, trunk=TrunkSpec("spoilt", 32, 8), held_out=4)


def test_a_step_that_is_not_finite_changes_nothing_but_the_count(
    spoilt: Recipe, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the weights, not the optimiser, and not the running statistics, which the forward pass has spoilt by then."""
    device = torch.device("cpu")
    labels = split_people(open_people(people), 4, spoilt.seed)[0].labels
    seen: list[dict[str, Tensor]] = []

    class Watched(State):
        def set_rate(self, rate: float) -> None:
            seen.append({key: value.clone() for key, value in self.trunk.state_dict().items()})
            super().set_rate(rate)

    assert State.begin(spoilt, labels, None, device).total == STEPS
    monkeypatch.setattr(loop, "State", Watched)
    monkeypatch.setattr(Spoilt, "at", frozenset({5, 6, 9}))
    result = train(spoilt, people, tmp_path, where=Where(log_every=1))
    assert [row["skipped"] for row in rows(tmp_path)] == [0] * 5 + [1, 2, 2, 2] + [3] * 6
    for step in range(STEPS - 1):
        same = all(torch.equal(seen[step][key], seen[step + 1][key]) for key in seen[step])
        assert same is (step in (5, 6, 9)), step
    assert all(value.isfinite().all() for value in weights(tmp_path).values())
    assert 0 <= result.figures["auc"] <= 1


def test_what_heads_remember_is_not_spoilt_by_steps_left_out(
    spoilt: Recipe, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queue, centres, radius and running norms, from the first step on: all losses that follow are numbers."""
    monkeypatch.setattr(Spoilt, "at", frozenset({0, 5, 6}))
    labels, terms = Labels(AdaFace(), scale=8.0), (Center(), Ring())
    recipe = dataclasses.replace(spoilt, labels=labels, memory=Memory(20), auxiliary=terms, accumulate=2, epochs=6)
    train(recipe, people, tmp_path, where=Where(log_every=1))
    told = rows(tmp_path)
    assert [row["skipped"] for row in told] == [1, 1, 2] + [3] * 12
    assert [np.isfinite(row["loss"]) for row in told] == [False, True, False, False] + [True] * 11
    assert told[-1]["queue"] == 20


def test_too_many_of_them_in_a_row_end_the_training_and_name_the_photos(
    spoilt: Recipe, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spoilt, "at", frozenset(range(3, 99)))
    with pytest.raises(TrainingError, match=rf"{loop.PATIENCE} losses in a row.*step 12, photos \[\d") as stop:
        train(spoilt, people, tmp_path)
    assert "rate" in stop.value.hint


def test_a_gradient_of_the_head_alone_that_is_not_finite_is_noticed(
    flat: Recipe, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = State.begin

    def begin_with_a_trap(*arguments: Any) -> State:
        state = begin(*arguments)
        assert state.objective.labels is not None
        state.objective.labels.weight.register_hook(lambda slope: slope * torch.inf)  # type: ignore[no-untyped-call]
        return state

    monkeypatch.setattr(State, "begin", begin_with_a_trap)
    with pytest.raises(TrainingError, match="not finite"):
        train(flat, people, tmp_path)


def test_one_run_folder_belongs_to_one_recipe_data_and_teacher(people: Path, flat: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(flat, people, run)
    with pytest.raises(TrainingError, match="recipe"):
        train(dataclasses.replace(flat, seed=1), people, run)
    with pytest.raises(TrainingError, match="data"):
        train(flat, write_people(tmp_path / "others", seed=9), run)
    taught = dataclasses.replace(flat, teacher=Teacher())
    train(taught, people, tmp_path / "taught", teacher=Projection())
    another = Projection()
    another.contract = "ba9876543210"
    with pytest.raises(TrainingError, match="teacher"):
        train(taught, people, tmp_path / "taught", teacher=another)
    train(flat, people, run)


def test_a_training_that_cannot_begin_leaves_no_folder(people: Path, flat: Recipe, tmp_path: Path) -> None:
    """So that the same folder serves once there are photos enough."""
    with pytest.raises(DataError, match="do not fill"):
        train(dataclasses.replace(flat, sampler=Shuffled(500)), people, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(flat, people, tmp_path / "run")


def test_a_run_folder_that_cannot_be_one_is_refused(people: Path, flat: Recipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="file"):
        train(flat, people, tmp_path / "file")
    (tmp_path / "run").mkdir()
    for content in ("{", "[1]", "7"):
        (tmp_path / "run" / "run.json").write_text(content)
        with pytest.raises(TrainingError, match=r"run\.json"):
            train(flat, people, tmp_path / "run")


def test_a_teacher_too_many_or_too_few_and_a_device_that_is_not_there_are_refused(people: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no use"):
        train(TINY, people, tmp_path / "run", teacher=Projection())
    with pytest.raises(UsageError, match="learns from a teacher"):
        train(dataclasses.replace(TINY, teacher=Teacher()), people, tmp_path / "run")
    for device in ("cuda", "tpu", "cpu:9"):
        if device != "cuda" or not torch.cuda.is_available():
            with pytest.raises(DeviceUnavailable, match=device):
                train(TINY, people, tmp_path / "run", where=Where(device))
    for changes in ({"threads": 0}, {"workers": -1}, {"log_every": 0}, {"save_every": 0}):
        with pytest.raises(UsageError):
            Where(**changes)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("held_out", [1, 3])
def test_held_out_people_too_few_to_choose_by_are_refused_before_the_first_step(
    held_out: int, people: Path, tmp_path: Path
) -> None:
    """Three people with five photos make 75 impostor pairs: no FAR of 1 %."""
    with pytest.raises(DataError, match=f"{held_out} held-out people") as refusal:
        train(dataclasses.replace(TINY, held_out=held_out), people, tmp_path)
    assert "--held-out" in refusal.value.hint


def test_damaged_photos_are_left_out_of_training_and_judging_and_told_in_the_end(flat: Recipe, tmp_path: Path) -> None:
    data = write_people(tmp_path / "people", people=30, photos=7)
    (data / "p03" / "2.jpg").write_bytes((data / "p03" / "2.jpg").read_bytes()[:300])
    recipe = dataclasses.replace(flat, held_out=0)
    result = train(recipe, data, tmp_path / "run")
    assert list(result.bad) == ["p03/2.jpg"]
    assert [row["file"] for row in rows(tmp_path / "run", "left_out")] == ["p03/2.jpg"]
    again = train(recipe, data, tmp_path / "run")
    assert again.bad == result.bad, "a resumed training remembers them"
    assert len(rows(tmp_path / "run", "left_out")) == 1


class Looking(nn.Module):
    """Instead of the distillation head: keeps what it is shown."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, embeddings: Tensor, targets: Tensor) -> Any:
        SHOWN.append(targets.clone())
        return HeadOutput((embeddings * self.weight).sum(), {})


SHOWN: list[Tensor] = []


def test_the_teacher_s_vectors_are_those_of_the_photos_mirrored_where_the_crop_is(
    flat: Recipe, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "DistillationHead", Looking)
    SHOWN.clear()
    batches: list[Batch] = []
    real = loop.targets_of

    def watched(targets: Tensor, batch: Batch, device: torch.device) -> Tensor:
        batches.append(batch)
        return real(targets, batch, device)

    monkeypatch.setattr(loop, "targets_of", watched)
    recipe = dataclasses.replace(flat, labels=None, teacher=Teacher(), augment=Augment(flip_p=0.5), held_out=4)
    train(recipe, people, tmp_path / "run", teacher=Projection())

    learners, _ = split_people(open_people(people), 4, recipe.seed)
    flips = 0
    for targets, batch in zip(SHOWN, batches, strict=True):
        crops = np.stack([read_crop(learners, int(position)) for position in batch.photos])
        crops = np.where(batch.flipped[:, None, None, None], crops[:, :, ::-1], crops)
        np.testing.assert_allclose(targets.numpy(), Projection().embed(crops), atol=1e-6)
        flips += int(batch.flipped.sum())
    assert 0 < flips < sum(len(batch.photos) for batch in batches)


def test_the_teacher_is_asked_once_for_each_photo_and_side_and_its_vectors_kept(
    flat: Recipe, people: Path, tmp_path: Path, home: Path
) -> None:
    recipe, first, second = dataclasses.replace(flat, teacher=Teacher()), Projection(), Projection()
    heard: list[dict[str, Any]] = []
    train(recipe, people, tmp_path / "a", teacher=first, listen=heard.append)
    train(dataclasses.replace(recipe, seed=3), people, tmp_path / "b", teacher=second)
    assert first.seen == 2 * 60
    assert second.seen == 0
    assert [(row["done"], row["total"]) for row in heard if row["kind"] == "teacher"] == [(60, 60)]
    (kept,) = (home / "cache").iterdir()
    assert first.contract in kept.name


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"torn", "shape", "archive"])
def test_kept_vectors_that_are_damaged_are_made_anew(
    content: bytes | str, flat: Recipe, people: Path, home: Path
) -> None:
    everyone = open_people(people)
    wanted = teacher.teacher_vectors(Projection(), everyone)
    (path,) = (home / "cache").iterdir()
    if content == "shape":
        np.save(path, wanted[:, 1:])
    elif content == "archive":
        with path.open("wb") as file:
            np.savez(file, wanted)
    else:
        assert isinstance(content, bytes)
        path.write_bytes(content)
    again = Projection()
    np.testing.assert_array_equal(teacher.teacher_vectors(again, everyone), wanted)
    assert again.seen == 120


def test_vectors_of_damaged_photos_are_no_numbers_and_never_used(flat: Recipe, tmp_path: Path) -> None:
    data = write_people(tmp_path / "people", people=30, photos=7)
    for photo in range(2):
        (data / "p29" / f"{photo}.jpg").write_bytes(b"\xff\xd8 torn")
    everyone = open_people(data)
    vectors = teacher.teacher_vectors(Projection(), everyone)
    bad = np.array([photo.name in ("p29/0.jpg", "p29/1.jpg") for photo in everyone.photos])
    np.testing.assert_array_equal(np.isnan(vectors).all((0, 2)), bad)
    assert np.isfinite(vectors[:, ~bad]).all()
    recipe = dataclasses.replace(flat, teacher=Teacher())
    result = train(recipe, data, tmp_path / "run", teacher=Projection(), where=Where(log_every=1))
    assert set(result.bad) == {"p29/0.jpg", "p29/1.jpg"}
    assert all(row["skipped"] == 0 and np.isfinite(row["loss"]) for row in rows(tmp_path / "run"))


def test_a_block_of_damaged_photos_only_does_not_stop_the_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "sound_crops", partial(sound_crops, block=5))
    data = write_people(tmp_path / "people", people=3)
    for path in (data / "p01").iterdir():
        path.write_bytes(b"torn")
    vectors = teacher.teacher_vectors(Projection(), open_people(data))
    np.testing.assert_array_equal(np.isnan(vectors[0, :, 0]), np.repeat([False, True, False], 5))


def test_the_probe_for_bf16_leaves_the_trunk_and_the_chances_as_they_were() -> None:
    torch.manual_seed(0)
    trunk = trunks.build(TINY.trunk).train()
    faces = torch.rand(16, 3, 48, 48)
    before, chances = {key: value.clone() for key, value in trunk.state_dict().items()}, torch.get_rng_state()
    assert bf16_is_faster(trunk, faces) in (True, False)
    assert trunk.training
    assert torch.equal(torch.get_rng_state(), chances)
    assert all(torch.equal(before[key], value) for key, value in trunk.state_dict().items())
    assert all(parameter.grad is None for parameter in trunk.parameters())
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(("autocast", "bf16"), [("off", False), ("bf16", True), ("auto", True)])
def test_the_precision_is_decided_once(autocast: Any, bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    probes: list[int] = []

    def probe(trunk: nn.Module, faces: Tensor) -> bool:
        probes.append(len(faces))
        return True

    monkeypatch.setattr("facespace.train.state.bf16_is_faster", probe)
    state = State.begin(dataclasses.replace(TINY, autocast=autocast), np.arange(8).repeat(5), None, torch.device("cpu"))
    faces = torch.rand(2, 3, 48, 48)
    for _ in range(2):
        with state.autocast(faces):
            assert torch.is_autocast_enabled("cpu") is bf16
            assert state.trunk(faces).isfinite().all()
    assert probes == ([2] if autocast == "auto" else [])


@pytest.mark.parametrize(
    "changes",
    [
        {"autocast": "bf16", "epochs": 1},
        {"labels": None, "triplet": Triplet(), "sampler": PeopleByPhotos(3, 4), "epochs": 4},
    ],
    ids=["bf16", "triplets"],
)
def test_other_recipes_run_too(changes: dict[str, Any], people: Path, tmp_path: Path) -> None:
    train(dataclasses.replace(TINY, **changes), people, tmp_path, where=Where(log_every=1))
    told = rows(tmp_path)
    assert all(np.isfinite(row["loss"]) and row["skipped"] == 0 for row in told)
    assert told


def test_weights_decay_but_gains_biases_and_slopes_do_not() -> None:
    for optimiser, decay in ((SGD(weight_decay=0.3), 0.3), (AdamW(weight_decay=0.2), 0.2)):
        recipe = dataclasses.replace(TINY, optimiser=optimiser)
        state = State.begin(recipe, np.arange(8).repeat(5), None, torch.device("cpu"))
        decayed, free = state.optimiser.param_groups
        assert (decayed["weight_decay"], free["weight_decay"]) == (decay, 0.0)
        assert {p.ndim for p in decayed["params"]} == {2, 4}
        assert {p.ndim for p in free["params"]} == {1}
        trained = [p for m in (state.trunk, state.objective) for p in m.parameters() if p.requires_grad]
        assert len(decayed["params"]) + len(free["params"]) == len(trained)


def test_the_log_tells_rate_side_and_epoch_as_the_recipe_has_them(people: Path, tmp_path: Path) -> None:
    train(TINY, people, tmp_path, where=Where(log_every=1))
    told = rows(tmp_path)
    assert [row["step"] for row in told] == list(range(1, STEPS + 1))
    assert [row["side"] for row in told] == [32.0] * 8 + [48.0] * 7  # from progress 0.5, the eighth step, on
    assert [row["epoch"] for row in told] == [pytest.approx(step / 5) for step in range(1, STEPS + 1)]
    assert [row["rate"] for row in told[:3]] == pytest.approx([0.05 / 3, 0.1 / 3, 0.05])
    judged = rows(tmp_path, "held_out")
    assert [(row["step"], row["side"]) for row in judged] == [(5, 32), (10, 48), (15, 48)]
    card = json.loads((tmp_path / "model.card.json").read_text())
    assert card["input"] == {"size": 48, "channels": "rgb", "mean": 127.5, "std": 127.5}
    (end,) = rows(tmp_path, "end")
    assert end["chosen"] in (10, 15), "a state trained at the trunk's own side"
    best = max(judged[1:], key=lambda row: (row["tar_at_far_1e-2"], row["step"]))
    assert end["chosen"] == best["step"]
    assert card["numbers"][0]["tar_at_far_1e-2"] == best["tar_at_far_1e-2"]


def test_the_listener_hears_every_row_of_the_log(people: Path, flat: Recipe, tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    train(flat, people, tmp_path, listen=heard.append)
    assert heard == read_log(tmp_path / "log.jsonl")
