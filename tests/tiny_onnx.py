"""A recogniser small enough to compute by hand: a kernel over patches, then one matrix (Conv, Flatten, Gemm)."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

PATCHES, FEATURES = 4, 3


def tiny_weights(size: int, dim: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel `(FEATURES, 3, K, K)` of patches of K = size / 4 pixels, and matrix `(dim, FEATURES * 16)`."""
    rng = np.random.default_rng(seed)
    side = size // PATCHES
    kernel = rng.normal(size=(FEATURES, 3, side, side)) / side
    return kernel.astype(np.float32), rng.normal(size=(dim, FEATURES * PATCHES**2)).astype(np.float32)


def tiny_vectors(pixels: NDArray[Any], dim: int, seed: int = 0) -> NDArray[np.float64]:
    """What the network gives for normalised `(N, 3, S, S)`, patch by patch in float64, as unit rows."""
    size = pixels.shape[-1]
    kernel, matrix = (w.astype(np.float64) for w in tiny_weights(size, dim, seed))
    side = size // PATCHES
    rows = []
    for face in pixels.astype(np.float64):
        maps = np.zeros((FEATURES, PATCHES, PATCHES))
        for y in range(PATCHES):
            for x in range(PATCHES):
                patch = face[:, y * side : (y + 1) * side, x * side : (x + 1) * side]
                maps[:, y, x] = [(patch * kernel[f]).sum() for f in range(FEATURES)]
        rows.append(matrix @ maps.ravel())
    return np.stack([row / np.sqrt((row**2).sum()) for row in rows])


def tiny_model(
    size: int = 112, dim: int = 8, batch: int | str = "batch", seed: int = 0, prefix: str = ""
) -> onnx.ModelProto:
    """The network as ONNX; `prefix` renames its nodes and tensors."""
    kernel, matrix = tiny_weights(size, dim, seed)
    side = size // PATCHES
    p = prefix
    graph = helper.make_graph(
        [
            helper.make_node("Conv", [p + "in", p + "k"], [p + "maps"], p + "conv", strides=[side, side]),
            helper.make_node("Flatten", [p + "maps"], [p + "flat"], p + "flatten"),
            helper.make_node("Gemm", [p + "flat", p + "w"], [p + "out"], p + "gemm", transB=1),
        ],
        "tiny",
        [helper.make_tensor_value_info(p + "in", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info(p + "out", TensorProto.FLOAT, [batch, dim])],
        [numpy_helper.from_array(kernel, p + "k"), numpy_helper.from_array(matrix, p + "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def save_tiny(
    path: Path,
    *,
    card: dict[str, Any] | None = None,
    change: Callable[[onnx.ModelProto], None] | None = None,
    **kind: Any,
) -> Path:
    """Write the network, and beside it a card with `card` over what is right; without a card where `card` is None."""
    model = tiny_model(**kind)
    if change:
        change(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    if card is not None:
        document = {
            "name": path.stem,
            "file": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "input": {"size": kind.get("size", 112), "channels": "rgb", "mean": 127.5, "std": 128.0},
            "dim": kind.get("dim", 8),
            "licence": "Apache-2.0",
        }
        path.with_name(path.stem + ".card.json").write_text(json.dumps(document | card))
    return path
