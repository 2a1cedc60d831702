"""Weights to an Embedder: ONNX Runtime for `.onnx`, torch for our own `.safetensors`, behind one protocol.

Channel order, normalisation and input size stand in the card and are applied here, nowhere else.
"""

import hashlib
import math
import os
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import AlignedFaces, Vectors
from facespace.core.scores import unit_vectors
from facespace.errors import ContractMismatch, DeviceUnavailable, MissingExtra, ModelError, UsageError
from facespace.models.card import Card, Stated, card_for
from facespace.models.onnxfile import SPLIT, check_onnx
from facespace.models.shelf import find_weights

ALIGNED = 112
NOTHING = Stated()
Pixels = NDArray[np.float32]
"""Normalised `(N, 3, S, S)`, channels in the order of the card."""


def load(
    name_or_path: str | Path,
    *,
    threads: int | None = None,
    device: str = "cpu",
    channels: str | None = None,
    mean: float | None = None,
    std: float | None = None,
) -> "NetEmbedder":
    """The Embedder of a model by name (`compact`, or one that was pulled), or by path to its weights or its run.

    `threads` workers, by default one per core; `device` "cpu" or "cuda". `channels` ("rgb" or "bgr"), `mean` and `std`
    (of pixels 0..255) state the preprocessing of a model without a card, or override its card. Raises ModelNotFound,
    BadCard, DeviceUnavailable, or ModelError where the weights are damaged, unsafe or no recogniser.
    """
    weights = find_weights(name_or_path)
    kind = OnnxEmbedder if weights.suffix == ".onnx" else TorchEmbedder
    return kind(weights, Stated(channels, mean, std), threads=threads, device=device)


class NetEmbedder(ABC):
    """A network and its card as an Embedder; `card`, `device` and `threads` tell what is used.

    The vector of a face does not depend on the faces embedded beside it.
    """

    card: Card

    def __init__(self, *, threads: int | None, device: str) -> None:
        if threads is not None and threads < 1:
            raise UsageError(f"{threads} threads cannot work", hint="--threads 1 or more")
        self.threads = threads or _cores()
        self.device = device

    @property
    def name(self) -> str:
        """The name in the card."""
        return self.card.name

    @property
    def dim(self) -> int:
        """Length D of a vector."""
        return self.card.dim

    @property
    def contract(self) -> str:
        """Twelve hex digits of weights digest, preprocessing and dimension."""
        return self.card.contract()

    def embed(self, faces: AlignedFaces) -> Vectors:
        """Vectors float32 `(N, D)` of faces uint8 `(N, 112, 112, 3)` RGB, in their order: unit rows, or of a
        group-aware model [unit vbar, raw vhat].
        """
        return self.comparable(self.raw(faces))

    @abstractmethod
    def raw(self, faces: AlignedFaces) -> NDArray[np.float32]:
        """What the network gives for faces uint8 `(N, 112, 112, 3)` RGB, float32 `(N, D)`, in their order."""

    def comparable(self, vectors: NDArray[np.float32]) -> Vectors:
        """What the network gives, with the part that is compared by cosine divided by its length."""
        return unit_vectors(vectors) if self.card.group_aware is None else self.card.group_aware.unit(vectors)

    def similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        """Similarities float32 `(Na, Nb)` of this model's vectors: cosines, or by its card group-aware.

        Raises ContractMismatch if their length is another.
        """
        self._check_lengths(a, b)
        if self.card.group_aware is not None:
            return self.card.group_aware.matrix(a, b)
        product: NDArray[np.float32] = np.asarray(a, np.float32) @ np.asarray(b, np.float32).T
        return product

    def pair_similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        """Similarities float32 `(N,)`, row by row; ContractMismatch if their length is another."""
        self._check_lengths(a, b)
        if self.card.group_aware is not None:
            return self.card.group_aware.pairs(a, b)
        return np.asarray(np.einsum("nd,nd->n", a, b), np.float32)

    def _check_lengths(self, a: Vectors, b: Vectors) -> None:
        if a.shape[-1] != self.dim or b.shape[-1] != self.dim:
            raise ContractMismatch(
                f"vectors of length {a.shape[-1]} and {b.shape[-1]} met the model {self.name!r} of length {self.dim}",
                hint="embed both sides with the same model",
            )

    def _pixels(self, faces: AlignedFaces) -> Pixels:
        """Faces as the network takes them: its size, its channel order, (x - mean) / std."""
        taken = self.card.input
        if taken.size != ALIGNED:
            faces = _resized(faces, taken.size)
        ordered = faces[..., ::-1] if taken.channels == "bgr" else faces
        pixels: Pixels = np.ascontiguousarray(ordered.transpose(0, 3, 1, 2), dtype=np.float32)  # (N, 3, S, S)
        pixels -= np.float32(taken.mean)
        pixels /= np.float32(taken.std)
        return pixels


