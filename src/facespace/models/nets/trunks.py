"""The trunks by name, in one table, and their weights on disk (safetensors, with the name of the trunk inside)."""

import json
import pickle
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from facespace.core.similarity import GroupAware
from facespace.errors import ModelError, UsageError
from facespace.models.card import write_atomic
from facespace.models.nets.facenet import NN1, NN2, NN4, NNS1, NNS2
from facespace.models.nets.groupface import GroupFace, Groups
from facespace.models.nets.inception import Inception, Layout, Norm, Options
from facespace.models.nets.iresnet import IResNet
from facespace.models.nets.mobilefacenet import MobileFaceNet

Builder = Callable[[int, int], nn.Module]


@dataclass(frozen=True)
class TrunkSpec:
    """What a network is built from: the name of its trunk in `TRUNKS`, the side of its input in pixels, the length of
    its embedding, and the groups on top of the trunk, if any.
    """

    name: str
    size: int = 112
    dim: int = 512
    groups: Groups | None = None

    def __post_init__(self) -> None:
        if self.name not in TRUNKS:
            raise UsageError(f"no trunk is called {self.name!r}", hint="one of: " + ", ".join(TRUNKS))
        if not (32 <= self.size <= 448 and 2 <= self.dim <= 8192):
            raise UsageError(
                f"a trunk of input {self.size} and output {self.dim} makes no sense", hint="size 32..448, dim 2..8192"
            )
        if self.groups is not None:
            self.groups.check_dim(self.dim)

    @property
    def group_aware(self) -> GroupAware | None:
        """How vectors of this network are compared where their groups take part in it; None: by cosine."""
        return GroupAware(self.dim) if self.groups is not None and self.groups.compared else None

    @property
    def vector_dim(self) -> int:
        """Length of the vectors that a finished model gives: that of vhat comes on top where it is compared."""
        return self.dim + (self.groups.hidden if self.groups is not None and self.groups.compared else 0)


def _iresnet(*blocks: int) -> Builder:
    return lambda size, dim: IResNet(blocks, size=size, dim=dim)


def _small(blocks: tuple[int, ...], widths: tuple[int, ...]) -> Builder:
    """Narrow and shallow members whose stem has stride 2: a 112-pixel face at a fortieth of IResNet-50's cost."""
    return lambda size, dim: IResNet(blocks, widths, size=size, dim=dim, stem_stride=2)


def _inception(layout: Layout, norm: Norm = "lrn") -> Builder:
    return lambda size, dim: Inception(layout, size=size, dim=dim, options=Options(norm))


TRUNKS: dict[str, Builder] = {
    "iresnet18": _iresnet(2, 2, 2, 2),
    "iresnet34": _iresnet(3, 4, 6, 3),
    "iresnet50": _iresnet(3, 4, 14, 3),
    "iresnet100": _iresnet(3, 13, 30, 3),
    "iresnet200": _iresnet(6, 26, 60, 6),
    "iresnet10-tiny": _small((1, 1, 1, 1), (16, 32, 64, 128)),
    "iresnet10-narrow": _small((1, 1, 1, 1), (32, 64, 128, 256)),
    "iresnet16-narrow": _small((1, 2, 3, 1), (24, 64, 128, 256)),
    "mobilefacenet": lambda size, dim: MobileFaceNet(size=size, dim=dim),
    "facenet_nn1": lambda size, dim: NN1(size=size, dim=dim),  # the paper's size: 220
    "facenet_nn2": _inception(NN2),  # 224
    "facenet_nn3": _inception(NN2),  # 160
    "facenet_nn4": _inception(NN4),  # 96
    "facenet_nns1": _inception(NNS1),  # 165
    "facenet_nns2": _inception(NNS2),  # 140
    "facenet_nn2_bn": _inception(NN2, "bn"),  # batch normalisation, as public code has it
    "facenet_nn4_bn": _inception(NN4, "bn"),
    "facenet_nns2_bn": _inception(NNS2, "bn"),
}


