"""What lies behind the people, and what a camera does to the light."""

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.data.drawn.identity import Colour
from facespace.data.drawn.shot import Camera

Image = NDArray[np.uint8]


def backdrop(height: int, width: int, colour: Colour, rng: np.random.Generator) -> Image:
    """A blurred room `(height, width, 3)`: soft patches of colours around one, some with an edge or two."""
    coarse = np.array(colour) + rng.normal(0, 20, (5, 6, 1)) + rng.normal(0, 7, (5, 6, 3))
    image = cv2.resize(np.clip(coarse, 0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(-0.2, 0.9, 2) * (width, height)
        w, h = rng.uniform(0.1, 0.8, 2) * (width, height)
        shade = np.clip(np.array(colour) * rng.uniform(0.5, 1.4) + rng.normal(0, 14, 3), 0, 255).tolist()
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), shade, -1)
    side = max(3, width // 40)
    blurred: Image = cv2.blur(image, (side, side))
    return blurred


def develop(image: Image, camera: Camera, unit: float, rng: np.random.Generator) -> Image:
    """The photo `(H, W, 3)` that a camera makes of a scene; `unit` is its pixels per pixel of an aligned face."""
    height, width = image.shape[:2]
    if camera.motion * unit >= 2:
        length = round(camera.motion * unit)
        kernel = np.zeros((length, length), np.float32)
        angle = rng.uniform(0, np.pi)
        ends = (length - 1) / 2 * (1 + np.array([[-1], [1]]) * [np.cos(angle), np.sin(angle)])
        (x0, y0), (x1, y1) = np.rint(ends).astype(int).tolist()
        cv2.line(kernel, (x0, y0), (x1, y1), 1.0)
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    if camera.blur * unit > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), camera.blur * unit)
    if camera.resolution < 1:
        small = (max(8, round(width * camera.resolution)), max(8, round(height * camera.resolution)))
        image = cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), (width, height))
    image = cv2.merge([cv2.LUT(c, _curve(camera, g)) for c, g in zip(cv2.split(image), camera.gains, strict=True)])
    if camera.noise:
        grain = np.float32(camera.noise) * rng.standard_normal(image.shape, np.float32)
        image = cv2.add(image, grain, dtype=cv2.CV_8U)
    return image if camera.jpeg is None else _through_jpeg(image, camera.jpeg)


def _curve(camera: Camera, gain: float) -> NDArray[np.uint8]:
    """Look-up table of one channel: exposure, then gamma."""
    level = np.clip(gain * np.arange(256) / 255, 0, 1) ** camera.gamma
    return np.rint(255 * level).astype(np.uint8)


def _through_jpeg(image: Image, quality: int) -> Image:
    """JPEG and back."""
    _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded: Image = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return decoded
