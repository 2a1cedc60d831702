"""Drawing on a sheet with alpha: filled shapes, soft patches and lines, all anti-aliased."""

from collections.abc import Callable, Sequence
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.data.drawn.curves import Points
from facespace.data.drawn.identity import Colour

Mask = NDArray[np.uint8]
_SHIFT = 4  # OpenCV draws at sixteenths of a pixel


class Sheet:
    """A window of the plane of the face: RGBA uint8 `(H, W, 4)` with premultiplied alpha, clear at first.

    `left`, `top` are the window's corner in units, `scale` is pixels per unit.
    """

    def __init__(self, left: float, top: float, width: int, height: int, scale: float) -> None:
        self.corner = np.array([left, top], np.float32)
        self.scale = scale
        self.pixels: NDArray[np.uint8] = np.zeros((height, width, 4), np.uint8)

    def flood(self, colour: Colour) -> None:
        """Cover everything."""
        self.pixels[...] = (*colour, 255)

    def fill(self, shapes: Sequence[Points], colour: Colour) -> None:
        """Cover polygons."""
        cv2.fillPoly(self.pixels, [self._fixed(s) for s in shapes], (*colour, 255), cv2.LINE_AA, _SHIFT)

    def glaze(self, shapes: Sequence[Points], colour: Colour, opacity: float, blur: float = 0.0) -> None:
        """Blend a colour into polygons of equally many points, their edges softened by `blur` units.

        Where the sheet is clear it stays clear.
        """
        self._blend(shapes, colour, opacity, blur, None)

    def stroke(
        self, curves: Sequence[Points], colour: Colour, opacity: float, thickness: float, blur: float = 0.0
    ) -> None:
        """Blend in lines of equally many points, `thickness` in units; where the sheet is clear it stays clear."""
        self._blend(curves, colour, opacity, blur, thickness)

    def inset(self, shape: Points, picture: Callable[[Self], None]) -> None:
        """Draw a picture on a sheet of its own and show it through a polygon."""
        fixed = self._fixed(shape)
        window = self._window(fixed, 1.0)
        if window is None:
            return
        x0, y0, x1, y1 = window
        left, top = (self.corner + np.array([x0, y0], np.float32) / np.float32(self.scale)).tolist()
        sheet = type(self)(left, top, x1 - x0, y1 - y0, self.scale)
        picture(sheet)
        mask = np.zeros(sheet.pixels.shape[:2], np.uint8)
        cv2.fillPoly(mask, [fixed - _corner(x0, y0)], 255, cv2.LINE_AA, _SHIFT)
        self._cover(window, mask, sheet.pixels, 1.0)

    def _blend(
        self, curves: Sequence[Points], colour: Colour, opacity: float, blur: float, thickness: float | None
    ) -> None:
        fixed = self._fixed(np.stack(curves))  # (curves, points, 2)
        window = self._window(fixed.reshape(-1, 2), 3 * blur + (thickness or 0) + 1)
        if window is None:
            return
        x0, y0, x1, y1 = window
        mask: Mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        inside = list(fixed - _corner(x0, y0))
        if thickness is None:
            cv2.fillPoly(mask, inside, 255, cv2.LINE_AA, _SHIFT)
        else:
            cv2.polylines(mask, inside, False, 255, max(1, round(thickness * self.scale)), cv2.LINE_AA, _SHIFT)
        self._cover(window, soften(mask, blur * self.scale) if blur else mask, colour, opacity)

    def _cover(
        self, window: tuple[int, int, int, int], mask: Mask, paint: Colour | NDArray[np.uint8], opacity: float
    ) -> None:
        """Blend a colour, or pixels of the window's size, into a window through a mask."""
        x0, y0, x1, y1 = window
        patch = self.pixels[y0:y1, x0:x1]
        weight = cv2.multiply(mask, patch[:, :, 3], scale=opacity / 255)
        held = cv2.multiply(patch, cv2.merge([255 - weight] * 4), scale=1 / 255)
        if isinstance(paint, tuple):
            added = cv2.merge([*(cv2.convertScaleAbs(weight, alpha=c / 255) for c in paint), weight])
        else:
            added = cv2.multiply(paint, cv2.merge([weight] * 4), scale=1 / 255)
        cv2.add(held, added, dst=patch)

    def _fixed(self, points: NDArray[np.float32]) -> NDArray[np.int32]:
        fixed: NDArray[np.int32] = np.rint((points - self.corner) * np.float32(self.scale * (1 << _SHIFT))).astype(
            np.int32
        )
        return fixed

    def _window(self, fixed: NDArray[np.int32], reach: float) -> tuple[int, int, int, int] | None:
        """Pixels x0, y0, x1, y1 around the points and `reach` units wider; None where the sheet has none of them."""
        x, y, width, height = cv2.boundingRect(fixed)
        wider = round(reach * self.scale) + 1
        x0, y0 = max((x >> _SHIFT) - wider, 0), max((y >> _SHIFT) - wider, 0)
        x1 = min(((x + width) >> _SHIFT) + wider + 1, self.pixels.shape[1])
        y1 = min(((y + height) >> _SHIFT) + wider + 1, self.pixels.shape[0])
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _corner(x: int, y: int) -> NDArray[np.int32]:
    return np.array([x << _SHIFT, y << _SHIFT], np.int32)


def soften(mask: Mask, sigma: float) -> Mask:
    """A blur close to Gaussian, as two box blurs (whose cost does not grow with sigma)."""
    side = 2 * round(sigma * 1.22) + 1
    soft: Mask = cv2.blur(cv2.blur(mask, (side, side)), (side, side))
    return soft


def tinted(colour: Colour, gain: float | Colour, lift: float = 0.0) -> Colour:
    """The colour times a gain (one, or one per channel) plus a lift, kept within 0..255."""
    gains = gain if isinstance(gain, tuple) else (gain, gain, gain)
    r, g, b = (min(max(c * k + lift, 0.0), 255.0) for c, k in zip(colour, gains, strict=True))
    return (r, g, b)
