"""One person on a canvas: body, head in its pose and light, and what is held before it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.data.drawn.brush import Sheet, tinted
from facespace.data.drawn.camera import Image
from facespace.data.drawn.curves import MIRROR, Points, points, spline
from facespace.data.drawn.features import paint_features
from facespace.data.drawn.form import BOTTOM, LEFT, RIGHT, TOP, Map, View, shade
from facespace.data.drawn.hair import back_shapes, paint_front
from facespace.data.drawn.identity import Colour, Identity, Stream
from facespace.data.drawn.shot import Shot, cloth_colour
from facespace.data.drawn.skin import paint_moustache, paint_skin, skin_colour
from facespace.data.drawn.worn import hold_before, paint_worn

_HAIR_DEPTH, _BODY_DEPTH = -16.0, -6.0


def draw_figure(canvas: Image, identity: Identity, shot: Shot, view: View) -> None:
    """Draw a person over the canvas `(H, W, 3)`: the head as the view shows it, the body upright below."""
    skin = skin_colour(identity, shot)
    gain = shade(view.height, shot.light, sum(skin) / 3)
    light = float(gain[-TOP - 30 : -TOP + 30].mean())  # on the face
    hair = tinted(identity.hair.colour, 0.62 * light)
    for shape in back_shapes(identity, shot):
        _polygon(canvas, view.project(shape, _HAIR_DEPTH), hair)
    _body(canvas, identity, shot, view, tinted(skin, light), light)
    _head(canvas, identity, shot, view, gain)
    nose = view.project(points((0, identity.nose.tip)))
    hold_before(canvas, nose, view.scale, tinted(skin, light), shot)


def _body(canvas: Image, identity: Identity, shot: Shot, view: View, skin: Colour, light: float) -> None:
    """Neck, shadow of the chin, shirt and its collar; the head leans on a body that does not."""
    s, (lean, pivot) = identity.skull, (shot.pose.roll, points((0, 0.6 * identity.skull.chin)))
    turn = np.array([[np.cos(lean), -np.sin(lean)], [np.sin(lean), np.cos(lean)]], np.float32)  # as rows: by -lean
    cloth = cloth_colour(np.random.default_rng([shot.entropy, Stream.CLOTHES]))
    neck, low = 0.5 * s.width * (0.6 + 0.6 * s.jaw), s.chin + 12

    def cover(colour: Colour, *half: tuple[float, float]) -> None:
        right = spline(points(*half))
        shape = np.concatenate([right, right[::-1] * MIRROR])
        _polygon(canvas, view.project((shape - pivot) @ turn + pivot, _BODY_DEPTH), colour)

    cover(tinted(skin, (0.86, 0.78, 0.75)), (neck, 30), (neck, low + 20))
    chin = ((neck, s.chin - 2), (0.7 * neck, s.chin + 8), (0, s.chin + 10))
    cover(tinted(skin, (0.66, 0.56, 0.53)), (neck, 30), *chin)
    collar = ((0.0, low + 16), (0.7 * neck, low + 11), (neck + 1, low))
    sleeve = ((72.0, low + 16), (82.0, low + 27), (87.0, low + 52), (90.0, low + 110), (94.0, low + 300))
    cover(tinted(cloth, light), *collar, (neck + 8, low + 3), (neck + 24, low + 10), *sleeve)
    cover(tinted(cloth, 0.75 * light), *collar, (neck + 3, low + 2), (0.75 * neck, low + 15), (0.0, low + 20))


def _head(canvas: Image, identity: Identity, shot: Shot, view: View, gain: NDArray[np.float32]) -> None:
    """The head with its front hair: painted flat, lit, turned, and laid over the canvas."""
    reach = view.project(points((LEFT, TOP), (RIGHT, TOP), (RIGHT, BOTTOM), (LEFT, BOTTOM)), 0.0)
    x0, y0 = np.maximum(np.floor(reach.min(0)).astype(int), 0).tolist()
    x1, y1 = np.minimum(np.ceil(reach.max(0)).astype(int), (canvas.shape[1], canvas.shape[0])).tolist()
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    seen, size = view.unproject(x0, y0, x1 - x0, y1 - y0), (x1 - x0, y1 - y0)
    sheet = _sheet_for(seen, view.scale)
    paint_skin(sheet, identity, shot)
    paint_features(sheet, identity, shot)
    paint_moustache(sheet, identity, shot)
    paint_front(sheet, identity, shot)
    paint_worn(sheet, identity, shot)
    light = cv2.remap(gain, seen - points((LEFT, TOP)), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    where = cv2.resize((seen - sheet.corner) * np.float32(sheet.scale), size)
    picture = cv2.remap(sheet.pixels, where, None, cv2.INTER_LINEAR)
    lit = cv2.multiply(picture[:, :, :3], cv2.resize(light, size), dtype=cv2.CV_8U)
    clear = cv2.cvtColor(255 - picture[:, :, 3], cv2.COLOR_GRAY2RGB)
    patch = canvas[y0:y1, x0:x1]
    patch[...] = cv2.add(cv2.multiply(patch, clear, scale=1 / 255), lit)


def _sheet_for(seen: Map, scale: float) -> Sheet:
    """A clear sheet over the part of the plane that a view shows."""
    least, most = (cv2.reduce(cv2.reduce(seen, 0, how), 1, how)[0, 0] for how in (cv2.REDUCE_MIN, cv2.REDUCE_MAX))
    low, high = np.maximum(least - 1, (LEFT, TOP)), np.minimum(most + 1, (RIGHT, BOTTOM))
    width, height = np.maximum(np.ceil((high - low) * scale), 2).astype(int).tolist()
    left, top = low.tolist()
    return Sheet(left, top, width, height, scale)


def _polygon(canvas: Image, shape: Points, colour: Colour) -> None:
    cv2.fillPoly(canvas, [np.rint(shape * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