class OnnxEmbedder(NetEmbedder):
    """Any recogniser in ONNX: one float32 input NCHW of fixed size (batch free or fixed), one vector per face.

    One session that works on the calling thread, `threads` callers, batches of 8: on a busy machine 2.6 times as fast
    as a session with threads of its own, which wait spinning for each other.
    """

    def __init__(
        self, weights: Path, stated: Stated = NOTHING, *, threads: int | None = None, device: str = "cpu"
    ) -> None:
        super().__init__(threads=threads, device=device)
        self._weights = weights
        content = _read(weights)
        check_onnx(content, weights)
        self._session = _session(content, weights, device)
        self._input, self._fixed_batch, size = _onnx_input(self._session, weights)
        dim = self._vector_length(size)
        digest = hashlib.sha256(content).hexdigest()
        split = _split(self._session, dim, weights)
        self.card = card_for(weights, digest, size=size, dim=dim, split=split, stated=stated)

    def raw(self, faces: AlignedFaces) -> NDArray[np.float32]:
        """What the network gives for faces uint8 `(N, 112, 112, 3)` RGB, float32 `(N, D)`, in their order."""
        _check_faces(faces)
        batch = self._fixed_batch or max(1, min(8, math.ceil(len(faces) / self.threads)))
        vectors = np.empty((len(faces), self.dim), np.float32)

        def fill(start: int) -> None:
            part = slice(start, start + batch)
            vectors[part] = self._forward(self._pixels(faces[part]))

        starts = range(0, len(faces), batch)
        if len(starts) < 2 or self.threads == 1:
            for start in starts:
                fill(start)
        else:
            with ThreadPoolExecutor(min(self.threads, len(starts))) as workers:
                list(workers.map(fill, starts))
        return vectors

    def _forward(self, pixels: Pixels) -> NDArray[np.float32]:
        """What the network gives for `(n, 3, S, S)`, as `(n, D)`; a batch of fixed size is filled up and cut again."""
        count = len(pixels)
        if self._fixed_batch and count < self._fixed_batch:
            pixels = np.concatenate([pixels, np.zeros((self._fixed_batch - count, *pixels.shape[1:]), np.float32)])
        try:
            given: NDArray[np.float32] = self._session.run(None, {self._input: pixels})[0]
        except Exception as error:  # onnxruntime's exceptions share no other parent
            raise ModelError(f"fails on {len(pixels)} faces: {_first_line(error)}", file=self._weights) from error
        if given.size % len(pixels) or given.size == 0:
            raise ModelError(f"gives {list(given.shape)} for {len(pixels)} faces", file=self._weights)
        return given.reshape(len(pixels), -1)[:count]

    def _vector_length(self, size: int) -> int:
        outputs = self._session.get_outputs()
        if len(outputs) == 1 and outputs[0].type == "tensor(float)":
            given = self._forward(np.zeros((1, 3, size, size), np.float32))
            if given.shape[1] > 1:
                return int(given.shape[1])
        shapes = ", ".join(f"{o.name} {o.type} {o.shape}" for o in outputs)
        raise ModelError(f"gives no vector per face but {shapes}", file=self._weights, hint="is this a recogniser?")


