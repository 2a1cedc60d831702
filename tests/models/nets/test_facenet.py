"""FaceNet's networks against the paper's tables: shapes, weights, products; that they start, train, grow and export."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facespace.models.nets.counts import multiply_adds, parameters
from facespace.models.nets.export import export_onnx
from facespace.models.nets.facenet import NN1, NN2, NN4, NNS1, NNS2, Maxout
from facespace.models.nets.inception import (
    Inception,
    InceptionModule,
    Layout,
    Norm,
    Options,
    ResponseNorm,
    without_five,
)
from facespace.models.nets.trunks import TrunkSpec, build

Printed = list[tuple[str, tuple[int, ...], float, float]]
"""Rows as printed: layer, shape of its output (height, width, channels), parameters, FLOPS."""
TABLE_1: Printed = [
    ("conv1", (110, 110, 64), 9e3, 115e6),
    ("norm1", (55, 55, 64), 0, 0),
    ("conv2a", (55, 55, 64), 4e3, 13e6),
    ("conv2", (55, 55, 192), 111e3, 335e6),
    ("pool2", (28, 28, 192), 0, 0),
    ("conv3a", (28, 28, 192), 37e3, 29e6),
    ("conv3", (28, 28, 384), 664e3, 521e6),
    ("pool3", (14, 14, 384), 0, 0),
    ("conv4a", (14, 14, 384), 148e3, 29e6),
    ("conv4", (14, 14, 256), 885e3, 173e6),
    ("conv5a", (14, 14, 256), 66e3, 13e6),
    ("conv5", (14, 14, 256), 590e3, 116e6),
    ("conv6a", (14, 14, 256), 66e3, 13e6),
    ("conv6", (14, 14, 256), 590e3, 116e6),
    ("pool4", (7, 7, 256), 0, 0),
]
TOP_1: Printed = [("fc1", (32 * 128,), 103e6, 103e6), ("fc2", (32 * 128,), 34e6, 34e6), ("fc", (128,), 524e3, 0.5e6)]
TABLE_2: Printed = [
    ("conv1", (112, 112, 64), 9e3, 119e6),
    ("norm1", (56, 56, 64), 0, 0),
    ("2", (56, 56, 192), 115e3, 360e6),
    ("pool2", (28, 28, 192), 0, 0),
    ("3a", (28, 28, 256), 164e3, 128e6),
    ("3b", (28, 28, 320), 228e3, 179e6),
    ("3c", (14, 14, 640), 398e3, 108e6),
    ("4a", (14, 14, 640), 545e3, 107e6),
    ("4b", (14, 14, 640), 595e3, 117e6),
    ("4c", (14, 14, 640), 654e3, 128e6),
    ("4d", (14, 14, 640), 722e3, 142e6),
    ("4e", (7, 7, 1024), 717e3, 56e6),
    ("5a", (7, 7, 1024), 1.6e6, 78e6),
    ("5b", (7, 7, 1024), 1.6e6, 78e6),
]


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return make()


def passed(net: nn.Module, size: int) -> dict[str, tuple[tuple[int, ...], int]]:
    """By layer, the shape of its output (height, width, channels) and its products, biases counted as one each."""
    shapes: dict[str, tuple[int, ...]] = {}
    products = dict.fromkeys((name for name, _ in net.named_modules()), 0)
    owners = {layer: name for name, layer in net.named_modules()}

    def note(layer: nn.Module, taken: tuple[Tensor, ...], out: Tensor) -> None:
        shapes[owners[layer]] = (*out.shape[2:], out.shape[1])
        if isinstance(layer, nn.Conv2d | nn.Linear):
            places = math.prod(out.shape[2:])
            mine = places * sum(p.numel() for p in layer.parameters())
            for name in products:
                products[name] += mine if not name or f"{owners[layer]}.".startswith(f"{name}.") else 0

    hooks = [layer.register_forward_hook(note) for layer in net.modules()]
    net.eval()(torch.zeros(1, 3, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    return {name: (shape, products[name]) for name, shape in shapes.items()}


def as_printed(value: int, printed: float) -> bool:
    """Whether a number is the printed one, rounded or cut (the paper does both) at its last digit."""
    unit = 1e6 if printed % 1e6 == 0 else 1e5 if printed % 1e5 == 0 else 1e3
    return abs(value - printed) < unit


def test_u22_nn1_is_the_paper_s_table_1() -> None:
    net = on_meta(NN1)
    found = passed(net, 220)
    rows: Printed = [(f"body.{name}", shape, weights, products) for name, shape, weights, products in TABLE_1]
    for name, shape, weights, products in rows + TOP_1:
        assert found[name][0] == shape, name
        assert as_printed(parameters(net.get_submodule(name)), weights), name
        assert as_printed(found[name][1], products), name
    assert parameters(net) == 140_025_664
    assert multiply_adds(net, 220) == 1_605_944_064
    assert found[""][1] - multiply_adds(net, 220) == 2_343_040, "a bias at every place of every map"


def test_u22_nn2_is_the_paper_s_table_2() -> None:
    net = on_meta(lambda: Inception(NN2))
    found = passed(net, 224)
    for name, shape, weights, products in TABLE_2:
        assert found[f"body.{name}"][0] == shape, name
        assert as_printed(parameters(net.get_submodule(f"body.{name}")), weights), name
        assert as_printed(found[f"body.{name}"][1], products), name
    assert found["top"][0] == (128,)
    assert as_printed(parameters(net.get_submodule("top")), 131e3)
    assert parameters(net) == 7_456_304
    assert multiply_adds(net, 224) == 1_596_530_688


LAYOUTS = (NN2, NN4, NNS1, NNS2)
SIDES = {"conv1": 2, "norm1": 4, "2": 4, "pool2": 8} | dict.fromkeys(("3a", "3b"), 8)
SIDES |= dict.fromkeys(("3c", "4a", "4b", "4c", "4d"), 16) | dict.fromkeys(("4e", "5a", "5b"), 32)
"""By how much each stage of NN2 has shrunk the face."""


@pytest.mark.parametrize(("layout", "size"), [(NN2, 160), (NN4, 96)], ids=["NN3", "NN4"])
def test_u22_nn3_and_nn4_are_nn2_at_160_and_96(layout: Layout, size: int) -> None:
    found = passed(on_meta(lambda: Inception(layout)), size)
    channels = {name: shape[2] for name, shape, _, _ in TABLE_2}
    if layout is NN4:  # without the 128 of the 5x5
        channels |= dict.fromkeys(("4e", "5a", "5b"), 1024 - 128)
    for name, shrunk in SIDES.items():
        assert found[f"body.{name}"][0] == (size // shrunk, size // shrunk, channels[name]), name


def test_u22_nn4_without_5x5_in_three_rows_has_the_published_cost() -> None:
    net = on_meta(lambda: Inception(NN4))
    assert (parameters(net), multiply_adds(net, 96)) == (6_607_888, 284_741_632)
    two = on_meta(lambda: Inception(without_five(NN2, ("5a", "5b"))))
    assert (parameters(two), multiply_adds(two, 96)) == (6_943_952, 288_870_400), "not the paper's 285 M"


@pytest.mark.parametrize(
    ("layout", "size", "weights", "products"), [(NNS1, 165, 26e6, 220e6), (NNS2, 140, 4.3e6, 20e6)]
)
def test_u22_the_small_networks_fill_the_published_budgets(
    layout: Layout, size: int, weights: float, products: float
) -> None:
    net = on_meta(lambda: Inception(layout, size=size))
    assert 0.98 * weights < parameters(net) <= weights
    assert 0.98 * products < multiply_adds(net, size) <= products


@pytest.mark.parametrize(
    ("name", "size", "weights", "products"),
    [
        ("facenet_nn1", 220, 140.026, 1605.944),
        ("facenet_nn2", 224, 7.456, 1596.531),
        ("facenet_nn3", 160, 7.456, 814.621),
        ("facenet_nn4", 96, 6.608, 284.742),
        ("facenet_nns1", 165, 25.974, 217.002),
        ("facenet_nns2", 140, 4.291, 19.789),
    ],
)
def test_u22_the_table_of_trunks_holds_them(name: str, size: int, weights: float, products: float) -> None:
    net = on_meta(lambda: build(TrunkSpec(name, size, 128)))
    assert (round(parameters(net) / 1e6, 3), round(multiply_adds(net, size) / 1e6, 3)) == (weights, products)


def test_u22_stages_of_the_small_networks() -> None:
    found = passed(on_meta(lambda: Inception(NNS1, size=165)), 165)
    stages = ("conv1", "norm1", "2", "pool2", "3a", "3c", "4a", "4e", "5a", "5b")
    sides = (83, 42, 42, 21, 21, 11, 11, 6, 6, 6)
    assert [found[f"body.{name}"][0][:2] for name in stages] == [(side, side) for side in sides]
    found = passed(on_meta(lambda: Inception(NNS2, size=140)), 140)
    shapes = [found[f"body.{name}"][0] for name in ("conv1", "norm1", "2", "pool2", "3a", "3c", "4b", "4e", "5a")]
    assert shapes == [
        (70, 58, 12), (35, 29, 12), (35, 29, 32), (18, 15, 32), (18, 15, 64), (9, 8, 128), (9, 8, 160), (5, 4, 288),
        (5, 4, 288),
    ]  # fmt: skip


def test_trap13_no_batch_normalisation_and_no_strided_pool_within_a_module() -> None:
    """openface's `nn2.def.lua` and `nn4.def.lua` add the one, stride the pools, and keep 5x5 in NN4's 4e."""
    for net in (on_meta(NN1), *(on_meta(lambda t=t: Inception(t)) for t in LAYOUTS)):  # type: ignore[misc]
        assert not any(isinstance(layer, nn.BatchNorm2d) for layer in net.modules())
        assert all(layer.bias is not None for layer in net.modules() if isinstance(layer, nn.Conv2d))
    for layout in LAYOUTS:
        found, before = passed(on_meta(lambda t=layout: Inception(t)), 224), "pool2"  # type: ignore[misc]
        for name in layout.rows:
            came, left = found[f"body.{before}"][0][0], found[f"body.{name}.branches.pool.0"][0][0]
            assert left == (came // 2 if name in ("3c", "4e") else came), name
            before = name
    found = passed(on_meta(lambda: Inception(NN4)), 96)
    with_five = [name for name in NN4.rows if f"body.{name}.branches.5x5" in found]
    assert with_five == ["3a", "3b", "3c", "4a", "4b", "4c", "4d"]


NAMES = ("nn1", "nn2", "nn4", "nns1", "nns2")


def small(name: str, size: int = 64, options: Options | None = None) -> nn.Module:
    """A network of 8 dimensions, by default for 64 pixels; NN1 with a narrow top, too."""
    if name == "nn1":
        return NN1(size=size, dim=8, hidden=24, options=options)
    layout = {"nn2": NN2, "nn4": NN4, "nns1": NNS1, "nns2": NNS2}[name]
    return Inception(layout, size=size, dim=8, options=options)


def faces(count: int, size: int, seed: int = 0) -> Tensor:
    """Noise of the size of faces: smooth, and in -1..1."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return F.interpolate(coarse, size, mode="bilinear")


