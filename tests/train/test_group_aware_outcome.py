"""A training of a GroupFace leaves models that compare by their groups, with cards that say so."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_training import TINY, write_people

from facespace.core.similarity import GroupAware
from facespace.losses.groupface import GroupLabels
from facespace.models.embedder import load
from facespace.models.nets.groupface import Groups
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.loop import train

SPEC = TrunkSpec("iresnet10-tiny", 48, 8, Groups(3, shared=12, hidden=5))


def test_a_trained_groupface_is_a_group_aware_model_in_both_forms(tmp_path: Path) -> None:
    recipe = replace(TINY, name="groups", trunk=SPEC, epochs=1, group_labels=GroupLabels())
    outcome = train(recipe, write_people(tmp_path / "people"), tmp_path / "run")
    in_onnx, in_torch = load(outcome.run), load(outcome.weights)
    for embedder in (in_onnx, in_torch):
        assert embedder.card.group_aware == GroupAware(8)
        assert embedder.dim == 13
        assert "by cosine of the embedding alone" in embedder.card.numbers[0]["protocol"]
    shown = json.loads((outcome.run / "groups" / "groups.json").read_text())
    assert [row["path"] for row in shown] == [path.name for path in sorted((outcome.run / "groups").glob("*.png"))]
    assert sum(row["share"] for row in shown) == pytest.approx(1)
    assert all(row["photos"] for row in shown)
    faces = np.random.default_rng(0).integers(0, 256, (5, 112, 112, 3), dtype=np.uint8)
    vectors = in_torch.embed(faces)
    np.testing.assert_allclose(in_onnx.embed(faces), vectors, atol=2e-5)
    np.testing.assert_allclose(np.diagonal(in_onnx.similarity(vectors, vectors)), 1, atol=1e-6)
