"""What comes between face and camera: glasses, mask, scarf, hat, a hand, a bar."""

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.data.drawn.brush import Sheet, tinted
from facespace.data.drawn.curves import Points, arch, band, both, points, spline
from facespace.data.drawn.identity import Colour, Identity, Stream
from facespace.data.drawn.shot import Shot, cloth_colour


def paint_worn(sheet: Sheet, identity: Identity, shot: Shot) -> None:
    """Glasses and whatever else is worn on the head, on the plane of the face."""
    rng = np.random.default_rng([identity.seed, Stream.WORN, identity.index, shot.entropy])
    cloth = cloth_colour(rng)
    match shot.obstacle:
        case "mask":
            _mask(sheet, identity, (176, 206, 220) if rng.random() < 0.6 else cloth)
        case "scarf":
            _scarf(sheet, identity, cloth)
        case "hat":
            _hat(sheet, identity, cloth)
        case "sunglasses":
            _glasses(sheet, identity, dark=True)
        case _:
            pass
    if shot.glasses and shot.obstacle != "sunglasses":
        _glasses(sheet, identity, dark=False)


def hold_before(canvas: NDArray[np.uint8], nose: Points, scale: float, skin: Colour, shot: Shot) -> None:
    """Draw the hand or the bar of a shot on the canvas `(H, W, 3)`, before a face whose nose is at pixel `nose`."""
    rng = np.random.default_rng([shot.entropy, Stream.OBSTACLE])
    match shot.obstacle:
        case "hand":
            _hand(canvas, nose, scale, skin, rng)
        case "bar":
            _bar(canvas, nose, scale, rng)
        case _:
            pass


def _bar(canvas: NDArray[np.uint8], nose: Points, scale: float, rng: np.random.Generator) -> None:
    angle, away = rng.uniform(0, np.pi), rng.uniform(12, 40) * rng.choice([-1, 1])
    along = np.array([np.cos(angle), np.sin(angle)])
    middle = away * np.array([-along[1], along[0]])
    ends = nose + scale * np.array([middle - 130 * along, middle + 130 * along])
    _thick(canvas, ends, cloth_colour(rng), rng.uniform(9, 20) * scale)


def _hand(canvas: NDArray[np.uint8], nose: Points, scale: float, skin: Colour, rng: np.random.Generator) -> None:
    """Four fingers that come from below on one side and cover a part of mouth and cheek."""
    side = float(rng.choice([-1, 1]))
    root = np.array([side * rng.uniform(22, 40), rng.uniform(52, 66)])
    for finger, length in enumerate((34, 40, 38, 30)):
        lean = -side * (0.15 + 0.2 * finger) + rng.normal(0, 0.05)
        base = root + np.array([-side * 6.5 * finger, -2.0 * finger])
        ends = nose + scale * np.array([base, base + length * np.array([np.sin(lean), -np.cos(lean)])])
        _thick(canvas, ends, tinted(skin, (0.62, 0.5, 0.46)), 10.5 * scale)
        _thick(canvas, ends, tinted(skin, 0.95), 9.0 * scale)
    palm = nose + scale * np.array([root, root + np.array([-side * 16, 24])])
    _thick(canvas, palm, tinted(skin, 0.92), 30 * scale)


def _thick(canvas: NDArray[np.uint8], ends: NDArray[np.float64], colour: Colour, thickness: float) -> None:
    (x0, y0), (x1, y1) = np.rint(ends).astype(int).tolist()
    cv2.line(canvas, (x0, y0), (x1, y1), colour, max(1, round(thickness)), cv2.LINE_AA)


def _glasses(sheet: Sheet, identity: Identity, *, dark: bool) -> None:
    e, habits, ear = identity.eyes.spacing, identity.habits, identity.skull.width + 1
    frame = (24.0, 22.0, 24.0) if dark else habits.frame_colour
    rounded = habits.frame == "round"
    lens = _lens(e + 0.6, 10.4 if rounded else 8.8, 2.0 if rounded else 3.4)
    sheet.glaze(both(lens), (30, 28, 30) if dark else (235, 240, 245), 0.9 if dark else 0.10)
    sheet.stroke(both(lens), frame, 0.95, 1.5)
    if habits.frame == "browline" or dark:
        sheet.stroke(both(lens[16:]), frame, 0.95, 3.0)
    sheet.stroke(both(points((e + 12.6, -2), (ear, -3))), frame, 0.95, 1.6)
    sheet.stroke([points((x - 7, 4), (x - 1, -5)) for x in (-e, e)], (255, 255, 255), 0.25, 1.8, 0.6)
    sheet.stroke([arch((e - 11.4, 0), (0, -2.2))], frame, 0.95, 1.5)


def _lens(x: float, tall: float, power: float) -> Points:
    """A lens of the right eye, a superellipse: 2 is round, more is square."""
    t = np.linspace(0, 2 * np.pi, 33)
    u, v = (np.sign(w) * np.abs(w) ** (2 / power) for w in (np.cos(t), np.sin(t)))
    return np.column_stack([x + 12.2 * u, 1.6 + tall * v]).astype(np.float32)


def _mask(sheet: Sheet, identity: Identity, cloth: Colour) -> None:
    s = identity.skull
    upper = arch((0.9 * s.width, 22), (16, 13), (0, 9))
    lower = arch((s.jaw * s.width + 1, 40), (1.7 * s.chin_width, s.chin - 3), (0, s.chin + 3))
    sheet.glaze([band(upper, lower)], cloth, 1.0)
    folds = [arch((0.8 * s.width, y), (0, y + 2)) for y in (27, 36, 45)]
    sheet.stroke(folds, tinted(cloth, 0.75), 0.6, 0.8, 0.5)
    straps = both(points((0.88 * s.width, 23), (s.width, 6))) + both(points((0.88 * s.width, 40), (s.width, 18)))
    sheet.stroke(straps, tinted(cloth, 1.1, 10), 0.9, 0.9)


def _scarf(sheet: Sheet, identity: Identity, cloth: Colour) -> None:
    s = identity.skull
    upper = arch((s.width + 8, 34), (0.6 * s.width, 46), (0, 50))
    lower = arch((s.width + 10, 78), (0, 84))
    sheet.fill([band(upper, lower)], cloth)
    folds = [arch((s.width + 6, y), (0, y + 12)) for y in (44, 54, 64)]
    sheet.stroke(folds, tinted(cloth, 0.68), 0.7, 1.6, 0.8)


def _hat(sheet: Sheet, identity: Identity, cloth: Colour) -> None:
    s = identity.skull
    w = s.width + 5
    upper = arch((w, -24), (0.93 * w, -46), (0.55 * w, -s.top - 7), (0, -s.top - 11))
    lower = arch((w, -24), (0.5 * w, -29), (0, -30))
    sheet.fill([band(upper, lower)], cloth)
    ribs = [
        spline(points((x * w, -31), (0.9 * x * w, -50), (0.3 * x * w, -s.top - 8)))
        for x in (-0.8, -0.53, -0.27, 0, 0.27, 0.53, 0.8)
    ]
    sheet.stroke(ribs, tinted(cloth, 0.75), 0.5, 0.9, 0.4)
    sheet.stroke([lower + points((0, -2.5))], tinted(cloth, 0.8), 0.9, 5.0, 0.4)
    sheet.stroke([lower + points((0, 2.2))], tinted(identity.skin.colour, (0.5, 0.4, 0.38)), 0.5, 2.5, 1.5)
