"""IResNet: the residual trunk of ArcFace (section 3.1 of the paper and its public code), and small members of the
family.

A block is BN-Conv-BN-PReLU-Conv-BN with the stride in its second convolution; the output is BN-Dropout-FC-BN. Names of
parameters are those of the public arcface_torch checkpoints, which therefore load.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """BN-Conv3-BN-PReLU-Conv3(stride)-BN and a shortcut; `(N, inside, S, S)` to `(N, outside, S/stride, S/stride)`."""

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


def _stage(inside: int, outside: int, count: int) -> nn.Sequential:
    """`count` blocks, the first of which halves the side."""
    return nn.Sequential(Block(inside, outside, 2), *(Block(outside, outside, 1) for _ in range(count - 1)))


class IResNet(nn.Module):
    """The trunk: float `(N, 3, S, S)` to embeddings float `(N, dim)`, not normalised.

    `blocks` and `widths` are per stage, each stage halving the side; `stem_stride` 2 halves it once more at the start
    (small members read 112 pixels at the cost of 56). At another input size than `size` the last map is pooled to the
    shape that the fully connected layer expects, so that training may grow the resolution.
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
        inputs = (widths[0], *widths[:-1])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(i, o, count) for i, o, count in zip(inputs, widths, blocks, strict=True)
        )
        self.side = -(-size // (16 * stem_stride))
        inside = widths[-1]
        self.bn2 = nn.BatchNorm2d(inside)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inside * self.side**2, dim)
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
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.bn2(x)
        if x.shape[-1] != self.side:
            x = F.adaptive_avg_pool2d(x, self.side)  # (N, C, side, side)
        x = self.fc(torch.flatten(self.dropout(x), 1))  # (N, dim)
        out: Tensor = self.features(x)
        return out
