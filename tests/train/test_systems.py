"""The algebra of the four systems: every legal recipe takes its steps, and its state survives a restart."""

import dataclasses
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import TINY, Projection, quick_export, write_people

from facespace.data.augment import Augment
from facespace.data.batches import Batch
from facespace.data.folder import open_people
from facespace.data.sampler import PeopleByPhotos, Shuffled
from facespace.errors import DataError, UsageError
from facespace.losses import MARGINS, ArcFace, CosFace, NormFace, Softmax
from facespace.losses.adaptive import ADAPTIVE, AnnealedSphereFace
from facespace.losses.auxiliary import AUXILIARY
from facespace.losses.broadface import BroadFace, Memory
from facespace.losses.groupface import GroupLabels
from facespace.losses.harmonic import Harmonic
from facespace.losses.head import AnyMargin
from facespace.losses.offline import Offline
from facespace.losses.subcentres import DropSettings
from facespace.losses.triplet import Triplet
from facespace.models.nets.groupface import Groups
from facespace.models.nets.trunks import TRUNKS, TrunkSpec, build, load_trunk
from facespace.train import cleaning, outcome, validate
from facespace.train.loop import Where, train
from facespace.train.recipe import SGD, Labels, Recipe, Teacher
from facespace.train.runlog import read_log
from facespace.train.start import CLASSES, embedding_layer, read_rows, save_rows
from facespace.train.state import State

EVERY_MARGIN: dict[str, type] = {**MARGINS, **ADAPTIVE}
GROUPS = Groups(3, shared=12, hidden=5)
SPECS = {
    "plain": TrunkSpec("iresnet10-tiny", 32, 8),
    "groups": TrunkSpec("iresnet10-tiny", 32, 8, GROUPS),
    "mobile": TrunkSpec("mobilefacenet", 32, 8),
}
PEOPLE = np.arange(6).repeat(3)
FACES = torch.from_numpy(np.random.default_rng(0).normal(size=(18, 3, 32, 32)).astype(np.float32))
ONE_STEP = dataclasses.replace(TINY, trunk=SPECS["plain"], resolutions=(), held_out=0)


@pytest.fixture(autouse=True)
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "export_onnx", quick_export)


def take_step(recipe: Recipe) -> dict[str, float]:
    """Two steps on one batch, so that a queue has something to say; trunk and heads must have moved, and be finite."""
    state = State.begin(recipe, PEOPLE, 12 if recipe.wants_teacher else None, torch.device("cpu"))
    before = [p.detach().clone() for p in (*state.trunk.parameters(), *state.objective.parameters())]
    batch = Batch(np.zeros((18, 32, 32, 3), np.uint8), PEOPLE, np.arange(18), np.zeros(18, bool))
    targets = (
        torch.nn.functional.normalize(torch.randn(18, 8 if recipe.harmonic else 12)) if recipe.wants_teacher else None
    )
    logs: dict[str, float] = {}
    for _ in range(2):
        state.set_rate(0.05)
        state.optimiser.zero_grad()
        embeddings, grouped = state.represent(FACES)
        out = state.objective(embeddings, batch, targets, 1.0, grouped)
        out.loss.backward()
        assert out.loss.isfinite()
        assert np.isfinite(state.clip(5.0))
        assert state.heads_finite()
        state.optimiser.step()
        logs = out.logs
    after = [*state.trunk.parameters(), *state.objective.parameters()]
    moved = [p for p, old in zip(after, before, strict=True) if p.requires_grad and not torch.equal(p, old)]
    learning = [p for p in after if p.requires_grad]
    assert len(moved) >= 0.9 * len(learning)  # a hard choice of few groups may leave a gain alone
    assert all(p.isfinite().all() for p in after)
    return logs


@pytest.mark.parametrize("memory", [None, Memory(20)], ids=["alone", "queue"])
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", EVERY_MARGIN)
def test_every_trunk_with_every_margin_and_memory_takes_a_step(name: str, spec: str, memory: Memory | None) -> None:
    margin: AnyMargin = EVERY_MARGIN[name]()
    groups = GroupLabels() if spec == "groups" else None
    recipe = dataclasses.replace(
        ONE_STEP, trunk=SPECS[spec], labels=Labels(margin, scale=16.0), memory=memory, group_labels=groups
    )
    logs = take_step(recipe)
    assert ("queue" in logs) == (memory is not None)
    assert ("groups_used" in logs) == (groups is not None)


