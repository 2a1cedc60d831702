"""Inception networks as tables (Szegedy et al., CVPR 2015), in the form FaceNet gave them: with L2 pooling, and strides
inside modules.

Every layer halves a side of n to ceil(n / 2), as GoogLeNet's do; pools are padded by one pixel, so that their windows
lie on those of the convolutions beside them. Convolutions have biases and no batch normalisation unless asked for.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facespace.errors import UsageError, check_choices

Norm = Literal["lrn", "none", "bn"]
"""`lrn`: GoogLeNet's local response normalisation where the tables say norm; `none`: nothing; `bn`: nothing there, but
batch normalisation between every convolution and its ReLU instead of biases, as public code has it.

GoogLeNet's constants were made for pixels of 0..255. On our faces of -1..1 an untrained network hardly feels them.
"""

Inside = Literal["sum", "mean"]
"""What stands under the root of L2 pooling; the mean's outputs are a third of the sum's."""

Pool = Literal["", "max", "l2"]


@dataclass(frozen=True)
class Options:
    """What the paper leaves open; contradictions raise UsageError."""

    norm: Norm = "lrn"
    """How activations are normalised."""
    inside: Inside = "sum"
    """What L2 pooling takes the root of."""
    eps: float = 1e-8
    """Added under that root: its slope at an empty window would be infinite."""

    def __post_init__(self) -> None:
        check_choices(self, {"norm": Norm, "inside": Inside})
        if not 0 < self.eps < 1:
            raise UsageError(f"eps = {self.eps} keeps no root from zero", hint="a small positive number, such as 1e-8")


@dataclass(frozen=True)
class Row:
    """A row of the paper's table: channels by branch, 0 for none; all branches are concatenated."""

    one: int
    reduce3: int
    three: int
    reduce5: int
    five: int
    pool: Pool
    project: int
    """Channels of the 1x1 projection behind the 3x3 pool; 0: the pool's output goes on as it is."""
    stride: int = 1
    """Of the 3x3, the 5x5 and the pool."""

    def width(self, inside: int) -> int:
        """Channels of the output, from `inside` channels."""
        return self.one + self.three + self.five + (self.project or (inside if self.pool else 0))


@dataclass(frozen=True)
class Layout:
    """A network as a table."""

    stem: int
    """Channels of conv1, of stride 2."""
    kernel: int
    """Its side in pixels."""
    second: Row
    """Inception (2), between the two max pools."""
    rows: dict[str, Row] = field(hash=False)
    """Those that follow, by name."""
    hidden: int = 0
    """Width of a layer between the flattened last map and the embedding; 0: the map is averaged instead."""
    narrow: float = 1.0
    """Width over height of what the network looks at, in the middle of the square face."""


def without_five(layout: Layout, rows: Collection[str]) -> Layout:
    """The layout without 5x5 convolutions in the named rows; UsageError for a name that no row has."""
    if unknown := sorted(set(rows) - set(layout.rows)):
        raise UsageError(f"no row is called {unknown[0]!r}", hint="one of: " + ", ".join(layout.rows))
    less = {name: replace(row, reduce5=0, five=0) if name in rows else row for name, row in layout.rows.items()}
    return replace(layout, rows=less)


class L2Pool(nn.Module):
    """Root of the sum of squares in each 3x3 window; `(N, C, H, W)` to `(N, C, H/stride, W/stride)`, zeros around."""

    def __init__(self, stride: int, options: Options) -> None:
        super().__init__()
        self.stride, self.options = stride, options

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # squares overflow in half precision
        mean = F.avg_pool2d(wide * wide, 3, self.stride, 1)
        squares = mean * 9 if self.options.inside == "sum" else mean
        return (squares + self.options.eps).sqrt().to(x.dtype)