@pytest.mark.parametrize("name", NAMES)
def test_a_network_takes_faces_of_another_side_than_its_own(name: str) -> None:
    """So that training may begin small and grow."""
    torch.manual_seed(0)
    net = small(name).eval()
    for side in (32, 50, 64, 97):
        with torch.no_grad():
            out = net(faces(2, side))
        assert out.shape == (2, 8)
        assert out.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_activations_keep_their_size_from_the_first_layer_to_the_last(name: str) -> None:
    torch.manual_seed(0)
    net = small(name).eval()
    sizes: list[float] = []
    for layer in net.modules():
        if isinstance(layer, InceptionModule | Maxout | nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda layer, taken, out: sizes.append(float(out.square().mean().sqrt())))
    with torch.no_grad():
        net(faces(4, 64))
    assert min(sizes) > 0.2, "activations die away"
    assert max(sizes) < 3, "activations blow up"


@pytest.mark.parametrize("name", ["nn1", "nn4", "nns2"])
def test_a_network_learns_without_batch_normalisation(name: str) -> None:
    """Eight faces to eight directions, by plain gradient descent."""
    torch.manual_seed(0)
    net, wanted = small(name, 32), torch.eye(8)
    optimiser = torch.optim.SGD(net.parameters(), 0.02, momentum=0.9)
    for _ in range(25):
        loss = 1 - (F.normalize(net(faces(8, 32))) * wanted).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
    assert loss < 0.3, "it began near 1"


