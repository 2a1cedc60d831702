"""Drawing on a layer with alpha: filled shapes, lines and soft patches, all anti-aliased."""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.data.drawn.form import Points
from facespace.data.drawn.identity import Colour

Mask = NDArray[np.uint8]
_SHIFT = 4  # OpenCV draws at sixteenths of a pixel
_CIRCLE = np.array([(math.cos(t * math.pi / 12), math.sin(t * math.pi / 12)) for t in range(24)], np.float32)


class Layer:
    """A sheet over a window of the plane of the face: RGBA uint8 with premultiplied alpha, clear at first.

    `left`, `top` are the window's corner in units, `scale` is pixels per unit.
    """

    def __init__(self, left: float, top: float, width: int, height: int, scale: float) -> None:
        self.left, self.top, self.scale = left, top, scale
        self.pixels: NDArray[np.uint8] = np.zeros((height, width, 4), np.uint8)

    def flood(self, colour: Colour) -> None:
        """Cover everything."""
        self.pixels[...] = (*colour, 255)

    def fill(self, shape: Points, colour: Colour) -> None:
        """Cover a polygon."""
        cv2.fillPoly(self.pixels, [self._fixed(shape)], (*colour, 255), cv2.LINE_AA, _SHIFT)

    def line(self, curves: Sequence[Points], colour: Colour, thickness: float) -> None:
        """Draw open curves, `thickness` in units (at least a pixel)."""
        width = max(1, round(thickness * self.scale))
        cv2.polylines(self.pixels, [self._fixed(c) for c in curves], False, (*colour, 255), width, cv2.LINE_AA, _SHIFT)

    def glaze(self, shapes: Sequence[Points], colour: Colour, opacity: float, blur: float = 0.0) -> None:
        """Blend a colour into polygons whose edges are softened by `blur` units; clear parts of the layer stay clear."""
        self._blend(shapes, colour, opacity, blur, None)

    def stroke(
        self, curves: Sequence[Points], colour: Colour, opacity: float, thickness: float, blur: float = 0.0
    ) -> None:
        """Blend lines into what is drawn already; clear parts stay clear."""
        self._blend(curves, colour, opacity, blur, thickness)

    def _blend(
        self, curves: Sequence[Points], colour: Colour, opacity: float, blur: float, thickness: float | None
    ) -> None:
        fixed = [self._fixed(c) for c in curves]
        window = self._window(fixed, 3 * blur + (thickness or 0) + 1)
        if window is None:
            return
        x0, y0, x1, y1 = window
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = [c - np.int32([x0 << _SHIFT, y0 << _SHIFT]) for c in fixed]
        if thickness is None:
            cv2.fillPoly(mask, fixed, 255, cv2.LINE_AA, _SHIFT)
        else:
            cv2.polylines(mask, fixed, False, 255, max(1, round(thickness * self.scale)), cv2.LINE_AA, _SHIFT)
        if blur:
            mask = soften(mask, blur * self.scale)
        self._cover((x0, y0), mask, colour, opacity)

    def _cover(self, at: tuple[int, int], mask: Mask, paint: "Colour | Layer", opacity: float = 1.0) -> None:
        """Blend a colour or a sheet of the same size through a mask `(h, w)` whose corner lies at pixel `at`."""
        patch = self.pixels[at[1] : at[1] + mask.shape[0], at[0] : at[0] + mask.shape[1]]
        weight = cv2.multiply(mask, patch[:, :, 3], scale=opacity / 255)
        held = cv2.multiply(patch, cv2.merge([255 - weight] * 4), scale=1 / 255)
        if isinstance(paint, Layer):
            added = cv2.multiply(paint.pixels, cv2.merge([weight] * 4), scale=1 / 255)
        else:
            added = cv2.merge([*(cv2.convertScaleAbs(weight, alpha=c / 255) for c in paint), weight])
        cv2.add(held, added, dst=patch)

    def inset(self, shape: Points, picture: Callable[["Layer"], None]) -> None:
        """Draw a picture on a sheet of its own and show it through a polygon."""
        fixed = self._fixed(shape)
        window = self._window([fixed], 1.0)
        if window is None:
            return
        x0, y0, x1, y1 = window
        sheet = Layer(self.left + x0 / self.scale, self.top + y0 / self.scale, x1 - x0, y1 - y0, self.scale)
        picture(sheet)
        mask = np.zeros(sheet.pixels.shape[:2], np.uint8)
        cv2.fillPoly(mask, [fixed - np.int32([x0 << _SHIFT, y0 << _SHIFT])], 255, cv2.LINE_AA, _SHIFT)
        self._cover((x0, y0), mask, sheet)

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        pixels = (points - np.float32([self.left, self.top])) * np.float32(self.scale * (1 << _SHIFT))
        return np.rint(pixels).astype(np.int32)

    def _window(self, fixed: list[NDArray[np.int32]], reach: float) -> tuple[int, int, int, int] | None:
        """Pixels x0, y0, x1, y1 around the points, `reach` units wider, within the layer; None where nothing is left."""
        x, y, width, height = cv2.boundingRect(fixed[0] if len(fixed) == 1 else np.concatenate(fixed))
        wider = round(reach * self.scale) + 1
        x0, y0 = max((x >> _SHIFT) - wider, 0), max((y >> _SHIFT) - wider, 0)
        x1 = min(((x + width) >> _SHIFT) + wider + 1, self.pixels.shape[1])
        y1 = min(((y + height) >> _SHIFT) + wider + 1, self.pixels.shape[0])
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def soften(mask: Mask, sigma: float) -> Mask:
    """A blur close to Gaussian, as two box blurs (whose cost does not grow with sigma)."""
    side = 2 * round(sigma * 1.22) + 1
    return cv2.blur(cv2.blur(mask, (side, side)), (side, side))


def ellipse(x: float, y: float, wide: float, tall: float, angle: float = 0.0) -> Points:
    """Outline of an ellipse with the given half axes, turned by `angle` radians."""
    c, s = math.cos(angle), math.sin(angle)
    return _CIRCLE @ np.float32([[c * wide, s * wide], [-s * tall, c * tall]]) + np.float32([x, y])


def tinted(colour: Colour, gain: float | Colour, lift: float = 0.0) -> Colour:
    """The colour times a gain (one, or one per channel) plus a lift, kept within 0..255."""
    gains = (gain, gain, gain) if isinstance(gain, float | int) else gain
    r, g, b = (min(max(c * k + lift, 0.0), 255.0) for c, k in zip(colour, gains, strict=True))
    return (r, g, b)
