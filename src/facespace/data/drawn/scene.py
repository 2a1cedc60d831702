"""People put before a backdrop: an aligned crop of one, or a whole photo of several."""

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Face, Photo
from facespace.core.geometry import SIZE, TEMPLATE, similarity_transform
from facespace.data.drawn.brush import Layer, tinted
from facespace.data.drawn.camera import Image, backdrop, develop
from facespace.data.drawn.features import paint_face, skin_colour
from facespace.data.drawn.form import BOTTOM, LEFT, RIGHT, TOP, Points, View, landmarks, outline, relief, shade, spline
from facespace.data.drawn.hair import paint_back, paint_front
from facespace.data.drawn.identity import Colour, Identity
from facespace.data.drawn.shot import (
    Light,
    Pose,
    Shot,
    cloth_colour,
    random_backdrop,
    random_camera,
    random_light,
    take_shot,
)
from facespace.data.drawn.worn import paint_obstacle, paint_worn
from facespace.errors import UsageError

_FINE = 2  # canvas pixels per pixel of the picture, along each side
_BEHIND = -16.0  # depth of neck, shoulders and the hair behind them


def draw_crop(identity: Identity, photo: int, shot: Shot | None = None) -> NDArray[np.uint8]:
    """The aligned face uint8 `(112, 112, 3)` of a person in photo number `photo`.

    The circumstances are those of `take_shot(identity, photo)` unless a shot is given; `Shot()` is a flawless frontal one,
    in which the five landmarks lie within 2 pixels of the template. Raises UsageError for a negative photo.
    """
    if photo < 0:
        raise UsageError(f"photos are numbered from 0, not {photo}")
    shot = take_shot(identity, photo) if shot is None else shot
    view = View(shot.pose, np.eye(2, 3), relief(identity, shot.expression))
    found = view.project(landmarks(identity, shot.expression))
    onto = similarity_transform(found, TEMPLATE + np.array(shot.misplaced))
    view = replace(view, onto=_finer(onto))
    rng = np.random.default_rng([8, shot.entropy])
    canvas = backdrop(SIZE * _FINE, SIZE * _FINE, shot.backdrop, rng)
    _put(canvas, identity, shot, view, upright=-shot.pose.roll)
    image = cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return develop(image, shot.camera, 1.0, rng)


def draw_photo(
    identities: Sequence[Identity], photo: int, *, size: tuple[int, int] = (960, 1280), seed: int = 0
) -> tuple[Photo, list[Face]]:
    """A photo `(height, width, 3)` of people side by side in rows, as of a class, and their faces in the order given.

    Boxes (forehead to chin, cheek to cheek) and landmarks are the true ones, the score is 1 and `source` is "drawn". A pure
    function of its arguments. Raises UsageError without people, for a negative number, or where the eyes would be less than
    10 pixels apart.
    """
    if not identities or photo < 0 or seed < 0:
        raise UsageError("a drawn photo needs at least one person, and a photo and seed of 0 or more")
    height, width = size
    rng = np.random.default_rng([seed, 9, photo, len(identities)])
    unit, places = _places(len(identities), height, width, rng)
    canvas = backdrop(height * _FINE, width * _FINE, random_backdrop(rng), rng)
    light, camera = random_light(rng), random_camera(rng)
    faces: list[Face] = []
    for identity, (x, y) in zip(identities, places, strict=True):
        shot = _posing(take_shot(identity, photo), light)
        roll = shot.pose.roll
        onto = unit * np.array([[np.cos(roll), -np.sin(roll), x / unit], [np.sin(roll), np.cos(roll), y / unit]])
        view = View(shot.pose, _finer(onto), relief(identity, shot.expression))
        _put(canvas, identity, shot, view, upright=-roll)
        faces.append(_face(identity, shot, replace(view, onto=onto)))
    image = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    calm = replace(camera, resolution=1.0, noise=camera.noise / 2, blur=camera.blur / 2, motion=0.0, jpeg=None)
    return develop(image, calm, unit, rng), faces


def _places(people: int, height: int, width: int, rng: np.random.Generator) -> tuple[float, list[tuple[float, float]]]:
    """Pixels per unit, and where each one's eyes are: the back row first, so that nobody hides the one behind."""
    rows = max(1, round(math.sqrt(0.75 * people * height / width)))
    columns = math.ceil(people / rows)
    unit = min(width / (columns + 0.6 * (rows > 1)) / 116, height / (95 + 108 * (rows - 1) + 125))
    if 35 * unit < 10:
        raise UsageError(
            f"{people} people do not fit a photo of {width} x {height} pixels",
            hint="draw a larger photo or fewer people",
        )
    lowest = min(height - 125 * unit, height / 2 + (54 * (rows - 1) + 20) * unit)  # eyes of the front row
    places = []
    for i in range(people):
        row, column = divmod(i, columns)
        here = min(columns, people - row * columns)
        x = width / 2 + (column - (here - 1) / 2 + 0.5 * (row % 2) - 0.25 * (rows > 1)) * 116 * unit
        y = lowest - 108 * (rows - 1 - row) * unit
        places.append((x + 5 * unit * rng.uniform(-1, 1), y + 7 * unit * rng.uniform(-1, 1)))
    return unit, places


def _posing(shot: Shot, light: Light) -> Shot:
    """The shot of someone who looks at the camera in the light that all share, nothing held before the face."""
    pose = Pose(0.6 * shot.pose.yaw, 0.6 * shot.pose.pitch, 0.5 * shot.pose.roll)
    obstacle = None if shot.obstacle in ("hand", "bar") else shot.obstacle
    return replace(shot, pose=pose, light=light, obstacle=obstacle)


