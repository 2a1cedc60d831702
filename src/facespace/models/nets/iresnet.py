"""IResNet: the residual trunk of ArcFace (section 3.1 of the paper and its public code), and small members of the family.

A block is BN-Conv-BN-PReLU-Conv-BN with the stride in its second convolution; the output is BN-Dropout-FC-BN. Names of
parameters are those of the public arcface_torch checkpoints, which therefore load.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """BN-Conv3-BN-PReLU-Conv3(stride)-BN beside a shortcut; `(N, inside, S, S)` to `(N, outside, S/stride, S/stride)`."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.prelu = nn.PReLU(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outside)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        out: Tensor = self.bn3(self.conv2(y)) + self.downsample(x)
        return out


class IResNet(nn.Module):
    """The trunk: float `(N, 3, S, S)` to embeddings float `(N, dim)`, not normalised.

    `blocks` and `widths` are per stage, each stage halving the side; `stem_stride` 2 halves it once more at the start (small
    members read 112 pixels at the cost of 56). At another input size than `size` the last map is pooled to the shape that
    the fully connected layer expects, so that training may grow the resolution.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int] = (64, 128, 256, 512),
        *,
        size: int = 112,
        dim: int = 512,
        stem_stride: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, stem_stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(widths[0])
        inside, side = widths[0], -(-size // stem_stride)
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), start=1):
            strides = (2,) + (1,) * (count - 1)
            widths_in = (inside,) + (width,) * (count - 1)
            layer = nn.Sequential(*(Block(i, width, s) for i, s in zip(widths_in, strides, strict=True)))
            self.add_module(f"layer{stage}", layer)
            inside, side = width, -(-side // 2)
        self.side = side
        self.bn2 = nn.BatchNorm2d(inside)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inside * side * side, dim)
        self.features = nn.BatchNorm1d(dim)
        self._start()

    def _start(self) -> None:
        """As the public code starts: convolutions from N(0, 0.1), the last normalisation's gain 1 and fixed."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.1)
        nn.init.constant_(self.features.weight, 1.0)
        self.features.weight.requires_grad = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        x = self.bn2(x)
        if x.shape[-1] != self.side:
            x = F.adaptive_avg_pool2d(x, self.side)  # (N, C, side, side)
        x = self.fc(torch.flatten(self.dropout(x), 1))  # (N, dim)
        out: Tensor = self.features(x)
        return out
