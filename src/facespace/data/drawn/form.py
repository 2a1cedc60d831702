"""The head as a relief, and how a pose moves it.

A head is a height `z(x, y)` over the plane of the face (units as in `identity`, z towards the camera). A pose turns it
in space and projects it in parallel; a picture of it is found by solving, for each pixel, which point lands there.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.data.drawn.curves import Points, loop
from facespace.data.drawn.identity import Identity
from facespace.data.drawn.shot import Expression, Light, Pose

Map = NDArray[np.float32]
"""`(H, W, 2)`: for each pixel the point it shows."""

LEFT, TOP, RIGHT, BOTTOM = -76, -92, 76, 84  # the plane of the face, in units; relief and shade have one cell per unit
_X = np.arange(LEFT, RIGHT + 1, dtype=np.float32)
_Y = np.arange(TOP, BOTTOM + 1, dtype=np.float32)
_DEPTH = 33.0  # of the skull in front of the axis of the neck
_RIM = -3.0  # lowest height: hair and ears behind the outline


def outline(identity: Identity) -> Points:
    """Outline of the skull and jaw, a closed curve."""
    s = identity.skull
    return loop(
        (0, -s.top),
        (0.55 * s.width, 6.5 - s.top),
        (0.88 * s.width, 24 - s.top),
        (s.width, -15),
        (0.985 * s.width, 4),
        ((0.92 + 0.06 * s.cheeks) * s.width, 22),
        (s.jaw * s.width, 42),
        (0.5 * s.jaw * s.width + 0.75 * s.chin_width, 0.45 * 42 + 0.55 * s.chin),
        (0.85 * s.chin_width, s.chin - 1.2),
        (0, s.chin),
    )


def mouth_corner(identity: Identity, expression: Expression) -> tuple[float, float]:
    """The right corner of the mouth: a smile draws it out and up, an open mouth in and down."""
    m, smile, gape = identity.mouth, expression.smile, expression.mouth_open
    return m.width * (1 + 0.16 * smile - 0.08 * gape), m.y - (3.8 if smile > 0 else 1.6) * smile + 1.5 * gape


def landmarks(identity: Identity, expression: Expression) -> Points:
    """Left eye, right eye, nose, left and right corner of the mouth `(5, 2)` on the plane of the face."""
    e, (x, y) = identity.eyes.spacing, mouth_corner(identity, expression)
    return np.array([(-e, 0), (e, 0), (0, identity.nose.tip), (-x, y), (x, y)], np.float32)


def relief(identity: Identity, expression: Expression) -> NDArray[np.float32]:
    """Height of the head over the plane, one cell per unit `(BOTTOM - TOP + 1, RIGHT - LEFT + 1)`."""
    s = identity.skull
    middle, height = (s.chin - s.top) / 2, (s.chin + s.top) / 2 + 3
    skull = _DEPTH * (1 - ((_Y - middle) / height)[:, None] ** 2 - (_X / (s.width + 2.5)) ** 2)
    x, y, wide, tall, bulge = np.array(_bumps(identity, expression), np.float32).T[:, :, None]  # each (K, 1)
    columns, rows = np.exp(-0.5 * ((_X - x) / wide) ** 2), np.exp(-0.5 * ((_Y - y) / tall) ** 2)
    height_map: NDArray[np.float32] = np.maximum(skull, _RIM) + (bulge * rows).T @ columns
    return height_map


def _bumps(identity: Identity, expression: Expression) -> list[tuple[float, float, float, float, float]]:
    """The relief of the features: centre x, y, spread in x, y, and height."""
    s, e, n, m = identity.skull, identity.eyes, identity.nose, identity.mouth
    corner_x, corner_y = mouth_corner(identity, expression)
    joy, gape = max(expression.smile, 0), expression.mouth_open
    middle = [
        (0.0, 2.0, 0.9 * n.bridge + 1.2, 7.0, 0.32 * n.height),
        (0.0, 0.55 * n.tip, 0.9 * n.bridge + 0.6, 6.0, 0.42 * n.height),
        (0.0, n.tip - 1.0, 3.9, 3.6, 0.62 * n.height),
        (0.0, m.y, 13.0, 7.0, 3.6),
        (0.0, m.y + 0.5, 10.0, 1.3 + 2 * gape, -1.6 - 2 * gape),
        (0.0, m.y + m.lower + 4.5 + 3 * gape, 8.0, 2.4, -2.2),
        (0.0, s.chin - 8, 0.8 * s.chin_width, 5.5, 4.5),
    ]
    sides = [
        (e.spacing, 0.0, 8.5, 6.0, -4.4),
        (e.spacing, 0.3, 5.0, 3.6, 3.0),
        (e.spacing - 1, -identity.brows.gap - 0.5, 11.0, 3.6, s.brow_ridge),
        (26.0, 16.0 - 2 * joy, 10.0, 8.0, 1.5 + 2.2 * s.cheeks + 2.0 * joy),
        (26.0, 36.0, 8.0, 9.0, 3.4 * (s.cheeks - 0.75)),
        (0.62 * n.width, n.tip + 1.2, 0.34 * n.width, 2.6, 0.36 * n.height),
        (corner_x + 3.0, corner_y - 3.0, 2.6, 6.0, -1.2 - 1.8 * joy),
    ]
    return middle + sides + [(-x, *rest) for x, *rest in sides]  # type: ignore[misc]


def shade(height: NDArray[np.float32], light: Light, tone: float) -> NDArray[np.float32]:
    """Light on the relief: gain of each channel `(rows, columns, 3)`, about 1 where the skin faces the lamp.

    `tone` is the mean colour of the skin, 0..255: the same gloss shows more on dark skin.
    """
    dx, dy = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    upright = 1 / np.sqrt(1 + dx * dx + dy * dy)  # z of the unit normal (-dx, -dy, 1) * upright
    lx, ly, lz = light.direction
    facing = (lz - lx * dx - ly * dy) * upright
    soft = np.maximum(0.25 + 0.75 * facing, 0)  # wrapped around the edge, as skin scatters light
    halfway = math.sqrt(2 + 2 * lz)  # length of the lamp's direction plus the camera's
    gloss = cv2.pow(np.maximum((facing + upright) / halfway, 0), 24) * (light.gloss * 255 / (60 + tone))
    room = (1 - light.strength) * (0.72 + 0.28 * upright)
    lamp = 1.08 * light.strength * soft + gloss
    gain: NDArray[np.float32] = cv2.merge([room + tint * lamp for tint in light.colour])
    return gain


@dataclass(frozen=True)
class View:
    """A head as a pose shows it: `onto` is the similarity `(2, 3)` from the turned head to pixels of a canvas."""

    pose: Pose
    onto: NDArray[np.float64]
    height: NDArray[np.float32]

    @property
    def scale(self) -> float:
        """Canvas pixels per unit."""
        return float(np.hypot(self.onto[0, 0], self.onto[1, 0]))

    def depth(self, points: Points) -> NDArray[np.float32]:
        """Height `(N,)` of the relief at points of the plane, to the nearest unit."""
        column = np.clip(np.rint(points[:, 0]) - LEFT, 0, RIGHT - LEFT).astype(int)
        row = np.clip(np.rint(points[:, 1]) - TOP, 0, BOTTOM - TOP).astype(int)
        z: NDArray[np.float32] = self.height[row, column]
        return z

    def project(self, points: Points, depth: NDArray[np.float32] | float | None = None) -> Points:
        """Canvas pixels `(N, 2)` of points of the plane, at a given depth or on the relief."""
        z = self.depth(points) if depth is None else depth
        flat, rise = _turn(self.pose)
        turned = points @ flat.T + np.multiply.outer(np.broadcast_to(z, len(points)), rise)
        pixels: Points = (turned @ self.onto[:, :2].T + self.onto[:, 2]).astype(np.float32)
        return pixels

    def unproject(self, x: int, y: int, width: int, height: int) -> Map:
        """The point of the plane seen in each cell of about one unit of a window of the canvas.

        Solves q = M^-1 (p - z(q) v) by repetition, which converges where the relief does not hide itself.
        """
        columns, rows = max(2, round(width / self.scale)), max(2, round(height / self.scale))
        px = x - 0.5 + (np.arange(columns) + 0.5) * width / columns
        py = y - 0.5 + (np.arange(rows) + 0.5) * height / rows
        flat, rise = _turn(self.pose)
        back = np.linalg.inv(flat) @ np.linalg.inv(self.onto[:, :2])
        shift = -back @ self.onto[:, 2]
        lean = np.linalg.inv(flat) @ rise
        base = [
            np.add.outer(back[i, 1] * py, back[i, 0] * px).astype(np.float32) + np.float32(shift[i]) for i in range(2)
        ]
        z = cv2.remap(self.height, base[0] - LEFT, base[1] - TOP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for _ in range(4):
            qx, qy = base[0] - np.float32(lean[0]) * z, base[1] - np.float32(lean[1]) * z
            z = cv2.remap(self.height, qx - LEFT, qy - TOP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        seen: Map = cv2.merge([base[0] - np.float32(lean[0]) * z, base[1] - np.float32(lean[1]) * z])

        return seen


def _turn(pose: Pose) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The turned and projected point is M (x, y) + z v: M `(2, 2)` moves the plane, v `(2,)` the depth."""
    c, s, cp, sp = np.cos(pose.yaw), np.sin(pose.yaw), np.cos(pose.pitch), np.sin(pose.pitch)
    return np.array([[c, 0.0], [-s * sp, cp]]), np.array([s, c * sp])
