"""Weights on disk: what is written comes back bit for bit; anything else is refused, and nothing in a file is run."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from facespace.errors import ModelError, UsageError
from facespace.models.nets import trunks
from facespace.models.nets.iresnet import IResNet
from facespace.models.nets.trunks import TrunkSpec, build, load_arcface_torch, load_trunk, normalise, save_trunk

SPEC = TrunkSpec("iresnet10-tiny", 48, 12)


@pytest.fixture(autouse=True)
def small_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the table, under the name of a public member, a network of its keys and few weights."""
    monkeypatch.setitem(
        trunks.TRUNKS, "iresnet18", lambda size, dim: IResNet((2, 2, 2, 2), (2, 2, 2, 2), size=size, dim=dim)
    )


def public(dim: int = 6) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return build(TrunkSpec("iresnet18", 112, dim)).state_dict()


def trained(spec: TrunkSpec = SPEC) -> nn.Module:
    """A trunk whose statistics moved too."""
    torch.manual_seed(1)
    trunk = build(spec)
    trunk(torch.rand(4, 3, spec.size, spec.size))
    return trunk


def write(path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None) -> Path:
    save_file(state, path, metadata=metadata)
    return path


def about(**changes: Any) -> dict[str, str]:
    return {"trunk": json.dumps({"name": SPEC.name, "size": SPEC.size, "dim": SPEC.dim} | changes)}


def test_weights_come_back_bit_for_bit_with_their_spec(tmp_path: Path) -> None:
    trunk = trained().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_trunk(tmp_path / "trunk.safetensors", trunk, SPEC)
    again, spec = load_trunk(tmp_path / "trunk.safetensors")
    assert spec == SPEC
    assert not again.training
    assert again.state_dict().keys() == trunk.state_dict().keys()
    for key, value in trunk.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    assert list(tmp_path.iterdir()) == [tmp_path / "trunk.safetensors"]


def test_a_write_that_fails_leaves_the_weights_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trunk.safetensors"
    save_trunk(path, trained(), SPEC)
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> int:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        save_trunk(path, trained(), SPEC)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"trunk": "no json"},
        {"trunk": "[]"},
        {"trunk": "{}"},
        about(name="resnet152"),
        about(name=7),
        about(size="48"),
        about(size=48.0),
        about(size=True),
        about(size=4),
        about(dim=10**9),
        about(extra=1),
    ],
)
def test_metadata_that_is_not_ours_is_refused(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", {"fc.weight": torch.zeros(2, 2)}, metadata)
    with pytest.raises(ModelError, match=r"x\.safetensors"):
        load_trunk(path)


@pytest.mark.parametrize("change", ["missing", "strange", "shape", "nan", "inf", "another trunk"])
def test_tensors_that_do_not_fit_or_are_not_finite_are_refused(change: str, tmp_path: Path) -> None:
    state = {key: value.clone().contiguous() for key, value in trained().state_dict().items()}
    match change:
        case "missing":
            del state["bn2.weight"]
        case "strange":
            state["more.weight"] = torch.zeros(1)
        case "shape":
            state["fc.bias"] = torch.zeros(13)
        case "nan":
            state["fc.bias"][3] = torch.nan
        case "inf":
            state["bn1.running_var"][0] = torch.inf
        case "another trunk":
            state = trained(TrunkSpec("mobilefacenet", 48, 12)).state_dict()
    with pytest.raises(ModelError, match="finite" if change in ("nan", "inf") else "do not fit"):
        load_trunk(write(tmp_path / "x.safetensors", state, about()))


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    for content in (b"", b"not a model", b"\xff" * 100, (2**60).to_bytes(8, "little") + b"{}"):
        (tmp_path / "x.safetensors").write_bytes(content)
        with pytest.raises(ModelError):
            load_trunk(tmp_path / "x.safetensors")
    with pytest.raises(ModelError):
        load_trunk(tmp_path / "absent.safetensors")


def test_a_public_checkpoint_loads_and_embeds_as_the_network_it_is_of(tmp_path: Path) -> None:
    torch.save(public(), tmp_path / "backbone.pth")
    trunk = load_arcface_torch(tmp_path / "backbone.pth", "iresnet18")
    twin = build(TrunkSpec("iresnet18", 112, 6)).eval()
    twin.load_state_dict(public())
    faces = torch.rand(2, 3, 112, 112)
    assert not trunk.training
    with torch.no_grad():
        assert torch.equal(trunk(faces), twin(faces))


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["torch", "old torch", "pickle", "beside good weights"])
def test_a_file_that_would_run_a_program_is_refused_unrun(how: str, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "x.pt"
    match how:
        case "torch":
            torch.save(Canary(canary), path)
        case "old torch":
            torch.save(Canary(canary), path, _use_new_zipfile_serialization=False)
        case "pickle":
            path.write_bytes(pickle.dumps(Canary(canary)))
        case _:
            torch.save(public() | {"extra": Canary(canary)}, path)
    with pytest.raises(ModelError):
        load_arcface_torch(path, "iresnet18")
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists(), "the canary would have sung"


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"fc.weight": 3},
        {"fc.weight": torch.zeros(6)},
        {"fc.weight": torch.tensor(1.0)},
        {"fc.weight": torch.zeros(0, 3)},
        {"epoch": 3, "fc.weight": torch.zeros(6, 98)},
        {3: torch.zeros(2), "fc.weight": torch.zeros(6, 98)},
        {"backbone": torch.zeros(2)},
    ],
    ids=repr,
)
def test_content_that_is_no_backbone_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises((ModelError, UsageError)):
        load_arcface_torch(tmp_path / "x.pt", "iresnet18")


def test_keys_shapes_and_values_of_a_public_checkpoint_are_checked(tmp_path: Path) -> None:
    for key, value, words in (
        ("bn1.weight", None, "do not fit"),
        ("head.weight", torch.zeros(2), "do not fit"),
        ("conv1.weight", torch.zeros(2, 3, 5, 5), "do not fit"),
        ("fc.bias", torch.full((6,), torch.nan), "not finite"),
    ):
        state = public() | ({} if value is None else {key: value})
        if value is None:
            del state[key]
        torch.save(state, tmp_path / "x.pt")
        with pytest.raises(ModelError, match=words):
            load_arcface_torch(tmp_path / "x.pt", "iresnet18")


def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pt"
    torch.save(public(), whole)
    for content in (
        b"",
        b"PK\3\4",
        b"x" * 1000,
        b"\x80\x02}q\x00.",
        whole.read_bytes()[:-300],
        whole.read_bytes()[:500],
    ):
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(ModelError):
            load_arcface_torch(tmp_path / "x.pt", "iresnet18")
    with pytest.raises(ModelError):
        load_arcface_torch(tmp_path / "absent.pt", "iresnet18")


def test_a_spec_that_makes_no_sense_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError) as refusal:
        TrunkSpec("vgg16")
    assert "iresnet50" in refusal.value.hint
    for size, dim in ((31, 8), (449, 8), (112, 1), (112, 8193)):
        with pytest.raises(UsageError):
            TrunkSpec("iresnet50", size, dim)


def test_pixels_are_put_between_minus_one_and_one() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    expected = (torch.arange(256, dtype=torch.float64) - 127.5) / 127.5
    torch.testing.assert_close(normalise(pixels).double().ravel(), expected, rtol=0, atol=1e-7)
    assert int(pixels.max()) == 255, "the faces stay"
