"""A trunk as ONNX: the same vectors at any batch, half the size where asked, and no file where it failed."""

import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from facespace.errors import ModelError
from facespace.models.nets import export
from facespace.models.nets.export import TOLERANCE, export_onnx
from facespace.models.nets.trunks import TrunkSpec, build

SPEC = TrunkSpec("iresnet10-tiny", 32, 16)


def trained() -> nn.Module:
    torch.manual_seed(0)
    trunk = build(SPEC)
    for _ in range(3):
        trunk(torch.rand(8, 3, 32, 32) * 2 - 1)
    return trunk


@pytest.fixture(scope="module")
def trunk() -> nn.Module:
    return trained()


@pytest.fixture(scope="module", params=[False, True], ids=["full", "half"])
def exported(request: pytest.FixtureRequest, trunk: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / f"{'half' if request.param else 'full'}.onnx"
    assert export_onnx(trunk, SPEC, path, half=request.param) <= TOLERANCE[request.param]
    return path


@pytest.mark.parametrize("batch", [1, 3, 17])
def test_the_vectors_are_those_of_torch_at_any_batch(exported: Path, trunk: nn.Module, batch: int) -> None:
    faces = torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(batch)) * 2 - 1
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["faces"]
    assert [o.name for o in session.get_outputs()] == ["embedding"]
    (found,) = session.run(None, {"faces": faces.numpy()})
    with torch.inference_mode():
        expected = nn.functional.normalize(trunk.eval()(faces)).numpy()
    found = np.asarray(found)
    assert found.shape == (batch, 16)
    distance = np.linalg.norm(found / np.linalg.norm(found, axis=1, keepdims=True) - expected, axis=1)
    assert distance.max() <= TOLERANCE["half" in exported.name]


def test_the_file_is_sound_and_alone(exported: Path) -> None:
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    assert list(exported.parent.iterdir()) == [exported], "nothing beside it: no external data, no part"
    assert {entry.domain for entry in model.opset_import} <= {"", "ai.onnx"}


def test_half_precision_halves_the_file(exported: Path, trunk: nn.Module) -> None:
    full = 4 * sum(value.numel() for value in trunk.parameters())
    size = exported.stat().st_size
    assert 0.45 * full < size < 0.65 * full if "half" in exported.name else 0.9 * full < size < 1.15 * full


def test_nothing_is_said_and_the_trunk_stays_as_it_was(
    trunk: nn.Module, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warnings are errors here; the exporter's notes to its developers must not reach the user either."""
    trunk.train()
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    level = logging.getLogger("torch.onnx._internal.exporter._registration").level
    export_onnx(trunk, SPEC, tmp_path / "model.onnx")
    assert trunk.training
    assert all(torch.equal(before[key], value) for key, value in trunk.state_dict().items())
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("torch.onnx._internal.exporter._registration").level == level


@pytest.mark.parametrize("distance", [0.01, float("nan")])
def test_a_model_that_differs_is_refused_and_the_file_before_stays(
    distance: float, trunk: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    monkeypatch.setattr(export, "_write", lambda trunk, spec, aside, half: aside.write_bytes(b"another"))
    monkeypatch.setattr(export, "_distance", lambda trunk, spec, aside: distance)
    with pytest.raises(ModelError, match="differs"):
        export_onnx(trunk, SPEC, path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_session_leaves_no_part(trunk: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(trunk: nn.Module, spec: TrunkSpec, aside: Path, half: bool) -> None:
        aside.write_bytes(b"half a mod")
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(trunk, SPEC, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_export_shows_no_path_of_the_machine_that_made_it(tmp_path: Path) -> None:
    spec = TrunkSpec("iresnet10-tiny", 32, 8)
    for half in (False, True):
        export_onnx(build(spec), spec, tmp_path / "model.onnx", half=half)
        content = (tmp_path / "model.onnx").read_bytes()
        assert b"stack_trace" not in content
        assert b".py" not in content