def build(spec: TrunkSpec) -> nn.Module:
    """A network with fresh weights from torch's current generator: a trunk, or a GroupFace on one."""
    if spec.groups is None:
        return TRUNKS[spec.name](spec.size, spec.dim)
    return GroupFace(TRUNKS[spec.name](spec.size, spec.groups.shared), spec.groups, spec.dim)


def normalise(faces: Tensor) -> Tensor:
    """Our own trunks' preprocessing: RGB uint8 `(N, 3, S, S)` to float in -1..1, (x - 127.5) / 127.5."""
    return faces.float().sub_(127.5).div_(127.5)


def save_trunk(path: Path, trunk: nn.Module, spec: TrunkSpec) -> None:
    """Write the weights as safetensors, atomically, with the spec in the metadata."""
    from safetensors.torch import save

    state = {k: v.detach().cpu().contiguous() for k, v in trunk.state_dict().items()}
    about = {key: value for key, value in asdict(spec).items() if value is not None}  # no groups, no key
    write_atomic(path, save(state, {"trunk": json.dumps(about)}))


def load_trunk(path: Path) -> tuple[nn.Module, TrunkSpec]:
    """The trunk of a safetensors file written by `save_trunk`, in evaluation mode.

    Raises ModelError where the file is not one of ours, or its tensors are not exactly those of its trunk.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            spec = _read_spec((file.metadata() or {})["trunk"])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, UsageError, KeyError, TypeError, ValueError, RecursionError, OSError) as error:
        raise ModelError(
            f"not weights of a facespace trunk ({error})", file=path, hint="train one: facespace train"
        ) from error
    return fill(build(spec), state, path).eval(), spec


def _read_spec(text: str) -> TrunkSpec:
    document = json.loads(text)
    if [type(document[key]) for key in ("name", "size", "dim")] != [str, int, int]:
        raise ValueError("the trunk's name, size and dim must be a text and two whole numbers")
    groups = None if document.get("groups") is None else Groups(**document["groups"])
    return TrunkSpec(**{**document, "groups": groups})


def load_arcface_torch(path: Path, name: str = "iresnet50") -> nn.Module:
    """An IResNet from a public arcface_torch checkpoint (`.pt` / `.pth`, a plain state dict), in evaluation mode.

    Read with `weights_only=True`: the file is data, never program. Raises ModelError on any other content.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch finds odd in a strange file is either read or refused
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, LookupError, RuntimeError, ValueError, TypeError, EOFError, OSError) as error:
        raise ModelError(
            "not a plain state dict", file=path, hint="only tensors are read; nothing in a file is run"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise ModelError("holds more than tensors by name", file=path, hint="take the file with the backbone alone")
    if "fc.weight" not in state or state["fc.weight"].ndim != 2:
        raise ModelError(
            "holds no arcface_torch backbone", file=path, hint="expected the keys of an IResNet, fc.weight among them"
        )
    return fill(build(TrunkSpec(name, 112, state["fc.weight"].shape[0])), state, path).eval()


def fill(trunk: nn.Module, state: dict[str, Tensor], path: Path) -> nn.Module:
    """Load `state` into `trunk`; every key and shape must match, every value be finite."""
    expected = trunk.state_dict()
    wrong = sorted(expected.keys() ^ state.keys())
    wrong += [k for k in sorted(expected.keys() & state.keys()) if expected[k].shape != state[k].shape]
    if wrong:
        raise ModelError(
            f"{len(wrong)} tensors do not fit the trunk, such as {wrong[0]}", file=path, hint="name another trunk"
        )
    if not all(torch.isfinite(v).all() for v in state.values() if v.is_floating_point()):
        raise ModelError(
            "the weights hold values that are not finite", file=path, hint="the training that wrote them diverged"
        )
    trunk.load_state_dict(state)
    return trunk
