"""Torch weights to an ONNX model with its card, which needs no torch to be used."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from facespace.errors import MissingExtra, ModelNotFound, UsageError
from facespace.models.card import Card, Input, card_path, compared_by, of_same_network, read_card, write_card

if TYPE_CHECKING:
    from torch import nn

    from facespace.models.nets.trunks import TrunkSpec

TRUNK = "trunk.safetensors"
"""The torch weights in the folder of a run."""


def export(source: Path, output: Path, *, trunk: str | None = None, half: bool = False) -> float:
    """Write `output` (`.onnx`) and its card from a run's folder, our `.safetensors`, or a public arcface_torch `.pt`.

    `trunk` names the network of a `.pt`, which does not say it. `half` halves the file; the card's thresholds and
    numbers are then left out, for they belong to the weights they were measured with. Returns the largest distance
    between unit vectors of torch and of ONNX on random faces. Raises ModelNotFound, ModelError, or
    MissingExtra without torch.
    """
    weights = source / TRUNK if source.is_dir() else source
    if not weights.is_file():
        raise ModelNotFound("there are no weights to export here", file=weights, hint="a run's folder, or its weights")
    if output.suffix != ".onnx":
        raise UsageError("an export is an .onnx file", file=output, hint="-o model.onnx")
    if weights.suffix == ".onnx":
        raise UsageError("this is ONNX already", file=weights, hint="use it as it is, or give the run's folder")
    net, spec = _torch_weights(weights, trunk)
    from facespace.models.nets.export import export_onnx

    output.parent.mkdir(parents=True, exist_ok=True)
    distance = export_onnx(net, spec, output, half=half)
    card = _card(weights, spec)
    if half:
        card = replace(card, operating_points=(), numbers=(), calibration=None)
    write_card(of_same_network(card, output.name, hashlib.sha256(output.read_bytes()).hexdigest()), output)
    return distance


def _torch_weights(weights: Path, trunk: str | None) -> "tuple[nn.Module, TrunkSpec]":
    try:
        from facespace.models.nets.trunks import TrunkSpec, load_arcface_torch, load_trunk
    except ImportError as error:
        raise MissingExtra("exporting needs torch, which is absent", hint="pip install 'facespace[train]'") from error
    if weights.suffix == ".safetensors":
        if trunk is not None:
            raise UsageError("these weights say themselves what network they are of", hint="leave out --trunk")
        return load_trunk(weights)
    if trunk is None:
        raise UsageError(
            "a .pt does not say what network it is of", file=weights, hint="--trunk iresnet50, for instance"
        )
    net = load_arcface_torch(weights, trunk)
    return net, TrunkSpec(trunk, 112, net.state_dict()["fc.weight"].shape[0])


def _card(weights: Path, spec: "TrunkSpec") -> Card:
    """The card of the weights, or the little that is known of weights without one; all our trunks normalise alike."""
    if card_path(weights).is_file():
        return read_card(card_path(weights))
    taken = Input(spec.size, "rgb", 127.5, 127.5)
    card = Card(weights.stem, weights.name, "0" * 64, taken, spec.vector_dim, source=weights.name)
    return compared_by(spec.group_aware, card)
