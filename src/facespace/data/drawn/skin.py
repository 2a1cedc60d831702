"""The skin, painted flat and frontal: its colour, ears, marks, lines of age and beard."""

import math

import numpy as np

from facespace.data.drawn.brush import Sheet, tinted
from facespace.data.drawn.curves import Points, arch, band, both, ellipse, loop, points, spline
from facespace.data.drawn.form import mouth_corner, outline
from facespace.data.drawn.hair import covers_ears
from facespace.data.drawn.identity import Colour, Identity, Stream
from facespace.data.drawn.shot import Expression, Shot

SHADOW: Colour = (0.66, 0.54, 0.50)
"""What shade does to skin, as a gain of each channel: darker and redder."""


def skin_colour(identity: Identity, shot: Shot) -> Colour:
    """The skin on the day of the photo."""
    return tinted(identity.skin.colour, 1 - 0.09 * shot.tan)


def paint_skin(sheet: Sheet, identity: Identity, shot: Shot) -> None:
    """The bare head with all that lies in the skin."""
    skin = skin_colour(identity, shot)
    if not covers_ears(identity.hair.style):
        _ears(sheet, identity, skin)
    _complexion(sheet, identity, skin)
    _marks(sheet, identity, skin)
    _folds(sheet, identity, shot.expression, skin)
    _wrinkles(sheet, identity, shot.expression, skin)
    if not shot.shaved:
        _beard(sheet, identity, shot.expression)


def paint_moustache(sheet: Sheet, identity: Identity, shot: Shot) -> None:
    """The hair over the upper lip."""
    h, m, gape = identity.hair, identity.mouth, shot.expression.mouth_open
    if shot.shaved or h.beard not in ("moustache", "goatee", "full"):
        return
    w, y = mouth_corner(identity, shot.expression)
    low = m.y - 0.75 * m.upper - 1.2 * gape
    top = max(low - 5.5, identity.nose.tip + 5.0)
    upper = arch((w + 2, y + 1.5), (0.8 * w, 0.45 * top + 0.55 * low), (0.3 * w, top), (0, top + 1))
    lower = arch((w + 2, y + 2.5), (0.6 * w, low + 0.8), (0, low))
    sheet.glaze([band(upper, lower)], tinted(h.colour, 0.85), 0.55 + 0.4 * h.beard_density, 0.7)


def _ears(sheet: Sheet, identity: Identity, skin: Colour) -> None:
    s = identity.skull
    x = s.width - 3 + s.ear_out
    sheet.fill(both(ellipse(x, 8, 4.6 + 0.5 * s.ear_out, s.ear_size, 0.12)), tinted(skin, (0.95, 0.88, 0.86)))
    sheet.glaze(both(ellipse(x + 1, 7, 2.6, 0.62 * s.ear_size, 0.12)), tinted(skin, SHADOW), 0.55, 1.2)


def _complexion(sheet: Sheet, identity: Identity, skin: Colour) -> None:
    s, flush = identity.skull, identity.skin.flush
    dark, blush = tinted(skin, SHADOW), tinted(skin, (1.02, 0.78, 0.74))
    sheet.fill([outline(identity)], skin)
    sheet.glaze(both(ellipse(25, 20, 10, 8)), blush, 0.25 + 0.4 * flush, 5)
    sheet.glaze(both(ellipse(identity.eyes.spacing, -2, 11, 6)), dark, 0.34, 3)
    sheet.glaze(both(ellipse(s.width, 30, 8, 30)), dark, 0.35, 6)
    sheet.glaze([ellipse(0, identity.nose.tip, 7, 6)], blush, 0.15 + 0.45 * flush, 3)
    sheet.glaze([ellipse(0, s.chin + 2, 26, 6)], dark, 0.4, 4)


def _marks(sheet: Sheet, identity: Identity, skin: Colour) -> None:
    marks = identity.skin
    if marks.freckles:
        rng = np.random.default_rng([identity.seed, Stream.FRECKLES, identity.index])
        places = rng.normal((0, 16), (15, 6), (marks.freckles, 2)).tolist()
        dots = [points((x, y), (x + 0.4, y)) for x, y in places]
        sheet.stroke(dots, tinted(skin, (0.74, 0.55, 0.42)), 0.6, 0.9)
    if marks.moles:
        moles = [ellipse(x, y, radius, radius) for x, y, radius in marks.moles]
        sheet.glaze(moles, tinted(skin, (0.42, 0.3, 0.27)), 0.9, 0.25)
    if marks.scar is not None:
        x, y, angle = marks.scar
        dx, dy = 5 * math.cos(angle), 5 * math.sin(angle)
        curve = spline(points((x - dx, y - dy), (x + 0.2 * dy, y - 0.2 * dx), (x + dx, y + dy)))
        sheet.stroke([curve], tinted(skin, (1.06, 0.82, 0.8), 12), 0.85, 1.3, 0.3)


