"""FaceNet's networks (Schroff et al., CVPR 2015, tables 1 and 2, section 3.3).

NN1 is Zeiler & Fergus' network with 1x1 convolutions between, and two maxout layers on top that hold 97 % of its 140 M
weights. The others are Inception networks, given here as tables.
"""

import torch
from torch import Tensor, nn

from facespace.models.nets.inception import (
    Layout,
    Options,
    Row,
    convolution,
    dense,
    max_pool,
    response_norm,
    without_five,
)

NN2 = Layout(
    stem=64,
    kernel=7,
    second=Row(0, 64, 192, 0, 0, "", 0),
    rows={
        "3a": Row(64, 96, 128, 16, 32, "max", 32),
        "3b": Row(64, 96, 128, 32, 64, "l2", 64),
        "3c": Row(0, 128, 256, 32, 64, "max", 0, stride=2),
        "4a": Row(256, 96, 192, 32, 64, "l2", 128),
        "4b": Row(224, 112, 224, 32, 64, "l2", 128),
        "4c": Row(192, 128, 256, 32, 64, "l2", 128),
        "4d": Row(160, 144, 288, 32, 64, "l2", 128),
        "4e": Row(0, 160, 256, 64, 128, "max", 0, stride=2),
        "5a": Row(384, 192, 384, 48, 128, "l2", 128),
        "5b": Row(384, 192, 384, 48, 128, "max", 128),
    },
)
"""Table 2 of the paper, for 224 pixels; NN3 is the same network at 160."""

NN4 = without_five(NN2, ("4e", "5a", "5b"))
"""For 96 pixels, "without 5x5 in the higher layers". Leaving them out of these three gives the published 285 M
multiply-adds and 6.6 M parameters; out of 5a and 5b alone, 289 M and 6.9 M."""

NNS1 = Layout(
    stem=24,
    kernel=7,
    second=Row(0, 24, 64, 0, 0, "", 0),
    rows={
        "3a": Row(32, 48, 64, 8, 16, "max", 16),
        "3c": Row(0, 64, 128, 16, 32, "max", 0, stride=2),
        "4a": Row(96, 72, 128, 16, 48, "l2", 48),
        "4b": Row(96, 72, 128, 16, 48, "l2", 48),
        "4c": Row(96, 72, 128, 16, 48, "l2", 48),
        "4e": Row(0, 96, 192, 24, 64, "max", 0, stride=2),
        "5a": Row(192, 112, 224, 24, 64, "l2", 96),
        "5b": Row(192, 112, 224, 24, 64, "max", 96),
    },
    hidden=1152,
)
"""A mini Inception for 165 pixels. The paper gives no table of its NNS1, only 26 M parameters and 220 M multiply-adds:
this is a layout of our own within that budget, not the paper's. So many weights at so few products can only lie in a
fully connected layer."""

NNS2 = Layout(
    stem=12,
    kernel=3,
    second=Row(0, 12, 32, 0, 0, "", 0),
    rows={
        "3a": Row(16, 16, 32, 4, 8, "max", 8),
        "3c": Row(0, 16, 48, 8, 16, "max", 0, stride=2),
        "4a": Row(48, 24, 64, 8, 16, "l2", 32),
        "4b": Row(48, 16, 64, 8, 16, "l2", 32),
        "4e": Row(0, 32, 96, 8, 32, "max", 0, stride=2),
        "5a": Row(96, 48, 128, 8, 32, "l2", 32),
    },
    hidden=688,
    narrow=116 / 140,
)
"""A tiny Inception for faces of 140x116 pixels. The paper gives no table of its NNS2, only that size, 4.3 M parameters
and 20 M multiply-adds: this is a layout of our own within that budget, not the paper's."""

CONVOLUTIONS = {
    "conv1": (64, 7, 2),
    "conv2a": (64, 1, 1),
    "conv2": (192, 3, 1),
    "conv3a": (192, 1, 1),
    "conv3": (384, 3, 1),
    "conv4a": (384, 1, 1),
    "conv4": (256, 3, 1),
    "conv5a": (256, 1, 1),
    "conv5": (256, 3, 1),
    "conv6a": (256, 1, 1),
    "conv6": (256, 3, 1),
}
"""Channels, side of the kernel and stride, in the order of the table."""
BEHIND = {"conv1": ("pool1", "norm1"), "conv2": ("norm2", "pool2"), "conv3": ("pool3",), "conv6": ("pool4",)}
"""What follows a convolution."""
HALVINGS = 5


class Maxout(nn.Module):
    """The larger of two linear functions (Goodfellow et al. 2013, p = 2); `(N, inside)` to `(N, outside)`.

    The larger of two independent N(0, s²) has the second moment s²: the size is kept by weights of variance 1 / inside,
    half of what a ReLU needs.
    """

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.outside = outside
        self.fc = dense(inside, 2 * outside)

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(*self.fc(x).split(self.outside, 1))


class NN1(nn.Module):
    """The trunk: float `(N, 3, S, S)` to embeddings float `(N, dim)`, not normalised.

    The last map is pooled to the shape that it has at `size` pixels, 7x7 at the paper's 220. `hidden` is the width of
    both maxout layers.
    """

    def __init__(self, *, size: int = 220, dim: int = 128, hidden: int = 4096, options: Options | None = None) -> None:
        super().__init__()
        norm = (options or Options()).norm
        self.body = nn.Sequential()
        inside = 3
        for name, (outside, kernel, stride) in CONVOLUTIONS.items():
            self.body.add_module(name, convolution(inside, outside, kernel, stride, norm))
            for other in BEHIND.get(name, ()):
                self.body.add_module(other, max_pool() if other.startswith("pool") else response_norm(norm))
            inside = outside
        side = -(-size // (1 << HALVINGS))
        self.pool = nn.AdaptiveAvgPool2d(side)
        self.fc1 = Maxout(inside * side**2, hidden)
        self.fc2 = Maxout(hidden, hidden)
        self.fc = dense(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(self.pool(self.body(x)), 1)  # (N, 256 · side²)
        out: Tensor = self.fc(self.fc2(self.fc1(x)))
        return out
