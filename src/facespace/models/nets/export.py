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
from torch import nn

from facespace.errors import MissingExtra, ModelError
from facespace.models.card import settle
from facespace.models.nets.trunks import TrunkSpec

OPSET = 18
TOLERANCE = {False: 1e-4, True: 2e-3}
"""Largest allowed distance between unit vectors of torch and ONNX, with weights in full and in half precision."""


def export_onnx(trunk: nn.Module, spec: TrunkSpec, path: Path, *, half: bool = False) -> float:
    """Write `path`: input `faces` float `(N, 3, S, S)`, already normalised; output `embedding` `(N, D)`, not
    normalised.

    `half` stores the weights in half precision (half the size; arithmetic stays in fp32). Returns the largest distance
    between unit vectors of both on random faces. Raises ModelError, and leaves no file, where it exceeds `TOLERANCE`.
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
            trunk,
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
    faces = torch.rand(5, 3, spec.size, spec.size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        ours = nn.functional.normalize(trunk(faces)).numpy()
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    theirs = np.asarray(session.run(None, {"faces": faces.numpy()})[0])
    theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    return float(np.linalg.norm(ours - theirs, axis=1).max())
