"""What a network costs: its weights, and the products of one forward pass."""

import copy

import torch
from torch import Tensor, nn


def parameters(net: nn.Module) -> int:
    """Number of trained numbers: weights, biases, gains and slopes; running statistics are not among them."""
    return sum(parameter.numel() for parameter in net.parameters())


def multiply_adds(net: nn.Module, size: int) -> int:
    """Products of one face `(1, 3, size, size)` in convolutions and fully connected layers; all else is small.

    A product with a padded zero is one; a bias is none (FaceNet's tables, which call these numbers FLOPS, add one for
    each bias and place: 0.2 % more). Others count two FLOPs for each. Nothing is computed: a copy without values is
    run.
    """
    products = 0

    def count(layer: nn.Module, faces: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal products
        weight = layer.get_parameter("weight")
        products += out.numel() // len(weight) * weight.numel()

    shadow = copy.deepcopy(net).to("meta").eval()
    for layer in shadow.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        shadow(torch.zeros(1, 3, size, size, device="meta"))
    return products
