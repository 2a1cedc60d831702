"""Augmentation of aligned faces: every choice drawn from the generator that is handed in, nothing else random."""

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.errors import UsageError

Crop = NDArray[np.uint8]
"""RGB `(S, S, 3)`."""


@dataclass(frozen=True)
class Augment:
    """What may happen to a training face; fields named `*_p` are probabilities, the others ranges drawn uniformly."""

    flip_p: float = 0.5
    """Mirror left and right."""
    shift: float = 0.0
    """Translation, up to this share of the side in x and y."""
    zoom: float = 0.0
    """Scale between 1 - zoom and 1 + zoom."""
    turn_rad: float = 0.0
    """Rotation in the image plane, up to this angle either way."""
    light: float = 0.0
    """Brightness and contrast factors between 1 - light and 1 + light."""
    colour: float = 0.0
    """Saturation factor between 1 - colour and 1 + colour."""
    grey_p: float = 0.0
    """Grey picture."""
    blur_p: float = 0.0
    """Gaussian blur with sigma between 0.5 and 2 pixels."""
    downscale_p: float = 0.0
    """Reduce to between a quarter and all of the side, and enlarge again."""
    jpeg_p: float = 0.0
    """JPEG coding at a quality between 20 and 90."""
    erase_p: float = 0.0
    """Random erasing (Zhong et al. 2020): a rectangle of 2 % to 20 % of the face, filled with noise."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0.0 <= getattr(self, field.name) <= 1.0:
                raise UsageError(f"augmentation {field.name} = {getattr(self, field.name)} lies outside 0..1")
        if self.zoom == 1.0:
            raise UsageError("augmentation zoom = 1 may reduce a face to a point", hint="zoom < 1")

    def __call__(self, face: Crop, rng: np.random.Generator) -> tuple[Crop, bool]:
        """(augmented face, whether it was mirrored); the input is not changed."""
        flipped = bool(rng.random() < self.flip_p)
        face = self._move(face, flipped, rng)
        face = self._colour(face, rng)
        for chance, change in (
            (self.blur_p, _blur),
            (self.downscale_p, _downscale),
            (self.jpeg_p, _jpeg),
            (self.erase_p, _erase),
        ):
            if chance and rng.random() < chance:
                face = change(face, rng)
        return face, flipped

    def _move(self, face: Crop, flipped: bool, rng: np.random.Generator) -> Crop:
        """Flip, zoom, rotation and shift in one warp about the centre."""
        if not (self.shift or self.zoom or self.turn_rad):
            return np.ascontiguousarray(face[:, ::-1]) if flipped else face
        side = face.shape[0]
        zoom, angle = 1 + self.zoom * rng.uniform(-1, 1), self.turn_rad * rng.uniform(-1, 1)
        linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = linear @ np.diag([-1.0 if flipped else 1.0, 1.0])
        centre = np.full(2, (side - 1) / 2)
        offset = centre - linear @ centre + self.shift * side * rng.uniform(-1, 1, 2)
        warp = np.column_stack([linear, offset])  # (2, 3)
        return np.asarray(cv2.warpAffine(face, warp, (side, side), borderMode=cv2.BORDER_REPLICATE), np.uint8)

    def _colour(self, face: Crop, rng: np.random.Generator) -> Crop:
        """Brightness, contrast, saturation and grey as one 3x4 colour matrix."""
        if not (self.light or self.colour or self.grey_p):
            return face
        bright, contrast = 1 + self.light * rng.uniform(-1, 1, 2)
        saturation = 0.0 if rng.random() < self.grey_p else 1 + self.colour * rng.uniform(-1, 1)
        luma = np.array([0.299, 0.587, 0.114])
        matrix = bright * contrast * (saturation * np.eye(3) + (1 - saturation) * luma)
        offset = np.full(3, bright * (1 - contrast) * float(face.mean()))
        return np.asarray(cv2.transform(face, np.column_stack([matrix, offset])), np.uint8)


def _blur(face: Crop, rng: np.random.Generator) -> Crop:
    return np.asarray(cv2.GaussianBlur(face, (0, 0), rng.uniform(0.5, 2.0)), np.uint8)


def _downscale(face: Crop, rng: np.random.Generator) -> Crop:
    side = face.shape[0]
    small = max(8, round(side * rng.uniform(0.25, 1.0)))
    reduced = cv2.resize(face, (small, small), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(reduced, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def _jpeg(face: Crop, rng: np.random.Generator) -> Crop:
    bgr = cv2.cvtColor(face, cv2.COLOR_RGB2BGR)  # JPEG keeps less of blue than of red: the order matters
    _, coded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 91))])
    return np.asarray(cv2.cvtColor(cv2.imdecode(coded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)


def _erase(face: Crop, rng: np.random.Generator) -> Crop:
    side = face.shape[0]
    area, aspect = rng.uniform(0.02, 0.2) * side * side, np.exp(rng.uniform(-1, 1))
    height, width = (min(side, round(float(v))) for v in (np.sqrt(area * aspect), np.sqrt(area / aspect)))
    y, x = int(rng.integers(0, side - height + 1)), int(rng.integers(0, side - width + 1))
    face = face.copy()
    face[y : y + height, x : x + width] = rng.integers(0, 256, (height, width, 3), np.uint8)
    return face
