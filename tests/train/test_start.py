"""A training that begins with the weights of another."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import TINY, quick_export, write_people

from facespace.errors import ModelError, TrainingError
from facespace.models.nets.trunks import TrunkSpec, load_trunk
from facespace.train import outcome
from facespace.train.loop import train

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


def test_a_run_belongs_to_the_weights_it_began_with(tmp_path: Path) -> None:
    data = write_people(tmp_path / "people")
    train(LAST, data, tmp_path / "first")
    train(LAST, data, tmp_path / "second", start=tmp_path / "first")
    with pytest.raises(TrainingError, match="start"):
        train(LAST, data, tmp_path / "second")


def test_weights_of_another_trunk_are_refused(tmp_path: Path) -> None:
    data = write_people(tmp_path / "people")
    train(LAST, data, tmp_path / "first")
    other = replace(LAST, trunk=TrunkSpec("iresnet10-tiny", 48, 20))
    with pytest.raises(ModelError, match="trunk"):
        train(other, data, tmp_path / "second", start=tmp_path / "first")
