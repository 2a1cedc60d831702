"""MobileFaceNet (Chen et al. 2018, table 1): depthwise bottlenecks, a global depthwise convolution."""

import torch
from torch import Tensor, nn

BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
"""Rows of the paper's table: expansion, width, repeats, stride of the first."""


def _conv(
    inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1, *, act: bool = True
) -> nn.Sequential:
    """Conv-BN, and PReLU where the layer is not linear."""
    conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside), *([nn.PReLU(outside)] if act else []))


class Bottleneck(nn.Module):
    """1x1 expand, 3x3 depthwise, 1x1 linear; with a shortcut where the shape stays."""

    def __init__(self, inside: int, outside: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.shortcut = stride == 1 and inside == outside
        self.body = nn.Sequential(
            _conv(inside, wide, 1), _conv(wide, wide, 3, stride, wide), _conv(wide, outside, 1, act=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.shortcut else y


class MobileFaceNet(nn.Module):
    """The trunk: float `(N, 3, S, S)` to embeddings float `(N, dim)`, not normalised."""

    def __init__(self, *, size: int = 112, dim: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 64, 3, 2), _conv(64, 64, 3, 1, 64)]
        inside = 64
        for expansion, width, repeats, stride in BOTTLENECKS:
            for i in range(repeats):
                layers.append(Bottleneck(inside, width, expansion, stride if i == 0 else 1))
                inside = width
        self.body = nn.Sequential(*layers, _conv(inside, 512, 1))
        self.side = -(-size // 16)
        self.pool = nn.Sequential(nn.Conv2d(512, 512, self.side, groups=512, bias=False), nn.BatchNorm2d(512))
        self.fc = nn.Linear(512, dim, bias=False)
        self.features = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if x.shape[-1] != self.side:
            x = nn.functional.adaptive_avg_pool2d(x, self.side)
        x = torch.flatten(self.pool(x), 1)  # (N, 512)
        out: Tensor = self.features(self.fc(x))
        return out
