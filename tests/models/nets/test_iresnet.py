"""IResNet and MobileFaceNet: the published sizes, shapes and names of parameters; any side of input."""

import pytest
import torch
from torch import Tensor, nn

from facespace.models.nets.iresnet import IResNet
from facespace.models.nets.mobilefacenet import MobileFaceNet
from facespace.models.nets.trunks import TRUNKS, TrunkSpec, build

PUBLISHED = {  # millions of trained numbers at 112 pixels and 512 dimensions, as the public zoo and its code give them
    "iresnet18": 24.02,
    "iresnet34": 34.14,
    "iresnet50": 43.59,
    "iresnet100": 65.15,
}
BLOCKS = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
}


def on_meta(name: str, dim: int = 512) -> nn.Module:
    """The trunk without memory for its weights."""
    with torch.device("meta"):
        return build(TrunkSpec(name, 112, dim))


def count(trunk: nn.Module) -> int:
    return sum(parameter.numel() for parameter in trunk.parameters())


def by_hand(blocks: tuple[int, ...], dim: int) -> int:
    """Numbers of an IResNet, counted from the description of its blocks."""
    total, inside = 3 * 64 * 9 + 2 * 64 + 64, 64  # stem: convolution, normalisation, slopes
    for repeats, width in zip(blocks, (64, 128, 256, 512), strict=True):
        for i in range(repeats):
            total += 2 * inside + inside * width * 9 + 2 * width + width + width * width * 9 + 2 * width
            total += inside * width + 2 * width if i == 0 else 0  # the shortcut
            inside = width
    return total + 2 * 512 + 512 * 49 * dim + dim + 2 * dim


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_members_have_the_published_sizes(name: str) -> None:
    trunk = on_meta(name)
    assert count(trunk) == by_hand(BLOCKS[name], 512)
    assert abs(count(trunk) / 1e6 - PUBLISHED[name]) < 0.0101
    assert count(on_meta(name, 128)) == by_hand(BLOCKS[name], 128)


@pytest.mark.parametrize("name", BLOCKS)
def test_parameters_are_named_as_in_the_public_checkpoints(name: str) -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight", "prelu.weight", "fc.weight", "fc.bias"}
    expected |= {f"{layer}.{part}" for layer in ("bn1", "bn2", "features") for part in norm}
    for stage, repeats in enumerate(BLOCKS[name], 1):
        for i in range(repeats):
            block = f"layer{stage}.{i}"
            expected |= {f"{block}.{part}.weight" for part in ("conv1", "conv2", "prelu")}
            expected |= {f"{block}.{layer}.{part}" for layer in ("bn1", "bn2", "bn3") for part in norm}
        expected |= {f"layer{stage}.0.downsample.0.weight"} | {f"layer{stage}.0.downsample.1.{part}" for part in norm}
    assert on_meta(name).state_dict().keys() == expected


def sides(trunk: nn.Module, layers: list[str], side: int) -> list[tuple[int, ...]]:
    """Shapes after some layers, for two faces."""
    shapes: list[tuple[int, ...]] = []
    for name in layers:
        trunk.get_submodule(name).register_forward_hook(lambda module, taken, out: shapes.append(tuple(out.shape)))
    trunk.eval()(torch.zeros(2, 3, side, side))
    return shapes


LAYERS = ["conv1", "layer1", "layer2", "layer3", "layer4", "fc", "features"]


def test_each_stage_halves_the_side() -> None:
    trunk = IResNet((1, 1, 1, 1), (4, 6, 8, 10), size=112, dim=5)
    maps = [(2, 4, 112, 112), (2, 4, 56, 56), (2, 6, 28, 28), (2, 8, 14, 14), (2, 10, 7, 7), (2, 5), (2, 5)]
    assert sides(trunk, LAYERS, 112) == maps


def test_a_stem_of_stride_two_halves_once_more() -> None:
    trunk = IResNet((1, 1, 1, 1), (4, 6, 8, 10), size=112, dim=5, stem_stride=2)
    assert [shape[-1] for shape in sides(trunk, LAYERS[:5], 112)] == [56, 28, 14, 7, 4]
    assert trunk.fc.in_features == 10 * 4 * 4


