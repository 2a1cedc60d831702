"""A trunk as ONNX, checked against the torch model before it is kept."""

import contextlib
import copy
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from facespace.errors import MissingExtra, ModelError
from facespace.models.card import settle
from facespace.models.nets.groupface import GroupFace, finished
from facespace.models.nets.trunks import TrunkSpec
from facespace.models.onnxfile import SPLIT

OPSET = 18
TOLERANCE = {False: 1e-4, True: 2e-3}
"""Largest allowed distance between unit vectors of torch and ONNX, with weights in full and in half precision."""


def export_onnx(trunk: nn.Module, spec: TrunkSpec, path: Path, *, half: bool = False) -> float:
    """Write `path`: input `faces` float `(N, 3, S, S)`, already normalised; output `embedding` `(N, D)`, not
    normalised, or of a group-aware network [unit vbar, raw vhat].

    `half` stores the weights in half precision (half the size; arithmetic stays in fp32). Returns the largest distance
    between unit vectors of both on random faces (of vhat as a share of its length). Raises ModelError, and leaves no
    file, where it exceeds `TOLERANCE`.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    trunk = copy.deepcopy(trunk).cpu().eval()  # the caller's stays where it is, and in its mode
    try:
        _write(trunk, spec, aside, half)
        distance = _distance(trunk, spec, aside)
        if not distance <= TOLERANCE[half]:
            raise ModelError(
                f"the ONNX model differs from the trunk by {distance:.2g}", file=path, hint="please report this"
            )
        settle(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return distance


def _write(trunk: nn.Module, spec: TrunkSpec, path: Path, half: bool) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch.onnx needs it)
    except ImportError as error:
        raise MissingExtra("exporting needs onnx", hint="pip install 'facespace[train]'") from error
    faces = torch.zeros(2, 3, spec.size, spec.size)
    with _quiet():
        program = torch.onnx.export(
            finished(trunk),
            (faces,),
            input_names=["faces"],
            output_names=["embedding"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    if half:
        _halve(model.graph)
    _forget_the_maker(model)
    if spec.group_aware is not None:
        model.metadata_props.add(key=SPLIT, value=str(spec.group_aware.split))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells its own developers: deprecations inside torch, and that torchvision is absent."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        log.setLevel(level)


def _forget_the_maker(model: Any) -> None:
    """Take out the stack traces that torch leaves in every node: they show the paths of the machine that exported."""
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _halve(graph: object) -> None:
    """Store large float weights as fp16 behind a Cast, which the runtime folds when it loads them."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in graph.initializer:  # type: ignore[attr-defined]
        if weight.data_type == TensorProto.FLOAT and np.prod(weight.dims) > 256:
            name, values = weight.name, numpy_helper.to_array(weight)
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], f"{name}.cast", to=TensorProto.FLOAT))
    nodes = list(graph.node)  # type: ignore[attr-defined]
    del graph.node[:]  # type: ignore[attr-defined]
    graph.node.extend(casts + nodes)  # type: ignore[attr-defined]


def _distance(trunk: nn.Module, spec: TrunkSpec, path: Path) -> float:
    faces = _clear_faces(trunk, spec.size)
    with torch.inference_mode():
        ours = finished(trunk)(faces)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    theirs = torch.from_numpy(np.asarray(session.run(None, {"faces": faces.numpy()})[0]))
    units = [nn.functional.normalize(vectors[:, : spec.dim]) for vectors in (ours, theirs)]
    gaps = (units[0] - units[1]).norm(dim=1)  # (N,)
    if spec.group_aware is not None:
        raw = ours[:, spec.dim :]
        gaps = torch.cat([gaps, (raw - theirs[:, spec.dim :]).norm(dim=1) / raw.norm(dim=1).clamp(min=1e-12)])
    return float(gaps.max())


def _clear_faces(trunk: nn.Module, size: int, count: int = 5) -> Tensor:
    """Random faces `(count, 3, size, size)`; for a hard choice of groups those of many whose choice is clearest, for
    between two groups of equal probability rounding may take either.
    """
    generator = torch.Generator().manual_seed(0)
    if not isinstance(trunk, GroupFace) or trunk.groups.mode == "soft" or trunk.groups.count < 2:
        return torch.rand(count, 3, size, size, generator=generator) * 2 - 1
    faces = torch.rand(8 * count, 3, size, size, generator=generator) * 2 - 1
    with torch.inference_mode():
        first, second = trunk.represent(faces).logits.topk(2, dim=1).values.unbind(1)  # (8 count,)
    return faces[(first - second).topk(count).indices]