@pytest.mark.parametrize(("name", "spec", "memory"), [*product(AUXILIARY, ["plain", "groups"], [None, Memory(20)])])
def test_every_term_stands_beside_them(name: str, spec: str, memory: Memory | None) -> None:
    recipe = dataclasses.replace(
        ONE_STEP, trunk=SPECS[spec], labels=Labels(ArcFace(), scale=16.0), memory=memory, auxiliary=(AUXILIARY[name](),)
    )
    assert name in take_step(recipe)


@pytest.mark.parametrize("name", AUXILIARY)
def test_terms_stand_beside_triplets_too_unless_they_read_class_rows(name: str) -> None:
    term = AUXILIARY[name]()
    changes: dict[str, Any] = {"labels": None, "triplet": Triplet(), "sampler": PeopleByPhotos(6, 3)}
    if term.reads_classes:
        with pytest.raises(UsageError):
            dataclasses.replace(ONE_STEP, auxiliary=(term,), **changes)
        return
    assert name in take_step(dataclasses.replace(ONE_STEP, auxiliary=(term,), **changes))


def softmax_forbids(margin: AnyMargin, changes: dict[str, Any]) -> bool:
    return (not margin.normalised and bool(changes)) or (
        isinstance(margin, AnnealedSphereFace) and "learn_scale" in changes
    )


@pytest.mark.parametrize("changes", [{"centres": 3}, {"sample": 0.5}, {"learn_scale": True}], ids=str)
@pytest.mark.parametrize("name", EVERY_MARGIN)
def test_sub_centres_samples_and_learned_scales_with_every_margin(name: str, changes: dict[str, Any]) -> None:
    """Legal ones take a step, and with a queue too, but for sampled classes; others are refused with a hint."""
    margin: AnyMargin = EVERY_MARGIN[name]()
    if softmax_forbids(margin, changes):
        with pytest.raises(UsageError) as error:
            Labels(margin, **changes)
        assert error.value.hint
        return
    recipe = dataclasses.replace(ONE_STEP, labels=Labels(margin, scale=16.0, **changes))
    take_step(recipe)
    if "sample" in changes:
        with pytest.raises(UsageError) as error:
            dataclasses.replace(recipe, memory=Memory(20))
        assert error.value.hint
    else:
        take_step(dataclasses.replace(recipe, memory=Memory(20)))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(
    "changes",
    [
        {"labels": None, "triplet": Triplet()},
        {"labels": None, "triplet": Triplet(metric="angle", alpha=0.35)},
        {"triplet": Triplet()},
        {"labels": None, "harmonic": Harmonic()},
        {"labels": None, "teacher": Teacher()},
        {"teacher": Teacher(), "memory": Memory(20)},
    ],
    ids=str,
)
def test_triplets_and_teachers_on_every_trunk(changes: dict[str, Any], spec: str) -> None:
    groups = GroupLabels() if spec == "groups" else None
    recipe = dataclasses.replace(ONE_STEP, trunk=SPECS[spec], sampler=PeopleByPhotos(6, 3), group_labels=groups)
    take_step(dataclasses.replace(recipe, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"memory": Memory(20), "labels": Labels(ArcFace(), scale=16.0, centres=2)},
        {
            "group_labels": GroupLabels(window=3),
            "labels": Labels(ADAPTIVE["curricularface"]()),
        },
        {
            "labels": None,
            "triplet": Triplet(),
            "offline": Offline(every_steps=4, subset=30, per_anchor=2),
            "sampler": PeopleByPhotos(4, 2),
            "accumulate": 2,
            "epochs": 14,
        },
        {
            "labels": Labels(CosFace(), scale=16.0, sample=0.5),
            "auxiliary": (AUXILIARY["center"](), AUXILIARY["ring"]()),
        },
        {"labels": None, "harmonic": Harmonic(freeze_share=0.4), "sampler": PeopleByPhotos(4, 2), "epochs": 7},
        {"mislabelled": 0.2, "labels": Labels(ADAPTIVE["adaface"](), scale=16.0)},
    ],
    ids=["broadface", "groupface", "offline", "sampled", "harmonic", "mislabelled"],
)
def test_a_training_that_stops_anywhere_ends_with_the_same_weights(changes: dict[str, Any], tmp_path: Path) -> None:
    """Queue, expectation of the groups, mined batches, sampled classes, centres, frozen layers: all state is saved."""
    data = write_people(tmp_path / "people")
    spec = TrunkSpec("iresnet10-tiny", 48, 12, GROUPS if "group_labels" in changes else None)
    recipe = dataclasses.replace(TINY, **{"trunk": spec, "epochs": 3} | changes)
    v1, start = Projection() if recipe.wants_teacher else None, None
    if recipe.harmonic is not None:
        start = train(dataclasses.replace(TINY, trunk=spec, epochs=0.2), data, tmp_path / "start").run
    whole = train(recipe, data, tmp_path / "whole", teacher=v1, start=start, where=Where(save_every=1))

    class Stop(Exception):
        pass

    def stop_at(step: int) -> Any:
        def listen(row: dict[str, Any]) -> None:
            if row["kind"] == "step" and row["step"] == step:
                raise Stop

        return listen

    for step in (3, 6, 9, 11):  # it goes on from the step before: 8 is the end of a period of offline mining
        with pytest.raises(Stop):
            train(
                recipe,
                data,
                tmp_path / "broken",
                teacher=v1,
                start=start,
                where=Where(save_every=1, log_every=1, workers=3),
                listen=stop_at(step),
            )
    last = Where(save_every=1, log_every=1, workers=3)
    again = train(recipe, data, tmp_path / "broken", teacher=v1, start=start, where=last)
    assert again.weights.read_bytes() == whole.weights.read_bytes()
    if recipe.labels is not None:
        assert (again.run / CLASSES).read_bytes() == (whole.run / CLASSES).read_bytes()