def _face(identity: Identity, shot: Shot, view: View) -> Face:
    edge = outline(identity)
    edge = view.project(edge[edge[:, 1] > identity.hair.line])
    x, y = edge.min(0).tolist()
    right, bottom = edge.max(0).tolist()
    points = view.project(landmarks(identity, shot.expression)).tolist()
    return Face((x, y, right - x, bottom - y), 1.0, tuple((px, py) for px, py in points), "drawn")


def _finer(onto: NDArray[np.float64]) -> NDArray[np.float64]:
    """The similarity to the finer canvas, whose pixel (u, v) is at ((u + 0.5) / _FINE - 0.5, ...) of the picture."""
    finer = _FINE * onto
    finer[:, 2] += (_FINE - 1) / 2
    return finer


def _put(canvas: Image, identity: Identity, shot: Shot, view: View, upright: float) -> None:
    """Draw one person on the canvas; the body stands `upright` radians turned against the head."""
    skin = skin_colour(identity, shot)
    tone = sum(skin) / 3
    gain = shade(view.height, shot.light, tone)
    _body(canvas, identity, shot, view, skin, upright, gain)
    _head(canvas, identity, shot, view, gain)
    nose = view.project(np.array([[0, identity.nose.tip]], np.float32))[0]
    light = float(gain.mean())
    paint_obstacle(canvas, nose, view.scale, tinted(skin, light), shot)


def _body(
    canvas: Image, identity: Identity, shot: Shot, view: View, skin: Colour, upright: float, gain: NDArray[np.float32]
) -> None:
    """Hair behind the head, shoulders and neck."""
    dim = float(gain[60:120].mean())
    hair = tinted(identity.hair.colour, 0.62 * dim)
    for shape in paint_back(identity, shot):
        _polygon(canvas, view.project(shape, _BEHIND), hair)
    s = identity.skull
    turn = np.array([[np.cos(upright), -np.sin(upright)], [np.sin(upright), np.cos(upright)]], np.float32)
    pivot = np.float32([0, 0.6 * s.chin])

    def at(half: list[tuple[float, float]]) -> Points:
        right = np.array(half, np.float32)
        right = spline(right)
        shape = np.concatenate([right, right[::-1] * np.float32([-1, 1])])
        return view.project((shape - pivot) @ turn.T + pivot, _BEHIND + 10)

    neck, low = 0.5 * s.width * (0.6 + 0.6 * s.jaw), s.chin + 12
    cloth = cloth_colour(np.random.default_rng([10, shot.entropy]))
    lit, shaded = tinted(skin, (0.86 * dim, 0.78 * dim, 0.75 * dim)), tinted(skin, (0.66 * dim, 0.56 * dim, 0.53 * dim))
    _polygon(canvas, at([(neck, 30), (neck, low + 20)]), lit)
    _polygon(canvas, at([(neck, 30), (neck, s.chin - 2), (0.7 * neck, s.chin + 8), (0.1, s.chin + 10)]), shaded)
    shoulder = [(0.1, low + 16), (0.7 * neck, low + 11), (neck + 1, low), (neck + 8, low + 3)]
    shoulder += [(neck + 24, low + 10), (72, low + 16), (83, low + 27), (88, low + 60), (92, low + 300)]
    _polygon(canvas, at(shoulder), tinted(cloth, dim))
    _polygon(
        canvas,
        at([*shoulder[:3], (neck + 3, low + 2), (0.75 * neck, low + 15), (0.1, low + 20)]),
        tinted(cloth, 0.75 * dim),
    )


def _head(canvas: Image, identity: Identity, shot: Shot, view: View, gain: NDArray[np.float32]) -> None:
    """The head with its front hair: painted flat, lit, turned, and laid over the canvas."""
    corners = np.array([(LEFT, TOP), (RIGHT, TOP), (RIGHT, BOTTOM), (LEFT, BOTTOM)], np.float32)
    reach = view.project(corners, 0.0)
    x0, y0 = np.maximum(np.floor(reach.min(0)).astype(int), 0).tolist()
    x1, y1 = np.minimum(np.ceil(reach.max(0)).astype(int), [canvas.shape[1], canvas.shape[0]]).tolist()
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    shown = view.unproject(x0, y0, x1 - x0, y1 - y0)
    layer = _sheet(shown, view.scale)
    paint_face(layer, identity, shot)
    paint_front(layer, identity, shot)
    paint_worn(layer, identity, shot)
    light = cv2.remap(gain, shown - np.float32([LEFT, TOP]), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    size = (x1 - x0, y1 - y0)
    where = cv2.resize((shown - np.float32([layer.left, layer.top])) * np.float32(layer.scale), size)
    picture = cv2.remap(layer.pixels, where, None, cv2.INTER_LINEAR)
    lit = cv2.multiply(picture[:, :, :3], cv2.resize(light, size), dtype=cv2.CV_8U)
    clear = cv2.cvtColor(255 - picture[:, :, 3], cv2.COLOR_GRAY2RGB)
    patch = canvas[y0:y1, x0:x1]
    patch[...] = cv2.add(cv2.multiply(patch, clear, scale=1 / 255), lit)


def _sheet(shown: NDArray[np.float32], scale: float) -> Layer:
    """A clear layer over the part of the plane that a view shows."""
    low = np.maximum(shown.min((0, 1)) - 1, (LEFT, TOP))
    high = np.minimum(shown.max((0, 1)) + 1, (RIGHT, BOTTOM))
    width, height = np.maximum(np.ceil((high - low) * scale), 2).astype(int).tolist()
    return Layer(float(low[0]), float(low[1]), width, height, scale)


def _polygon(canvas: Image, shape: Points, colour: Colour) -> None:
    cv2.fillPoly(canvas, [np.rint(shape * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