class TorchEmbedder(NetEmbedder):
    """A trunk of our own training, from its safetensors; needs `facespace[train]`."""

    def __init__(
        self, weights: Path, stated: Stated = NOTHING, *, threads: int | None = None, device: str = "cpu"
    ) -> None:
        super().__init__(threads=threads, device=device)
        _require_torch(device)
        from facespace.models.nets.groupface import finished
        from facespace.models.nets.trunks import load_trunk

        trunk, spec = load_trunk(weights)
        self._trunk = finished(trunk).to(device)
        digest = hashlib.sha256(_read(weights)).hexdigest()
        split = 0 if spec.group_aware is None else spec.group_aware.split
        self.card = card_for(weights, digest, size=spec.size, dim=spec.vector_dim, split=split, stated=stated)

    def raw(self, faces: AlignedFaces) -> NDArray[np.float32]:
        """What the network gives for faces uint8 `(N, 112, 112, 3)` RGB, float32 `(N, D)`, in their order."""
        import torch

        _check_faces(faces)
        vectors = np.empty((len(faces), self.dim), np.float32)
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            for start in range(0, len(faces), 8):
                part = slice(start, start + 8)
                with torch.inference_mode():
                    pixels = torch.from_numpy(self._pixels(faces[part])).to(self.device)
                    vectors[part] = self._trunk(pixels).float().cpu().numpy()
        finally:
            torch.set_num_threads(before)
        return vectors


def _read(weights: Path) -> bytes:
    try:
        return weights.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror})", file=weights) from error


def _session(content: bytes, weights: Path, device: str) -> Any:
    """A session of one thread over checked bytes, on exactly the asked device."""
    import onnxruntime

    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(device)
    if provider not in onnxruntime.get_available_providers():
        raise _no_device(device, "this onnxruntime has no such provider")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4  # what goes wrong is raised
    try:
        session = onnxruntime.InferenceSession(content, options, providers=[provider])
    except Exception as error:  # onnxruntime's exceptions share no other parent
        raise ModelError(
            f"ONNX Runtime refuses it: {_first_line(error)}", file=weights, hint="export it again"
        ) from error
    if session.get_providers()[0] != provider:
        raise _no_device(device, "the provider did not start")
    return session


def _onnx_input(session: Any, weights: Path) -> tuple[str, int, int]:
    """Name, batch (0 where it is free) and side of the only input; ModelError unless it is float32 `(N, 3, S, S)`."""
    inputs = session.get_inputs()
    if len(inputs) == 1 and inputs[0].type == "tensor(float)" and len(inputs[0].shape) == 4:
        batch, channels, height, width = inputs[0].shape
        if channels == 3 and isinstance(height, int) and height == width and height >= 16:
            return inputs[0].name, batch if isinstance(batch, int) else 0, height
    shapes = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
    raise ModelError(
        f"takes {shapes}, not one float input (N, 3, S, S) with a fixed size S",
        file=weights,
        hint="export it with a fixed height and width, channels first",
    )


def _split(session: Any, dim: int, weights: Path) -> int:
    """Where the group part of a vector of length `dim` begins, as the file itself says; 0 where there is none."""
    says = session.get_modelmeta().custom_metadata_map.get(SPLIT, "0")
    if not (says.isdecimal() and int(says) < dim):
        raise ModelError(f"names {says!r} as {SPLIT} of vectors of {dim}", file=weights, hint="export it again")
    return int(says)


def _require_torch(device: str) -> None:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra(
            "safetensors weights run in torch, which is absent", hint="pip install 'facespace[train]'"
        ) from error
    if device != "cpu" and not (device == "cuda" and torch.cuda.is_available()):
        raise _no_device(device, "torch sees none")


def _no_device(device: str, why: str) -> DeviceUnavailable:
    return DeviceUnavailable(f"there is no device {device!r} ({why})", hint="--device cpu works everywhere")


def _check_faces(faces: AlignedFaces) -> None:
    if faces.dtype != np.uint8 or faces.ndim != 4 or faces.shape[1:] != (ALIGNED, ALIGNED, 3):
        raise UsageError(
            f"faces are uint8 (N, {ALIGNED}, {ALIGNED}, 3) RGB, not {faces.dtype} {faces.shape}",
            hint="align them: facespace.faces.align",
        )


def _resized(faces: AlignedFaces, size: int) -> AlignedFaces:
    import cv2

    small = np.empty((len(faces), size, size, 3), np.uint8)
    for index, face in enumerate(faces):
        small[index] = cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA)
    return small


def _cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
