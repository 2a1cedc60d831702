"""Weights and multiply-adds, against counts by hand."""

import torch
from torch import Tensor, nn

from facespace.models.nets.counts import multiply_adds, parameters


class Mixed(nn.Module):
    """Grouped and strided convolutions, a layer used twice, normalisation and a fully connected layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 5, padding=2, groups=4, bias=False)
        self.fc = nn.Linear(8, 6)
        self.again = nn.Linear(6, 6, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.norm(self.first(x))).mean((2, 3))
        out: Tensor = self.again(self.again(self.fc(x)))
        return out


def test_products_and_weights_are_those_counted_by_hand() -> None:
    net = Mixed()
    products = 8 * 3 * 9 * 5 * 5 + 8 * 2 * 25 * 5 * 5 + 8 * 6 + 2 * 6 * 6  # 10 pixels become 5
    assert multiply_adds(net, 10) == products
    assert multiply_adds(net, 9) == products, "an odd side is rounded up"
    assert parameters(net) == (8 * 3 * 9 + 8) + 2 * 8 + 8 * 2 * 25 + (8 * 6 + 6) + 6 * 6


def test_counting_leaves_the_network_as_it_was() -> None:
    net = Mixed()
    net.norm.eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    multiply_adds(net, 10)
    assert net.training
    assert not net.norm.training
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert not any(layer._forward_hooks for layer in net.modules())