def test_the_narrow_network_looks_at_the_middle_of_the_square_alone() -> None:
    torch.manual_seed(0)
    net = small("nns2", 140).eval()
    square = faces(2, 140).requires_grad_()
    out = net(square)
    torch.testing.assert_close(net(square[..., 12:128]), out, msg="140x116, the paper's input")
    (slope,) = torch.autograd.grad(out.square().sum(), square)
    touched = (slope != 0).sum((0, 1, 2)).nonzero()
    assert (int(touched.min()), int(touched.max())) == (12, 127)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_channels_in_memory_does_not_matter(name: str) -> None:
    torch.manual_seed(0)
    net = small(name).eval()
    with torch.no_grad():
        expected = net(faces(2, 64))
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        last = net(faces(2, 64).contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "size"), [("nn4", 96), ("nn1", 64)])
def test_a_network_exports(name: str, size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert export_onnx(small(name, size), TrunkSpec(f"facenet_{name}", size, 8), tmp_path / "model.onnx") < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_options_reach_every_layer(name: str) -> None:
    def norms(norm: Norm) -> tuple[int, int]:
        layers = list(on_meta(lambda: small(name, options=Options(norm))).modules())
        convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        assert all((layer.bias is None) == (norm == "bn") for layer in convolutions)
        batch = sum(isinstance(layer, nn.BatchNorm2d) for layer in layers)
        assert batch == (len(convolutions) if norm == "bn" else 0)
        return sum(isinstance(layer, ResponseNorm) for layer in layers), batch > 0

    assert [norms("lrn"), norms("none"), norms("bn")] == [(2, False), (0, False), (0, True)]
