"""A training that begins with the weights of another."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import TINY, quick_export, write_people

from facespace.errors import ModelError, TrainingError
from facespace.losses.groupface import GroupLabels
from facespace.models.nets.groupface import Groups
from facespace.models.nets.trunks import TrunkSpec, load_trunk
from facespace.train import outcome
from facespace.train.loop import train
from facespace.train.runlog import read_log
from facespace.train.start import CLASSES, read_rows

LAST = replace(TINY, resolutions=(), optimiser=replace(TINY.optimiser, rate=1e-12), epochs=0.2, warmup=0.0)
"""One step that moves nothing to speak of."""


@pytest.fixture(autouse=True)
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "export_onnx", quick_export)


def test_the_trunk_begins_with_the_given_weights_and_the_card_names_them(tmp_path: Path) -> None:
    data = write_people(tmp_path / "people")
    before = train(replace(TINY, epochs=1), data, tmp_path / "first")
    after = train(LAST, data, tmp_path / "second", start=tmp_path / "first")
    old, new = (dict(load_trunk(end.weights)[0].named_parameters()) for end in (before, after))
    assert all(torch.allclose(old[name], new[name], atol=1e-6) for name in old)
    digest = json.loads((tmp_path / "second" / "run.json").read_text())["start"]
    card = json.loads((tmp_path / "second" / "model.card.json").read_text())
    assert f"begun with weights {digest[:16]}" in card["trained_on"]


def test_a_training_killed_before_its_first_checkpoint_tells_its_beginning_once(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(row: dict[str, Any]) -> None:
        if row["kind"] == "step":
            raise Stop

    data = write_people(tmp_path / "people")
    train(LAST, data, tmp_path / "first")
    other = replace(LAST, trunk=replace(LAST.trunk, dim=8))
    with pytest.raises(Stop):
        train(other, data, tmp_path / "second", start=tmp_path / "first", listen=stop)
    for _ in range(2):
        train(other, data, tmp_path / "second", start=tmp_path / "first")
        kinds = [row["kind"] for row in read_log(tmp_path / "second" / "log.jsonl")]
        assert kinds == ["warning", "begin", "step", "held_out", "end"]  # warned: class rows do not fit either


def test_people_keep_their_class_rows_by_name(tmp_path: Path) -> None:
    """Some of the start's people are gone, others have come: rows follow the names, and the new ones begin afresh."""
    whole = replace(LAST, held_out=0)
    taught = replace(TINY, held_out=0, epochs=1)
    train(taught, write_people(tmp_path / "people"), tmp_path / "first")
    rows, names = read_rows(tmp_path / "first" / CLASSES)
    shutil.rmtree(tmp_path / "people" / names[0])
    shutil.copytree(tmp_path / "people" / names[1], tmp_path / "people" / "a newcomer")
    train(whole, tmp_path / "people", tmp_path / "second", start=tmp_path / "first")
    after, new_names = read_rows(tmp_path / "second" / CLASSES)
    assert rows is not None
    assert after is not None
    assert new_names == ("a newcomer", *names[1:])
    torch.testing.assert_close(after[1:], rows[1:], rtol=0, atol=1e-6)
    assert (after[0] - rows[0]).abs().max() > 0.02
    warnings = [row["message"] for row in read_log(tmp_path / "second" / "log.jsonl") if row["kind"] == "warning"]
    assert warnings == [f"class rows begin afresh for 1 of {len(names)} people"]


def test_class_rows_of_another_space_are_left_behind(tmp_path: Path) -> None:
    """Where the embedding layer is new, rows of the old one's space would point anywhere: without groups and with."""
    data = write_people(tmp_path / "people")
    train(replace(TINY, epochs=1), data, tmp_path / "first")
    rows, names = read_rows(tmp_path / "first" / CLASSES)
    groups = Groups(4, shared=16, hidden=8)
    grouped = replace(LAST, trunk=replace(LAST.trunk, groups=groups), group_labels=GroupLabels())
    train(grouped, data, tmp_path / "grouped", start=tmp_path / "first")
    after, _ = read_rows(tmp_path / "grouped" / CLASSES)
    assert rows is not None
    assert after is not None
    assert after.shape == rows.shape
    assert (after - rows).abs().max() > 0.02
    warnings = [row["message"] for row in read_log(tmp_path / "grouped" / "log.jsonl") if row["kind"] == "warning"]
    assert warnings == [f"class rows begin afresh for {len(names)} of {len(names)} people"]