def _folds(sheet: Sheet, identity: Identity, expression: Expression, skin: Colour) -> None:
    """The fold from nose to mouth and the one under the eye, which everyone has."""
    age, joy, dark = identity.skin.age, max(expression.smile, 0), tinted(skin, SHADOW)
    (x, y), n, e = mouth_corner(identity, expression), identity.nose, identity.eyes.spacing
    middle = (0.55 * (n.width + x) + 3, 0.5 * (n.tip + y))
    cheek = spline(points((n.width + 1.5, n.tip - 1), middle, (x + 3, y - 1)))
    sheet.stroke(both(cheek), dark, min(0.06 + 0.5 * age + 0.25 * joy, 1), 1.1, 0.8)
    under_eye = spline(points((e - 6, 5.0), (e, 7.4), (e + 6, 4.6)))
    sheet.stroke(both(under_eye), dark, 0.15 + 0.7 * identity.eyes.bags, 1.0, 0.7)


def _wrinkles(sheet: Sheet, identity: Identity, expression: Expression, skin: Colour) -> None:
    """Lines of the forehead and crow's feet, which come with age."""
    strength, dark = identity.skin.age - 0.4, tinted(skin, SHADOW)
    if strength <= 0:
        return
    rise, corner = 2 * expression.brow_raise, identity.eyes.spacing + identity.eyes.width
    forehead = [arch((17, y - 1.5), (6, y), (0, y - 0.3)) for y in (-21.5 - rise, -26.0 - rise)]
    sheet.stroke(forehead, dark, min(1.2 * strength + 0.3 * max(expression.brow_raise, 0), 0.8), 1.0, 0.6)
    feet = [f for k in (-1, 0.4, 2) for f in both(points((corner + 2, 0.6 * k), (corner + 7, 2.2 * k)))]
    sheet.stroke(feet, dark, min(1.3 * strength, 0.7), 0.7, 0.4)


def _beard(sheet: Sheet, identity: Identity, expression: Expression) -> None:
    h, colour, density = identity.hair, tinted(identity.hair.colour, 0.85), identity.hair.beard_density
    match h.beard:
        case "goatee":
            sheet.glaze([_chin_patch(identity, expression)], colour, 0.5 + 0.45 * density, 1.4)
        case "stubble":
            sheet.glaze([_jaw_patch(identity)], colour, 0.16 + 0.24 * density, 2.2)
        case "full":
            sheet.glaze([_jaw_patch(identity)], colour, 0.55 + 0.4 * density, 2.2)
            lips = tinted(identity.skin.colour, (0.9, 0.78, 0.76))
            sheet.glaze([_bare_lips(identity, expression)], lips, 0.5, 1.0)


def _chin_patch(identity: Identity, expression: Expression) -> Points:
    s, mouth = identity.skull, identity.mouth.y + 6 * expression.mouth_open
    return ellipse(0, 0.45 * mouth + 0.55 * s.chin, s.chin_width + 3, 0.5 * (s.chin - identity.mouth.y) - 1)


def _jaw_patch(identity: Identity) -> Points:
    s, m = identity.skull, identity.mouth
    jaw = 1.04 * s.jaw * s.width + 4
    cheek = [(0.95 * s.width, 14.0), (0.82 * s.width, 24.0), (0.62 * s.width, 36.0)]
    inner = arch(*cheek, (m.width + 5, m.y - 5), (0.5 * m.width, m.y - 7), (0, m.y - 6.5))
    outer = arch((1.02 * s.width, 12), (jaw, 42), (1.6 * s.chin_width + 2, s.chin - 2), (0, s.chin + 4))
    return band(inner, outer)


def _bare_lips(identity: Identity, expression: Expression) -> Points:
    m = identity.mouth
    return loop((0, m.y - 5), (m.width + 1, m.y), (0, m.y + m.lower + 2 + 6 * expression.mouth_open))