def reference(trunk: IResNet, x: Tensor) -> Tensor:
    """The forward pass in evaluation mode, in float64, from the weights by name."""
    state = {key: value.double() for key, value in trunk.state_dict().items()}

    def bn(x: Tensor, at: str) -> Tensor:
        shape = (1, -1, 1, 1) if x.ndim == 4 else (1, -1)
        mean, var, gain, bias = (
            state[f"{at}.{part}"].reshape(shape) for part in ("running_mean", "running_var", "weight", "bias")
        )
        out: Tensor = (x - mean) / (var + 1e-5).sqrt() * gain + bias
        return out

    def conv(x: Tensor, at: str, stride: int = 1) -> Tensor:
        kernel = state[f"{at}.weight"]  # (O, I, k, k)
        k = kernel.shape[-1]
        patches = nn.functional.unfold(x, k, padding=k // 2, stride=stride)  # (N, I·k·k, L)
        side = (x.shape[-1] - 1) // stride + 1
        out: Tensor = (kernel.flatten(1) @ patches).reshape(len(x), len(kernel), side, side)
        return out

    def prelu(x: Tensor, at: str) -> Tensor:
        return torch.where(x > 0, x, x * state[f"{at}.weight"].reshape(1, -1, 1, 1))

    x = prelu(bn(conv(x, "conv1"), "bn1"), "prelu")
    for stage in range(1, 5):
        for i in range(len(trunk.get_submodule(f"layer{stage}"))):  # type: ignore[arg-type]
            at, stride = f"layer{stage}.{i}", 2 if i == 0 else 1
            y = prelu(bn(conv(bn(x, f"{at}.bn1"), f"{at}.conv1"), f"{at}.bn2"), f"{at}.prelu")
            y = bn(conv(y, f"{at}.conv2", stride), f"{at}.bn3")
            x = y + (bn(conv(x, f"{at}.downsample.0", stride), f"{at}.downsample.1") if i == 0 else x)
    flat = bn(x, "bn2").flatten(1)
    return bn(flat @ state["fc.weight"].T + state["fc.bias"], "features")


def test_the_forward_pass_is_that_of_the_description() -> None:
    torch.manual_seed(0)
    trunk = IResNet((1, 2, 1, 1), (4, 6, 8, 10), size=32, dim=5).eval()
    for name, value in trunk.state_dict().items():
        if value.is_floating_point():  # statistics and gains away from their start
            value.copy_(torch.rand_like(value) + 0.5 if "running_var" in name else torch.randn_like(value) * 0.3)
    x = torch.rand(3, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(trunk(x).double(), reference(trunk, x.double()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["iresnet10-tiny", "iresnet16-narrow", "mobilefacenet"])
@pytest.mark.parametrize("side", [32, 48, 80, 112])
def test_a_trunk_takes_faces_of_another_side_than_its_own(name: str, side: int) -> None:
    """So that training may begin small and grow."""
    trunk = build(TrunkSpec(name, 112, 8)).eval()
    with torch.no_grad():
        out = trunk(torch.rand(2, 3, side, side))
    assert out.shape == (2, 8)
    assert out.isfinite().all()


@pytest.mark.parametrize("name", TRUNKS)
@pytest.mark.parametrize("size", [64, 112])
def test_every_trunk_of_the_table_gives_vectors_of_the_asked_length(name: str, size: int) -> None:
    with torch.device("meta"):
        trunk = build(TrunkSpec(name, size, 16)).eval()
        assert trunk(torch.zeros(2, 3, size, size)).shape == (2, 16)


def test_the_last_gain_stays_one() -> None:
    trunk = IResNet((1, 1, 1, 1), (4, 4, 4, 4), size=32, dim=5)
    assert not trunk.features.weight.requires_grad
    assert (trunk.features.weight == 1).all()


def test_mobilefacenet_has_the_paper_s_size() -> None:
    """Kernels of its table 1 and normalisation are the 0.99 M of its text; slopes of PReLU add 7,552.

    512 dimensions lengthen the last 1x1 convolution alone: 1.20 M.
    """
    rows = [(1, 3 * 64 * 9 + 64 * 9)]  # stem and its depthwise partner
    inside = 64
    for t, c, n in ((2, 64, 5), (4, 128, 1), (2, 128, 6), (4, 128, 1), (2, 128, 2)):
        for _ in range(n):
            rows.append((1, inside * t * inside + t * inside * 9 + t * inside * c))
            inside = c
    convolutions = sum(n for _, n in rows) + 128 * 512 + 512 * 49 + 512 * 128
    trunk = MobileFaceNet(dim=128)
    kernels = sum(p.numel() for p in trunk.parameters() if p.ndim >= 2)
    assert kernels == convolutions
    slopes = sum(module.weight.numel() for module in trunk.modules() if isinstance(module, nn.PReLU))
    assert slopes == 7552
    assert count(trunk) - slopes == 995_584
    assert count(MobileFaceNet(dim=512)) - count(trunk) == 384 * 512 + 2 * 384
