"""The parts of an Inception network, and a small whole one, against slow float64 code: values and gradients."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facespace.errors import UsageError
from facespace.models.nets.export import export_onnx
from facespace.models.nets.facenet import NN1, NN2, Maxout
from facespace.models.nets.inception import (
    Inception,
    Inside,
    L2Pool,
    Layout,
    Norm,
    Options,
    Row,
    response_norm,
    without_five,
)
from facespace.models.nets.trunks import TrunkSpec

TINY = Layout(
    stem=4,
    kernel=3,
    second=Row(0, 3, 6, 0, 0, "", 0),
    rows={
        "3a": Row(2, 2, 3, 1, 2, "max", 2),
        "3b": Row(2, 2, 3, 0, 0, "l2", 2),
        "3c": Row(0, 2, 4, 1, 2, "max", 0, stride=2),
        "4a": Row(2, 2, 3, 1, 2, "l2", 2, stride=1),
    },
)
"""Every kind of row."""
TABLE_1 = """
    conv1/2 pool norm conv2a conv2 norm pool conv3a conv3 pool
    conv4a conv4 conv5a conv5 conv6a conv6 pool
"""
"""NN1's layers up to its last map."""
HIDDEN = Layout(stem=4, kernel=3, second=TINY.second, rows=TINY.rows, hidden=5, narrow=0.75)


