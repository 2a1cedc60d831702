"""What comes between face and camera: glasses, mask, scarf, hat, a hand, a bar."""

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.data.drawn.brush import Layer, ellipse, tinted
from facespace.data.drawn.features import mirrored_open
from facespace.data.drawn.form import Points, spline
from facespace.data.drawn.identity import Colour, Identity
from facespace.data.drawn.shot import Shot, cloth_colour


def paint_worn(layer: Layer, identity: Identity, shot: Shot) -> None:
    """Glasses and whatever else is worn on the head, on the plane of the face."""
    rng = np.random.default_rng([identity.seed, 6, identity.index, shot.entropy])
    cloth = cloth_colour(rng)
    match shot.obstacle:
        case "mask":
            _mask(layer, identity, (176, 206, 220) if rng.random() < 0.6 else cloth)
        case "scarf":
            _scarf(layer, identity, cloth)
        case "hat":
            _hat(layer, identity, cloth)
        case "sunglasses":
            _glasses(layer, identity, tinted=True)
        case _:
            pass
    if shot.glasses and shot.obstacle != "sunglasses":
        _glasses(layer, identity, tinted=False)


def paint_obstacle(canvas: NDArray[np.uint8], centre: Points, scale: float, skin: Colour, shot: Shot) -> None:
    """A hand or a bar in front of a face whose nose is at pixel `centre`, drawn straight on the canvas `(H, W, 3)`."""
    if shot.obstacle not in ("hand", "bar"):
        return
    rng = np.random.default_rng([7, shot.entropy])
    if shot.obstacle == "bar":
        angle, away = rng.uniform(0, np.pi), rng.uniform(12, 40) * rng.choice([-1, 1])
        along = np.array([np.cos(angle), np.sin(angle)])
        middle = away * np.array([-along[1], along[0]])
        ends = np.array([middle - 130 * along, middle + 130 * along])
        _thick(canvas, centre + scale * ends, cloth_colour(rng), rng.uniform(9, 20) * scale)
        return
    side = float(rng.choice([-1, 1]))
    root = np.array([side * rng.uniform(22, 40), rng.uniform(52, 66)])
    for finger in range(4):
        lean = -side * (0.15 + 0.2 * finger) + rng.normal(0, 0.05)
        length = (34, 40, 38, 30)[finger]
        base = root + np.array([-side * 6.5 * finger, -2.0 * finger])
        tip = base + length * np.array([np.sin(lean), -np.cos(lean)])
        pair = centre + scale * np.array([base, tip])
        _thick(canvas, pair, tinted(skin, (0.62, 0.5, 0.46)), 10.5 * scale)
        _thick(canvas, pair, tinted(skin, 0.95), 9.0 * scale)
    _thick(canvas, centre + scale * np.array([root, root + [-side * 16, 24]]), tinted(skin, 0.92), 30 * scale)


def _thick(canvas: NDArray[np.uint8], ends: Points, colour: Colour, thickness: float) -> None:
    (x0, y0), (x1, y1) = np.rint(ends).astype(int).tolist()
    cv2.line(canvas, (x0, y0), (x1, y1), colour, max(1, round(thickness)), cv2.LINE_AA)


def _glasses(layer: Layer, identity: Identity, *, tinted: bool) -> None:
    e, habits, w = identity.eyes, identity.habits, identity.skull.width
    frame = (24.0, 22.0, 24.0) if tinted else habits.frame_colour
    power = 2.0 if habits.frame == "round" else 3.4  # of the superellipse
    t = np.linspace(0, 2 * np.pi, 33)
    u = np.sign(np.cos(t)) * np.abs(np.cos(t)) ** (2 / power)
    v = np.sign(np.sin(t)) * np.abs(np.sin(t)) ** (2 / power)
    for side in (-1, 1):
        lens = np.column_stack([side * (e.spacing + 0.6) + 12.2 * u, 1.6 + (10.4 if power == 2 else 8.8) * v]).astype(
            np.float32
        )
        layer.glaze([lens], (30, 28, 30) if tinted else (235, 240, 245), 0.9 if tinted else 0.10)
        layer.stroke([lens], frame, 0.95, 1.5)
        if habits.frame == "browline" or tinted:
            layer.stroke([lens[16:]], frame, 0.95, 3.0)
        layer.stroke([np.array([(side * (e.spacing + 12.6), -2), (side * (w + 1), -3)], np.float32)], frame, 0.95, 1.6)
        glint = np.array([(side * e.spacing - 7, 4), (side * e.spacing - 1, -5)], np.float32)
        layer.stroke([glint], (255, 255, 255), 0.3, 1.8, 0.6)
    bridge = spline(np.array([(-e.spacing + 11.4, 0), (0, -2.2), (e.spacing - 11.4, 0)], np.float32))
    layer.stroke([bridge], frame, 0.95, 1.5)


def _mask(layer: Layer, identity: Identity, cloth: Colour) -> None:
    s = identity.skull
    upper = mirrored_open((0.9 * s.width, 22), (16, 13), (0, 9))
    lower = mirrored_open((s.jaw * s.width + 1, 40), (1.7 * s.chin_width, s.chin - 3), (0, s.chin + 3))
    layer.glaze([np.concatenate([upper, lower[::-1]])], cloth, 1.0)
    folds = [mirrored_open((0.8 * s.width, y), (0, y + 2)) for y in (27, 36, 45)]
    layer.stroke(folds, tinted(cloth, 0.75), 0.6, 0.8, 0.5)
    straps = [
        np.array([(d * 0.88 * s.width, y), (d * s.width, z)], np.float32)
        for d in (-1, 1)
        for y, z in ((23, 6), (40, 18))
    ]
    layer.stroke(straps, tinted(cloth, 1.1, 10), 0.9, 0.9)


def _scarf(layer: Layer, identity: Identity, cloth: Colour) -> None:
    s = identity.skull
    upper = mirrored_open((s.width + 8, 34), (0.6 * s.width, 46), (0, 50))
    lower = mirrored_open((s.width + 10, 78), (0, 84))
    layer.fill(np.concatenate([upper, lower[::-1]]), cloth)
    folds = [mirrored_open((s.width + 6, y), (0, y + 12)) for y in (44, 54, 64)]
    layer.stroke(folds, tinted(cloth, 0.68), 0.7, 1.6, 0.8)


def _hat(layer: Layer, identity: Identity, cloth: Colour) -> None:
    s = identity.skull
    w = s.width + 5
    upper = mirrored_open((w, -24), (0.93 * w, -46), (0.55 * w, -s.top - 7), (0, -s.top - 11))
    lower = mirrored_open((w, -24), (0.5 * w, -29), (0, -30))
    layer.fill(np.concatenate([upper, lower[::-1]]), cloth)
    ribs = [
        spline(np.array([(x * w, -31), (0.9 * x * w, -50), (0.3 * x * w, -s.top - 8)], np.float32))
        for x in np.linspace(-0.8, 0.8, 7)
    ]
    layer.stroke(ribs, tinted(cloth, 0.75), 0.5, 0.9, 0.4)
    layer.stroke([lower + np.float32([0, -2.5])], tinted(cloth, 0.8), 0.9, 5.0, 0.4)
    layer.stroke([lower + np.float32([0, 2.2])], tinted(identity.skin.colour, (0.5, 0.4, 0.38)), 0.5, 2.5, 1.5)