def test_a_run_belongs_to_the_weights_it_began_with(tmp_path: Path) -> None:
    data = write_people(tmp_path / "people")
    train(LAST, data, tmp_path / "first")
    train(LAST, data, tmp_path / "second", start=tmp_path / "first")
    with pytest.raises(TrainingError, match="start"):
        train(LAST, data, tmp_path / "second")


def test_weights_of_another_trunk_are_refused(tmp_path: Path) -> None:
    data = write_people(tmp_path / "people")
    train(LAST, data, tmp_path / "first")
    other = replace(LAST, trunk=TrunkSpec("iresnet10-narrow", 48, 16))
    with pytest.raises(ModelError, match="trunk"):
        train(other, data, tmp_path / "second", start=tmp_path / "first")


def test_class_rows_come_along_for_the_same_people_alone(tmp_path: Path) -> None:
    """The rows of a run go into a head on the same people, into each sub-centre too; not into one on other people."""
    data = write_people(tmp_path / "people")
    train(replace(TINY, epochs=1), data, tmp_path / "first")
    rows, _ = read_rows(tmp_path / "first" / CLASSES)
    assert rows is not None
    train(LAST, data, tmp_path / "same", start=tmp_path / "first")
    same, _ = read_rows(tmp_path / "same" / CLASSES)
    torch.testing.assert_close(same, rows, rtol=0, atol=1e-6)

    assert LAST.labels is not None
    several = replace(LAST, labels=replace(LAST.labels, centres=3))
    train(several, data, tmp_path / "several", start=tmp_path / "first")
    centres, _ = read_rows(tmp_path / "several" / CLASSES)
    assert centres is not None
    assert centres.shape == (8, 3, 16)
    cosines = torch.nn.functional.cosine_similarity(centres, rows[:, None], dim=2)
    assert cosines.min() > 0.99
    assert cosines.max() < 0.9999
    assert not torch.allclose(centres[:, 0], centres[:, 1], atol=1e-3)

    train(several, data, tmp_path / "again", start=tmp_path / "several")
    torch.testing.assert_close(read_rows(tmp_path / "again" / CLASSES)[0], centres, rtol=0, atol=1e-6)
    for count in (1, 2):  # neither one nor two stand for three: random rows, as without a start
        fewer = replace(LAST, labels=replace(LAST.labels, centres=count))
        train(fewer, data, tmp_path / str(count), start=tmp_path / "several")
        other, _ = read_rows(tmp_path / str(count) / CLASSES)
        assert other is not None
        assert other.std() == pytest.approx(0.01, rel=0.3)

    train(replace(LAST, seed=1), data, tmp_path / "others", start=tmp_path / "first")  # other people held out
    others, _ = read_rows(tmp_path / "others" / CLASSES)
    assert others is not None
    assert (others - rows).abs().max() > 0.02


def test_what_does_not_fit_stays_fresh_and_is_named(tmp_path: Path) -> None:
    """A network with groups begins with the trunk of one without; another length makes the embedding layer anew."""
    data = write_people(tmp_path / "people")
    wide = replace(TINY, trunk=TrunkSpec("iresnet10-tiny", 48, 32), epochs=1)
    first = train(wide, data, tmp_path / "first")
    old = load_trunk(first.weights)[0].state_dict()
    groups = Groups(4, shared=32, hidden=8)
    grouped = replace(LAST, trunk=TrunkSpec("iresnet10-tiny", 48, 16, groups), group_labels=GroupLabels())
    after = train(grouped, data, tmp_path / "grouped", start=tmp_path / "first")
    new = load_trunk(after.weights)[0].state_dict()
    assert torch.allclose(new["trunk.fc.weight"], old["fc.weight"], atol=1e-6)
    begin = next(row for row in read_log(tmp_path / "grouped" / "log.jsonl") if row["kind"] == "begin")
    assert {name.split(".")[0] for name in begin["fresh"]} == {"instance", "members", "decision"}

    train(LAST, data, tmp_path / "short", start=tmp_path / "first")
    begin = next(row for row in read_log(tmp_path / "short" / "log.jsonl") if row["kind"] == "begin")
    assert {name.split(".")[0] for name in begin["fresh"]} == {"fc", "features"}


def test_damaged_class_rows_are_refused(tmp_path: Path) -> None:
    data = write_people(tmp_path / "people")
    train(LAST, data, tmp_path / "first")
    (tmp_path / "first" / CLASSES).write_bytes(b"no weights")
    with pytest.raises(ModelError) as error:
        train(LAST, data, tmp_path / "second", start=tmp_path / "first")
    assert error.value.hint