def test_a_harmonic_training_refuses_a_teacher_of_another_length_before_it_is_asked(tmp_path: Path) -> None:
    teacher = Projection()
    recipe = dataclasses.replace(ONE_STEP, labels=None, harmonic=Harmonic(), sampler=PeopleByPhotos(4, 2))
    with pytest.raises(UsageError, match=r"length 8.* of 12"):
        train(recipe, write_people(tmp_path / "people"), tmp_path / "run", teacher=teacher)
    assert teacher.seen == 0


def test_young_harmonic_trainings_move_the_embedding_layer_alone(tmp_path: Path) -> None:
    """v2 begins with a trained network and a new last layer, which learns alone at first."""
    data = write_people(tmp_path / "people")
    spec = TrunkSpec("iresnet10-tiny", 48, 12)
    old = train(dataclasses.replace(TINY, trunk=spec, epochs=1), data, tmp_path / "old")
    recipe = dataclasses.replace(
        TINY,
        trunk=spec,
        resolutions=(),
        labels=None,
        harmonic=Harmonic(freeze_share=0.9),
        sampler=PeopleByPhotos(4, 2),
        epochs=2,
        held_out=0,
    )
    train(recipe, data, tmp_path / "new", teacher=Projection(), start=tmp_path / "old", where=Where(log_every=1))
    begin = next(row for row in read_log(tmp_path / "new" / "log.jsonl") if row["kind"] == "begin")
    trunk, _ = load_trunk(old.weights)
    ends, weights = load_trunk(tmp_path / "new" / "trunk.safetensors")[0].state_dict(), trunk.state_dict()
    assert set(begin["fresh"]) == {name for name in weights if name.startswith(("fc.", "features."))}
    moved = {name for name, p in trunk.named_parameters() if not torch.equal(ends[name], weights[name])}
    fresh = {"fc.weight", "fc.bias", "features.bias"}
    assert moved == fresh, "all six steps were young"

    state = State.begin(recipe, PEOPLE, 12, torch.device("cpu"))
    still = {name for name, p in state.trunk.named_parameters() if not p.requires_grad}
    for given, progress, learning in ((True, 0.5, fresh), (True, 0.95, None), (False, 0.5, None)):
        state.given = frozenset(weights) - fresh if given else frozenset()
        state.freeze(progress)
        names = {name for name, p in state.trunk.named_parameters() if p.requires_grad}
        assert names == (learning or set(dict(state.trunk.named_parameters())) - still)


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["plain", "groups"])
@pytest.mark.parametrize("name", TRUNKS)
def test_every_trunk_has_an_embedding_layer(name: str, groups: Groups | None) -> None:
    """All that depends on the length of its vectors; one matrix, and no convolution, where there are no groups."""
    with torch.device("meta"):
        one, other = (build(TrunkSpec(name, 64, dim, groups)) for dim in (8, 10))
    weights, others = one.state_dict(), other.state_dict()
    inside = {key for key in weights if key.startswith(embedding_layer(one))}
    changed = {key for key, value in weights.items() if value.shape != others[key].shape}
    assert changed
    assert changed <= inside
    if groups is None:
        assert [weights[key].ndim for key in inside if weights[key].ndim > 1] == [2]