class ResponseNorm(nn.Module):
    """x / (1 + 1e-4 / 5 * the squares of five neighbouring channels)^0.75; `(N, C, H, W)` to the same.

    The same as torch's `LocalResponseNorm`, whose pooling in three dimensions takes nearly twice the time on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        squares = F.pad(wide * wide, (0, 0, 0, 0, 2, 2))
        channels = x.shape[1]
        near = squares[:, :channels]
        for i in range(1, 5):
            near = near + squares[:, i : i + channels]
        return (wide * (1 + 1e-4 / 5 * near) ** -0.75).to(x.dtype)


def convolution(inside: int, outside: int, kernel: int, stride: int, norm: Norm, scale: float = 1.0) -> nn.Sequential:
    """Convolution and ReLU, at the start of He et al. (2015), divided by `scale`; biases at 0.

    Without batch normalisation the weights alone keep activations from shrinking or growing with the depth.
    """
    conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=norm != "bn")
    nn.init.normal_(conv.weight, 0, math.sqrt(2 / (inside * kernel**2)) / scale)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, *([nn.BatchNorm2d(outside)] if norm == "bn" else []), nn.ReLU())


def dense(inside: int, outside: int, gain: float = 1.0) -> nn.Linear:
    """A fully connected layer that starts with variance gain² / inside (Xavier's by inputs); its biases at 0."""
    layer = nn.Linear(inside, outside)
    nn.init.normal_(layer.weight, 0, gain / math.sqrt(inside))
    nn.init.zeros_(layer.bias)
    return layer


def response_norm(norm: Norm) -> nn.Module:
    """What stands where the tables say norm: GoogLeNet's constants, or nothing."""
    return ResponseNorm() if norm == "lrn" else nn.Identity()


def max_pool(stride: int = 2) -> nn.MaxPool2d:
    """The 3x3 max pool."""
    return nn.MaxPool2d(3, stride, 1)


class InceptionModule(nn.Module):
    """A row as a network: `(N, inside, H, W)` to `(N, row.width(inside), H/stride, W/stride)`."""

    def __init__(self, inside: int, row: Row, options: Options) -> None:
        super().__init__()
        norm, stride = options.norm, row.stride
        self.branches = nn.ModuleDict()
        if row.one:
            self.branches["1x1"] = convolution(inside, row.one, 1, stride, norm)
        for kernel, reduced, outside in ((3, row.reduce3, row.three), (5, row.reduce5, row.five)):
            if outside:
                reduction = convolution(inside, reduced, 1, 1, norm)
                full = convolution(reduced, outside, kernel, stride, norm)
                self.branches[f"{kernel}x{kernel}"] = nn.Sequential(reduction, full)
        if row.pool:
            self.branches["pool"] = self._pool(inside, row, options)

    def _pool(self, inside: int, row: Row, options: Options) -> nn.Sequential:
        pool = max_pool(row.stride) if row.pool == "max" else L2Pool(row.stride, options)
        scale = 3.0 if row.pool == "l2" and options.inside == "sum" else 1.0  # the root of nine squares
        project = [convolution(inside, row.project, 1, 1, options.norm, scale)] if row.project else []
        return nn.Sequential(pool, *project)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches.values()], 1)


class Inception(nn.Module):
    """The trunk: float `(N, 3, S, S)` to embeddings float `(N, dim)`, not normalised.

    Of the square face a narrow layout looks at the middle columns: faces are taller than wide, and what lies beside
    them is background. A layout with a hidden layer pools the last map to the shape that it has at `size` pixels.
    """

    def __init__(self, layout: Layout, *, size: int = 224, dim: int = 128, options: Options | None = None) -> None:
        super().__init__()
        options = options or Options()
        self.narrow = layout.narrow
        inside = layout.second.width(layout.stem)
        self.body = nn.Sequential()
        self.body.add_module("conv1", convolution(3, layout.stem, layout.kernel, 2, options.norm))
        self.body.add_module("pool1", max_pool())
        self.body.add_module("norm1", response_norm(options.norm))
        self.body.add_module("2", InceptionModule(layout.stem, layout.second, options))
        self.body.add_module("norm2", response_norm(options.norm))
        self.body.add_module("pool2", max_pool())
        for name, row in layout.rows.items():
            self.body.add_module(name, InceptionModule(inside, row, options))
            inside = row.width(inside)
        self.top = nn.Sequential()
        if layout.hidden:
            halvings = 3 + sum(row.stride == 2 for row in layout.rows.values())
            shape = (_halved(size, halvings), _halved(self._width(size), halvings))
            self.top.append(nn.AdaptiveAvgPool2d(shape)).append(nn.Flatten())
            self.top.append(dense(inside * math.prod(shape), layout.hidden, math.sqrt(2))).append(nn.ReLU())
        else:
            self.top.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten())
        self.top.append(dense(layout.hidden or inside, dim))

    def _width(self, height: int) -> int:
        return round(height * self.narrow)

    def forward(self, x: Tensor) -> Tensor:
        width = self._width(x.shape[-2])
        left = (x.shape[-1] - width) // 2
        x = self.body(x[..., left : left + width])  # (N, C, H/32, W/32)
        out: Tensor = self.top(x)
        return out


def _halved(side: int, times: int) -> int:
    return -(-side // (1 << times))
