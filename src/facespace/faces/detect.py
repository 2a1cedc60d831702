"""Faces found in a photo: YuNet through OpenCV, a stand-in for aligned crops, and the choice among several."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Face, Photo
from facespace.core.geometry import SIZE, TEMPLATE, area, centre
from facespace.errors import ModelError, ModelNotFound, NoFace, SeveralFaces, UsageError
from facespace.faces.home import models_folder

Policy = Literal["largest", "central", "all", "refuse"]
"""Which faces of a photo to take; see `choose`."""

WEIGHTS = "face_detection_yunet_2023mar.onnx"
"""The file in `models_folder()` that `facespace model pull yunet` brings."""


class YuNet:
    """YuNet (Wu, Peng, Yu, Machine Intelligence Research 2023), run by OpenCV; safe to share between threads.

    A photo whose larger side exceeds `working_size` pixels is reduced to it before the net looks; a smaller one is
    never enlarged. Boxes and landmarks are in pixels of the photo as given. `score` is the least belief (0..1) of a
    face that is reported. Raises ModelNotFound where the weights are absent, ModelError where OpenCV cannot read them.
    """

    def __init__(self, weights: str | Path | None = None, *, working_size: int = 640, score: float = 0.5) -> None:
        if working_size < 32 or not 0 < score < 1:
            raise UsageError(f"working size {working_size} must be at least 32 and score {score} between 0 and 1")
        self.working_size = working_size
        self.score = score
        self._path = models_folder() / WEIGHTS if weights is None else Path(weights)
        self._weights = _read(self._path)
        self._local = threading.local()  # OpenCV's net keeps state while it runs: one for each thread
        self._net()

    @property
    def source(self) -> str:
        """`yunet@` and the working size, such as `yunet@640`."""
        return f"yunet@{self.working_size}"

    def detect(self, photo: Photo) -> list[Face]:
        """Faces of the RGB photo uint8 `(H, W, 3)`, best score first; an empty list where there is none."""
        height, width = photo.shape[:2]
        scale = min(1.0, self.working_size / max(height, width))
        small_width, small_height = max(1, round(width * scale)), max(1, round(height * scale))
        small = photo if scale == 1 else cv2.resize(photo, (small_width, small_height), interpolation=cv2.INTER_AREA)
        net = self._net()
        net.setInputSize((small_width, small_height))
        found = net.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        if found is None:
            return []
        rows = _enlarged(np.asarray(found, np.float64), width / small_width, height / small_height)
        return [self._face(row) for row in sorted(rows, key=lambda row: -row[14])]

    def _face(self, row: NDArray[np.float64]) -> Face:
        """A face of one row of OpenCV's answer: box (4), landmarks (10), score."""
        x, y, width, height, *points, score = row.tolist()
        return Face((x, y, width, height), score, tuple(zip(points[::2], points[1::2], strict=True)), self.source)

    def _net(self) -> Any:
        if not hasattr(self._local, "net"):
            self._local.net = _load(self._weights, self._path, self.score)
        return self._local.net


class Aligned:
    """For crops that are aligned already: one face fills the photo, its landmarks are the template's."""

    source = "aligned"

    def detect(self, photo: Photo) -> list[Face]:
        """The one face. The template is scaled to the crop's height and centred, so crops of 96 x 112 fit as well."""
        height, width = photo.shape[:2]
        scale = height / SIZE
        shift = (width - height) / 2
        landmarks = (TEMPLATE + 0.5) * scale - 0.5 + (shift, 0)
        box = (-0.5, -0.5, float(width), float(height))
        return [Face(box, 1.0, tuple((x, y) for x, y in landmarks.tolist()), self.source)]


def choose(faces: Sequence[Face], policy: Policy, shape: tuple[int, ...]) -> list[Face]:
    """The faces that `policy` takes of those found in a photo of `shape` `(H, W, ...)`.

    `largest`: the one of the largest box. `central`: the one of the largest area less twice the squared distance
    (pixels) of its middle from the photo's, the rule by which LFW is usually cropped. `all`: every one, best score
    first. `refuse`: the only one, or SeveralFaces. Raises NoFace where `faces` is empty, whatever the policy.
    """
    if policy not in get_args(Policy):
        raise UsageError(f"no policy {policy!r}", hint=f"take one of: {', '.join(get_args(Policy))}")
    if not faces:
        raise NoFace("no face was found", hint="take a photo in which the face is larger, sharper or less turned away")
    match policy:
        case "all":
            return list(faces)
        case "largest":
            return [max(faces, key=lambda face: area(face.box))]
        case "central":
            return [max(faces, key=lambda face: _prominence(face, shape))]
        case "refuse" if len(faces) > 1:
            hint = "crop the photo to one face, or choose which to take: policy largest or central"
            raise SeveralFaces(f"{len(faces)} faces were found where one was asked for", hint=hint)
    return list(faces)


def _prominence(face: Face, shape: tuple[int, ...]) -> float:
    """Area less twice the squared distance from the photo's middle, in square pixels."""
    x, y = centre(face.box)
    return area(face.box) - 2 * ((x - shape[1] / 2) ** 2 + (y - shape[0] / 2) ** 2)


def _enlarged(rows: NDArray[np.float64], x_scale: float, y_scale: float) -> NDArray[np.float64]:
    """Rows `(N, 15)` found in a reduced photo, in pixels of the full one.

    Pixel i of the reduced photo covers pixels from scale * i to scale * (i + 1); hence the half pixels around a centre.
    """
    scale = np.array([x_scale, y_scale])
    out = rows.copy()
    out[:, 2:4] = rows[:, 2:4] * scale
    for at in (0, *range(4, 14, 2)):
        out[:, at : at + 2] = (rows[:, at : at + 2] + 0.5) * scale - 0.5
    return out


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        return np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        hint = "run `facespace model pull yunet`, give the weights by path, or use --detector aligned for aligned crops"
        raise ModelNotFound("the weights of the detector YuNet are not there", hint=hint, file=path) from error


def _load(weights: NDArray[np.uint8], path: Path, score: float) -> Any:
    """A `cv2.FaceDetectorYN` of its own; the weights go in as bytes, so their path may be in any script."""
    empty = np.empty(0, np.uint8)
    try:
        with _quiet():
            return cv2.FaceDetectorYN.create("onnx", weights, empty, (320, 320), score, 0.3, 5000)
    except cv2.error as error:
        raise ModelError(
            "OpenCV cannot read these weights of YuNet", file=path, hint="pull or copy them again"
        ) from error


_LOGGING = Lock()
"""OpenCV's log level belongs to the process: one thread at a time may change it and put it back."""


@contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV's log held back: version 5 warns of a target that nobody asked for each time a net is made."""
    logging = cv2.utils.logging
    with _LOGGING:
        level = logging.setLogLevel(logging.LOG_LEVEL_ERROR)
        try:
            yield
        finally:
            logging.setLogLevel(level)
