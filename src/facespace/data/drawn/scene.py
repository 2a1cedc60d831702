"""People before a backdrop: an aligned crop of one, or a whole photo of several."""

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Face, Photo
from facespace.core.geometry import SIZE, TEMPLATE, similarity_transform
from facespace.data.drawn.camera import backdrop, develop
from facespace.data.drawn.figure import draw_figure
from facespace.data.drawn.form import View, landmarks, outline, relief
from facespace.data.drawn.identity import Identity, Stream
from facespace.data.drawn.shot import (
    Light,
    Pose,
    Shot,
    random_backdrop,
    random_camera,
    random_light,
    take_shot,
)
from facespace.errors import UsageError

_FINE = 2  # canvas pixels per pixel of the picture, along each side
_WIDE, _TALL, _HEADROOM, _CHEST = 116.0, 122.0, 95.0, 120.0  # room for a person in a group, in units


def draw_crop(identity: Identity, photo: int, shot: Shot | None = None) -> NDArray[np.uint8]:
    """The aligned face uint8 `(112, 112, 3)` of a person in photo number `photo`.

    The circumstances are those of `take_shot(identity, photo)` unless a shot is given; `Shot()` is flawless and
    frontal: the five landmarks then lie within 2.5 pixels of the template. Raises UsageError for a negative photo.
    """
    if photo < 0:
        raise UsageError(f"photos are numbered from 0, not {photo}")
    shot = take_shot(identity, photo) if shot is None else shot
    view = View(shot.pose, np.eye(2, 3), relief(identity, shot.expression))
    found = view.project(landmarks(identity, shot.expression))
    onto = similarity_transform(found, TEMPLATE + np.array(shot.misplaced))
    rng = np.random.default_rng([shot.entropy, Stream.ROOM])
    canvas = backdrop(SIZE * _FINE, SIZE * _FINE, shot.backdrop, rng)
    draw_figure(canvas, identity, shot, replace(view, onto=_finer(onto)))
    image = cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return develop(image, shot.camera, 1.0, rng)


def draw_photo(
    identities: Sequence[Identity], photo: int, *, size: tuple[int, int] = (960, 1280), seed: int = 0
) -> tuple[Photo, list[Face]]:
    """A photo uint8 `(height, width, 3)` of people side by side in rows, as of a class, and their faces in that order.

    Boxes (forehead to chin, cheek to cheek) and landmarks are the true ones, the score is 1, `source` is "drawn". A
    pure function of its arguments. Raises UsageError without people, for a negative number, or where the eyes would be
    less than 10 pixels apart.
    """
    if not identities or photo < 0 or seed < 0:
        raise UsageError("a drawn photo needs at least one person, and a photo and seed of 0 or more")
    height, width = size
    rng = np.random.default_rng([seed, Stream.CROWD, photo, len(identities)])
    unit, places = _places(len(identities), height, width, rng)
    canvas = backdrop(height * _FINE, width * _FINE, random_backdrop(rng), rng)
    tone = sum(sum(i.skin.colour) for i in identities) / (3 * len(identities))
    light, camera = random_light(rng), random_camera(rng, tone)
    faces: list[Face] = []
    for identity, (x, y) in zip(identities, places, strict=True):
        shot = _posing(take_shot(identity, photo), light)
        c, s = math.cos(shot.pose.roll), math.sin(shot.pose.roll)
        onto = np.array([[unit * c, -unit * s, x], [unit * s, unit * c, y]])
        view = View(shot.pose, onto, relief(identity, shot.expression))
        draw_figure(canvas, identity, shot, replace(view, onto=_finer(onto)))
        faces.append(_true_face(identity, shot, view))
    image = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    calm = replace(camera, resolution=1.0, noise=camera.noise / 2, blur=camera.blur / 2, motion=0.0, jpeg=None)
    return develop(image, calm, unit, rng), faces


def _finer(onto: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same similarity `(2, 3)` to the canvas, `_FINE` of whose pixels share a pixel of the picture."""
    finer = _FINE * onto
    finer[:, 2] += (_FINE - 1) / 2
    return finer


def _places(people: int, height: int, width: int, rng: np.random.Generator) -> tuple[float, list[tuple[float, float]]]:
    """Pixels per unit, and where each one's eyes are; the back row comes first, so that none hides the one before."""
    rows = max(1, round(math.sqrt(0.75 * people * height / width)))
    columns, staggered = math.ceil(people / rows), rows > 1
    unit = min(width / (columns + 0.6 * staggered) / _WIDE, height / (_HEADROOM + _TALL * (rows - 1) + _CHEST))
    if 35 * unit < 10:
        raise UsageError(
            f"{people} people do not fit a photo of {width} x {height} pixels",
            hint="draw a larger photo or fewer people",
        )
    lowest = min(height - _CHEST * unit, height / 2 + (_TALL / 2 * (rows - 1) + 12) * unit)  # eyes of the front row
    places = []
    for i in range(people):
        row, column = divmod(i, columns)
        here = min(columns, people - row * columns)
        aside = column - (here - 1) / 2 + (0.5 * (row % 2) - 0.25) * staggered
        x = width / 2 + (_WIDE * aside + rng.uniform(-5, 5)) * unit
        y = lowest + (rng.uniform(-7, 7) - _TALL * (rows - 1 - row)) * unit
        places.append((x, y))
    return unit, places


def _posing(shot: Shot, light: Light) -> Shot:
    """The shot of someone who faces the camera and smiles, in the common light, with nothing held before the face."""
    pose = Pose(0.6 * shot.pose.yaw, 0.6 * shot.pose.pitch, 0.5 * shot.pose.roll)
    obstacle = None if shot.obstacle in ("hand", "bar") else shot.obstacle
    smiling = replace(shot.expression, smile=min(shot.expression.smile + 0.3, 1.0), blink=0.4 * shot.expression.blink)
    return replace(shot, pose=pose, light=light, expression=smiling, obstacle=obstacle)


def _true_face(identity: Identity, shot: Shot, view: View) -> Face:
    edge = outline(identity)
    edge = view.project(edge[edge[:, 1] > identity.hair.line])
    (x, y), (right, bottom) = edge.min(0).tolist(), edge.max(0).tolist()
    five = view.project(landmarks(identity, shot.expression)).tolist()
    return Face((x, y, right - x, bottom - y), 1.0, tuple((px, py) for px, py in five), "drawn")