def test_mislabelled_photos_are_as_many_as_asked_and_nobody_s_own(tmp_path: Path) -> None:
    people = open_people(write_people(tmp_path / "people"))
    wrong = people.mislabelled(0.2, 3)
    changed = [(a.person, b.person) for a, b in zip(people.photos, wrong.photos, strict=True) if a != b]
    assert len(changed) == round(0.2 * len(people.photos))
    assert all(a != b and b in people.names for a, b in changed)
    assert [p.name for p in wrong.photos] == [p.name for p in people.photos]
    assert wrong.photos == people.mislabelled(0.2, 3).photos
    assert wrong.photos != people.mislabelled(0.2, 4).photos


def test_cleaning_drops_what_lies_far_from_the_dominant_sub_centre(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows put by hand: photos on the dominant sub-centre of their person stay, those across go, with their names."""
    folder = write_people(tmp_path / "people")
    assert ONE_STEP.labels is not None
    recipe = dataclasses.replace(ONE_STEP, labels=dataclasses.replace(ONE_STEP.labels, centres=2), epochs=0.2)
    outcome_ = train(recipe, folder, tmp_path / "run")
    people = open_people(folder)
    rng = np.random.default_rng(1)
    rows = torch.from_numpy(rng.normal(size=(12, 2, 8)).astype(np.float32))
    state = State.begin(recipe, people.labels, None, torch.device("cpu"))
    assert state.objective.margin_head is not None
    with torch.no_grad():
        state.objective.margin_head.weight.copy_(rows)
    save_rows(tmp_path / "run" / CLASSES, state.objective.margin_head, people)
    vectors = torch.nn.functional.normalize(rows[torch.from_numpy(people.labels), 0]).numpy()
    vectors[[3, 17, 58]] *= -1
    monkeypatch.setattr(validate, "embed", lambda trunk, faces: vectors)
    found = cleaning.cleaned(people, outcome_.run, DropSettings())
    assert found.dropped == tuple(people.photos[i].name for i in (3, 17, 58))
    assert len(found.people.photos) == 57

    with pytest.raises(DataError) as error:
        cleaning.cleaned(people.only(frozenset(people.names[:5])), outcome_.run, DropSettings())
    assert error.value.hint
    vectors *= -1
    with pytest.raises(DataError, match="leaves 0 people"):
        cleaning.cleaned(people, outcome_.run, DropSettings(cut_deg=1e-3))


def test_a_sub_centre_training_finds_photos_under_wrong_names(tmp_path: Path) -> None:
    """A fifth of 144 photos are: most of them are dropped, and hardly any other."""
    folder = write_people(tmp_path / "people", photos=12, side=48)
    several = Labels(ArcFace(0.3), scale=16.0, centres=3, growth=(0.2, 0.7))
    changes: dict[str, Any] = {"mislabelled": 0.2, "labels": several, "sampler": Shuffled(16), "optimiser": SGD(0.1)}
    changes["trunk"] = TrunkSpec("iresnet10-tiny", 32, 32)
    train(dataclasses.replace(ONE_STEP, epochs=10, **changes), folder, tmp_path / "run")
    people = open_people(folder)
    wrong = people.mislabelled(0.2, ONE_STEP.seed)
    misnamed = {a.name for a, b in zip(people.photos, wrong.photos, strict=True) if a != b}
    dropped = set(cleaning.cleaned(wrong, tmp_path / "run", DropSettings()).dropped)
    assert len(dropped & misnamed) > len(misnamed) / 2
    assert len(dropped - misnamed) <= 2


def test_a_training_on_cleaned_photos_says_what_it_left_out(tmp_path: Path) -> None:
    folder = write_people(tmp_path / "people")
    assert ONE_STEP.labels is not None
    noisy = dataclasses.replace(TINY, mislabelled=0.2, held_out=0, resolutions=(), trunk=SPECS["plain"])
    centres = dataclasses.replace(noisy, labels=Labels(ArcFace(0.3), scale=16.0, centres=3))
    train(centres, folder, tmp_path / "centres")
    cut = DropSettings(cut_deg=88)
    noisy = dataclasses.replace(noisy, cleaning=cut)
    train(noisy, folder, tmp_path / "clean", clean_with=tmp_path / "centres")
    rows, names = read_rows(tmp_path / "centres" / CLASSES)
    assert rows is not None
    people = open_people(folder).mislabelled(0.2, noisy.seed)
    assert names == people.names
    begin = next(row for row in read_log(tmp_path / "clean" / "log.jsonl") if row["kind"] == "begin")
    assert begin["dropped"] == list(cleaning.cleaned(people, tmp_path / "centres", cut).dropped)
    assert begin["dropped"] != list(cleaning.cleaned(people, tmp_path / "centres", DropSettings()).dropped)


def test_doubts_about_other_names_are_refused(tmp_path: Path) -> None:
    """The names are the same, their photos are not: another share, another seed, other photos; and no run at all."""
    folder = write_people(tmp_path / "people")
    noisy = dataclasses.replace(ONE_STEP, mislabelled=0.2, epochs=0.2)
    several = dataclasses.replace(noisy, labels=Labels(ArcFace(0.3), scale=16.0, centres=3))
    train(several, folder, tmp_path / "centres")
    train(noisy, folder, tmp_path / "same", clean_with=tmp_path / "centres")
    others = write_people(tmp_path / "others", seed=1)
    for recipe, data, run in (
        (dataclasses.replace(noisy, mislabelled=0.1), folder, "centres"),
        (dataclasses.replace(noisy, seed=1), folder, "centres"),
        (noisy, others, "centres"),
        (noisy, folder, "people"),
    ):
        with pytest.raises(DataError) as error:
            train(recipe, data, tmp_path / "refused", clean_with=tmp_path / run)
        assert error.value.hint
    assert not (tmp_path / "refused").exists()


def test_offline_mining_that_looks_at_nobody_leaves_the_sampler_its_batches(tmp_path: Path) -> None:
    """Whole people do not fit into a subset of three photos."""
    data = write_people(tmp_path / "people")
    common = dataclasses.replace(
        ONE_STEP, labels=None, triplet=Triplet(), sampler=PeopleByPhotos(4, 2), epochs=2, augment=Augment(flip_p=0)
    )
    offline = Offline(every_steps=3, subset=3)  # an epoch has three batches
    ends = [train(dataclasses.replace(common, offline=o), data, tmp_path / str(o is None)) for o in (None, offline)]
    assert ends[0].weights.read_bytes() == ends[1].weights.read_bytes()


def test_class_rows_met_in_a_step_that_is_left_out_stay_frozen() -> None:
    sampled = Labels(ArcFace(0.3), scale=16.0, sample=0.5, unsampled="frozen")
    state = State.begin(
        dataclasses.replace(ONE_STEP, labels=sampled), np.repeat(np.arange(8), 5), None, torch.device("cpu")
    )
    head = state.objective.margin_head
    assert head is not None
    head.judged[:3] = True
    state.skip(np.arange(8), 10, state.statistics())
    assert not head.judged.any()


def test_a_queue_wraps_whatever_head_the_recipe_asks_for() -> None:
    recipe = dataclasses.replace(ONE_STEP, labels=Labels(NormFace(), scale=20.0, learn_scale=True), memory=Memory(7))
    state = State.begin(recipe, PEOPLE, None, torch.device("cpu"))
    assert isinstance(state.objective.labels, BroadFace)
    assert state.objective.margin_head is state.objective.labels.head
    assert state.objective.margin_head.scale == pytest.approx(20)
    assert state.objective.margin_head.pool_others
    apart = dataclasses.replace(ONE_STEP, labels=Labels(ArcFace(), centres=2, pool_others=False), memory=Memory(7))
    head = State.begin(apart, PEOPLE, None, torch.device("cpu")).objective.margin_head
    assert head is not None
    assert not head.pool_others
    plain = State.begin(dataclasses.replace(ONE_STEP, labels=Labels(Softmax())), PEOPLE, None, torch.device("cpu"))
    assert plain.objective.margin_head is plain.objective.labels
    assert isinstance(recipe.optimiser, SGD)