def l2_pool(x: NDArray[np.float64], stride: int, inside: Inside, eps: float) -> NDArray[np.float64]:
    """By its definition, window by window."""
    n, channels, height, width = x.shape
    out = np.zeros((n, channels, -(-height // stride), -(-width // stride)))
    for i, c, row, column in np.ndindex(*out.shape):
        total = 0.0
        for y, z in product(range(row * stride - 1, row * stride + 2), range(column * stride - 1, column * stride + 2)):
            if 0 <= y < height and 0 <= z < width:
                total += x[i, c, y, z] ** 2
        out[i, c, row, column] = math.sqrt((total if inside == "sum" else total / 9) + eps)
    return out


def l2_pool_gradient(
    x: NDArray[np.float64], slope: NDArray[np.float64], stride: int, inside: Inside, eps: float
) -> NDArray[np.float64]:
    """d(sum of slope * out)/dx: each window hands slope * x / out (a ninth, of a mean) to each of its pixels."""
    out, found = l2_pool(x, stride, inside, eps), np.zeros_like(x)
    for i, c, row, column in np.ndindex(*out.shape):
        for y, z in product(range(row * stride - 1, row * stride + 2), range(column * stride - 1, column * stride + 2)):
            if 0 <= y < x.shape[2] and 0 <= z < x.shape[3]:
                share = x[i, c, y, z] / out[i, c, row, column] / (1 if inside == "sum" else 9)
                found[i, c, y, z] += slope[i, c, row, column] * share
    return found


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("inside", ["sum", "mean"])
def test_l2_pooling_is_the_root_of_the_squares_of_a_window(stride: int, inside: Inside) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 7, 6))
    options = Options(inside=inside, eps=1e-3)
    ours = torch.from_numpy(x).requires_grad_()
    out = L2Pool(stride, options)(ours)
    np.testing.assert_allclose(out.detach(), l2_pool(x, stride, inside, 1e-3), rtol=1e-10)
    slope = rng.normal(size=tuple(out.shape))
    out.backward(torch.from_numpy(slope))
    assert ours.grad is not None
    np.testing.assert_allclose(ours.grad, l2_pool_gradient(x, slope, stride, inside, 1e-3), rtol=1e-9, atol=1e-12)


def test_l2_pooling_of_nothing_has_no_gradient_and_of_much_no_infinity() -> None:
    x = torch.zeros(1, 1, 5, 5, requires_grad=True)
    out = L2Pool(1, Options())(x)
    torch.testing.assert_close(out, torch.full_like(out, 1e-4), msg="the root of eps")
    (slope,) = torch.autograd.grad(out.sum(), x)
    assert (slope == 0).all()
    for kind in (torch.float16, torch.bfloat16):
        out = L2Pool(1, Options())(torch.full((1, 1, 3, 3), 1000.0, dtype=kind))
        assert out.dtype == kind
        assert float(out.max()) == pytest.approx(3000, rel=0.01), "its square is beyond half precision"


def response(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """GoogLeNet's: each value over (1 + 1e-4 / 5 · squares of five channels)^0.75."""
    out = np.zeros_like(x)
    for i, c, y, z in np.ndindex(*x.shape):
        near = [x[i, other, y, z] ** 2 for other in range(c - 2, c + 3) if 0 <= other < x.shape[1]]
        out[i, c, y, z] = x[i, c, y, z] / (1 + 1e-4 / 5 * sum(near)) ** 0.75
    return out


def test_response_normalisation_has_googlenet_s_constants() -> None:
    x = np.random.default_rng(0).normal(size=(2, 7, 3, 2)) * 100
    ours = torch.from_numpy(x).requires_grad_()
    out = response_norm("lrn")(ours)
    np.testing.assert_allclose(out.detach(), response(x), rtol=1e-10)
    (slope,) = torch.autograd.grad(out.sum(), ours)
    for place in ((0, 3, 1, 1), (1, 0, 2, 0)):
        step = np.zeros_like(x)
        step[place] = 1e-3
        assert slope[place] == pytest.approx((response(x + step) - response(x - step)).sum() / 2e-3, abs=1e-6)


def test_on_our_faces_response_normalisation_is_hardly_felt() -> None:
    x = torch.randn(1, 64, 8, 8).relu()
    torch.testing.assert_close(response_norm("lrn")(x), x, rtol=2e-3, atol=0)


def test_maxout_takes_the_larger_of_two_linear_functions() -> None:
    torch.manual_seed(0)
    layer = Maxout(5, 3).double()
    x = torch.randn(4, 5, dtype=torch.float64)
    weight, bias = layer.fc.weight.detach(), torch.randn(6, dtype=torch.float64)
    layer.fc.bias.data = bias
    out = layer(x).detach()
    for i in range(4):
        for j in range(3):
            one, other = (float(sum(weight[k] * x[i]) + bias[k]) for k in (j, j + 3))
            assert float(out[i, j]) == pytest.approx(max(one, other), rel=1e-10)


def conv(x: Tensor, weight: Tensor, bias: Tensor, stride: int = 1) -> Tensor:
    """Convolution and ReLU, as matrices of patches."""
    k = weight.shape[-1]
    patches = nn.functional.unfold(x, k, padding=k // 2, stride=stride)  # (N, I·k·k, L)
    height, width = (-(-side // stride) for side in x.shape[-2:])
    out = (weight.flatten(1) @ patches + bias[:, None]).reshape(len(x), len(weight), height, width)
    return out.clamp(min=0)


def windows(x: Tensor, stride: int, around: float) -> Tensor:
    """The 3x3 windows `(N, C, H/stride, W/stride, 9)`, with `around` outside the map."""
    padded = nn.functional.pad(x, (1, 1, 1, 1), value=around)
    return padded.unfold(2, 3, stride).unfold(3, 3, stride).flatten(4)


def pool(x: Tensor, kind: str, stride: int) -> Tensor:
    if kind == "max":
        return windows(x, stride, -math.inf).amax(-1)
    return (windows(x, stride, 0.0).square().sum(-1) + 1e-8).sqrt()


def lrn(x: Tensor) -> Tensor:
    squares = nn.functional.pad(x.square(), (0, 0, 0, 0, 2, 2))
    near = torch.stack([squares[:, i : i + x.shape[1]] for i in range(5)]).sum(0)
    return x / (1 + 1e-4 / 5 * near) ** 0.75


def module(x: Tensor, row: Row, state: dict[str, Tensor], at: str) -> Tensor:
    """The branches of a row, side by side."""

    def unit(x: Tensor, name: str, stride: int = 1) -> Tensor:
        return conv(x, state[f"{at}.branches.{name}.0.weight"], state[f"{at}.branches.{name}.0.bias"], stride)

    found = [unit(x, "1x1")] if row.one else []
    found += [unit(unit(x, "3x3.0"), "3x3.1", row.stride)]
    found += [unit(unit(x, "5x5.0"), "5x5.1", row.stride)] if row.five else []
    if row.pool:
        pooled = pool(x, row.pool, row.stride)
        found += [unit(pooled, "pool.1") if row.project else pooled]
    return torch.cat(found, 1)


def reference(layout: Layout, state: dict[str, Tensor], x: Tensor, norm: Norm) -> Tensor:
    """The forward pass, from the weights by name; differentiable."""
    normalise = lrn if norm == "lrn" else lambda x: x
    left = (x.shape[-1] - round(x.shape[-2] * layout.narrow)) // 2
    x = x[..., left : x.shape[-1] - left]
    x = normalise(pool(conv(x, state["body.conv1.0.weight"], state["body.conv1.0.bias"], 2), "max", 2))
    x = pool(normalise(module(x, layout.second, state, "body.2")), "max", 2)
    for name, row in layout.rows.items():
        x = module(x, row, state, f"body.{name}")
    if not layout.hidden:
        return x.mean((2, 3)) @ state["top.2.weight"].T + state["top.2.bias"]
    x = (x.flatten(1) @ state["top.2.weight"].T + state["top.2.bias"]).clamp(min=0)
    return x @ state["top.4.weight"].T + state["top.4.bias"]


def shaken(net: nn.Module) -> nn.Module:
    """In float64, with biases away from 0."""
    for parameter in net.double().parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
    return net


@pytest.mark.parametrize("layout", [TINY, HIDDEN], ids=["averaged", "hidden"])
@pytest.mark.parametrize("norm", ["lrn", "none"])
def test_values_and_gradients_are_those_of_the_description(layout: Layout, norm: Norm) -> None:
    torch.manual_seed(0)
    net = shaken(Inception(layout, size=40, dim=3, options=Options(norm)))
    state = {name: value.detach().clone().requires_grad_() for name, value in net.named_parameters()}
    x, slope = torch.randn(2, 3, 40, 40, dtype=torch.float64) * 20, torch.randn(2, 3, dtype=torch.float64)
    ours, theirs = net(x), reference(layout, state, x, norm)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    ours.backward(slope)
    theirs.backward(slope)  # type: ignore[no-untyped-call]
    for name, value in net.named_parameters():
        torch.testing.assert_close(value.grad, state[name].grad, rtol=1e-9, atol=1e-9, msg=name)


def test_nn1_is_its_table_in_order() -> None:
    torch.manual_seed(0)
    net = shaken(NN1(size=64, dim=3, hidden=4))
    state = dict(net.named_parameters())
    x = face = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    for step in TABLE_1.split():
        name, _, stride = step.partition("/")
        if name.startswith("conv"):
            x = conv(x, state[f"body.{name}.0.weight"], state[f"body.{name}.0.bias"], int(stride or 1))
        else:
            x = pool(x, "max", 2) if name == "pool" else lrn(x)
    assert x.shape == (1, 256, 2, 2)
    x = x.flatten(1)
    for name in ("fc1", "fc2"):
        pieces = x @ state[f"{name}.fc.weight"].T + state[f"{name}.fc.bias"]
        x = pieces.reshape(1, 2, 4).amax(1)
    torch.testing.assert_close(net(face), x @ state["fc.weight"].T + state["fc.bias"], rtol=1e-9, atol=1e-9)


def test_a_narrow_network_with_a_hidden_layer_exports(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Inception(HIDDEN, size=40, dim=3)
    assert export_onnx(net, TrunkSpec("facenet_nns2", 40, 3), tmp_path / "model.onnx") < 1e-4


def test_weights_start_at_the_size_that_keeps_activations() -> None:
    torch.manual_seed(0)
    net = Inception(NN2)
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d):
            row = name.split(".")[1]
            behind_l2 = ".pool." in name and NN2.rows[row].pool == "l2"
            he = math.sqrt(2 / (layer.in_channels * layer.kernel_size[0] ** 2))
            assert float(layer.weight.detach().std()) == pytest.approx(he / (3 if behind_l2 else 1), rel=0.1), name
            assert layer.bias is not None
            assert not layer.bias.any()


def test_settings_that_make_no_sense_are_refused() -> None:
    for settings in ({"norm": "batch"}, {"inside": "max"}, {"eps": 0.0}, {"eps": -1e-8}, {"eps": math.nan}):
        with pytest.raises(UsageError):
            Options(**settings)
    with pytest.raises(UsageError, match="6a"):
        without_five(NN2, ("5a", "6a"))
