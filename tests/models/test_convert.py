"""Torch weights to ONNX with a card, and both as Embedders."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facespace.errors import ModelNotFound, UsageError
from facespace.models.card import Card, Input, OperatingPoint, card_path, read_card, write_card
from facespace.models.convert import export
from facespace.models.embedder import load
from facespace.models.nets.trunks import TrunkSpec, build, save_trunk

SPEC = TrunkSpec("iresnet10-tiny", 56, 16)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with fresh weights and their card."""
    import hashlib

    folder = tmp_path_factory.mktemp("run")
    weights = folder / "trunk.safetensors"
    torch.manual_seed(1)
    save_trunk(weights, build(SPEC), SPEC)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    points = (OperatingPoint("FMR=0.001", 0.4),)
    taken = Input(56, "rgb", 127.5, 127.5)
    write_card(Card("ours", weights.name, digest, taken, 16, licence="MIT", operating_points=points), weights)
    return folder


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    output = run / "elsewhere" / "net.onnx"
    assert 0 <= export(run, output) < 1e-4
    return output


def test_both_forms_give_the_same_vectors(run: Path, exported: Path) -> None:
    """A user without torch gets what the trainer had, to five digits; the thread count of torch is left as it was."""
    faces = np.random.default_rng(0).integers(0, 256, (11, 112, 112, 3), dtype=np.uint8)
    before = torch.get_num_threads()
    in_torch, in_onnx = load(run / "trunk.safetensors", threads=before + 1), load(exported)
    np.testing.assert_allclose(in_torch.embed(faces), in_onnx.embed(faces), atol=1e-5)
    assert torch.get_num_threads() == before
    assert in_torch.contract != in_onnx.contract
    assert in_torch.name == in_onnx.name == "ours"


def test_the_card_goes_along_and_fits_the_new_file(run: Path, exported: Path) -> None:
    card = read_card(card_path(exported))
    original = read_card(card_path(run / "trunk.safetensors"))
    assert replace(card, file=original.file, sha256=original.sha256) == original
    assert card.file == "net.onnx"


def test_half_precision_halves_the_file_and_voids_the_threshold(run: Path, exported: Path) -> None:
    output = exported.with_name("half.onnx")
    export(run, output, half=True)
    assert output.stat().st_size < 0.75 * exported.stat().st_size
    assert load(output).card.operating_points == ()


def test_what_cannot_be_exported_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        export(tmp_path, tmp_path / "x.onnx")
    with pytest.raises(UsageError, match=r"\.onnx"):
        export(run, tmp_path / "x.pt")
    with pytest.raises(UsageError, match="what network") as contradicted:
        export(run, tmp_path / "x.onnx", trunk="iresnet50")
    assert "--trunk" in contradicted.value.hint
    (tmp_path / "done.onnx").touch()
    with pytest.raises(UsageError, match="ONNX already"):
        export(tmp_path / "done.onnx", tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()
    weights = tmp_path / "public.pt"
    weights.touch()
    with pytest.raises(UsageError, match="network"):
        export(weights, tmp_path / "x.onnx")
