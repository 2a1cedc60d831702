"""Eyes, brows, nose and mouth, painted flat and frontal; relief and light come later."""

import numpy as np

from facespace.data.drawn.brush import Sheet, tinted
from facespace.data.drawn.curves import MIRROR, Points, arch, band, both, ellipse, points, spline
from facespace.data.drawn.form import mouth_corner
from facespace.data.drawn.identity import Colour, Identity
from facespace.data.drawn.shot import Expression, Shot
from facespace.data.drawn.skin import SHADOW, skin_colour

_EYE_WHITE: Colour = (222, 217, 212)
_TEETH: Colour = (238, 232, 222)
_GULLET: Colour = (62, 22, 24)


def paint_features(sheet: Sheet, identity: Identity, shot: Shot) -> None:
    """All that moves in a face, on skin that is painted already."""
    skin = skin_colour(identity, shot)
    _eyes(sheet, identity, shot.expression, skin)
    _brows(sheet, identity, shot.expression)
    _nose(sheet, identity, skin)
    _mouth(sheet, identity, shot.expression, skin)


def _eyes(sheet: Sheet, identity: Identity, expression: Expression, skin: Colour) -> None:
    e, dark = identity.eyes, tinted(identity.brows.colour, 0.35)
    lid, floor = _lids(identity, expression)
    if expression.blink < 0.8:
        for side, almond in ((1, band(lid, floor)), (-1, band(lid, floor) * MIRROR)):
            sheet.inset(almond, lambda inner, side=side: _eyeball(inner, identity, expression, side))  # type: ignore[misc]
    sheet.stroke(both(floor), tinted(skin, (0.6, 0.44, 0.4)), 0.55, 0.6, 0.3)
    fold = lid[3:-2] - np.array([0, 1.7 + 0.9 * e.crease], np.float32)
    sheet.stroke(both(fold), tinted(skin, SHADOW), 0.25 + 0.65 * e.crease, 0.9, 0.4)
    sheet.stroke(both(lid), dark, 0.95, e.lashes, 0.15)
    if e.lashes > 1.3:
        x, y = lid[-1].tolist()
        sheet.stroke(both(points((x - 1.0, y), (x + 1.9, y - 1.7))), dark, 0.9, 0.8, 0.1)


def _lids(identity: Identity, expression: Expression) -> tuple[Points, Points]:
    """Edge of the upper and of the lower lid of the right eye, each from the nose outwards."""
    e, blink = identity.eyes, expression.blink
    squint = 1 - 0.22 * max(expression.smile, 0) + 0.12 * expression.brow_raise
    up, down = e.opening * squint * (1 - blink), 0.78 * e.opening * (1 - 0.5 * blink)
    w, sag = e.width, 0.9 * e.opening * blink  # a shut lid hangs on the lower one
    upper = ((-w, 1.0), (-0.55 * w, sag - 0.62 * up), (0.05 * w, sag - up), (0.6 * w, sag - 0.72 * up), (w, 0.2))
    lower = ((-w, 1.0), (-0.7 * w, 0.7 * down), (-0.15 * w, down), (0.5 * w, 0.78 * down), (w, 0.2))
    tilted = np.array([[1, -e.tilt], [0, 1]], np.float32)
    centre = np.array([e.spacing, 0], np.float32)
    return spline(points(*upper)) @ tilted + centre, spline(points(*lower)) @ tilted + centre


def _eyeball(sheet: Sheet, identity: Identity, expression: Expression, side: int) -> None:
    e = identity.eyes
    x, y = side * e.spacing + 2.3 * expression.gaze[0], -0.3 + 1.2 * expression.gaze[1]
    sheet.flood(_EYE_WHITE)
    sheet.glaze([ellipse(side * e.spacing, -0.95 * e.opening, 1.3 * e.width, 2.2)], (120, 104, 104), 0.55, 0.9)
    sheet.fill([ellipse(x, y, e.iris, e.iris)], tinted(e.colour, 0.5))
    sheet.fill([ellipse(x, y + 0.2, 0.82 * e.iris, 0.82 * e.iris)], e.colour)
    sheet.glaze([ellipse(x, y + 0.45 * e.iris, 0.55 * e.iris, 0.4 * e.iris)], tinted(e.colour, 1.4, 20), 0.6, 0.4)
    sheet.fill([ellipse(x, y, 0.42 * e.iris, 0.42 * e.iris)], (10, 8, 10))
    sheet.fill([ellipse(x - 1.1, y - 1.3, 0.8, 0.8)], (250, 250, 250))


def _brows(sheet: Sheet, identity: Identity, expression: Expression) -> None:
    b, rise = identity.brows, expression.brow_raise
    along = np.linspace(-1, 1, 9, dtype=np.float32)  # from the nose outwards
    inner = np.maximum(-along, 0)
    frown = 1.2 * max(-rise, 0) * inner - 0.5 * np.maximum(-along - 0.3, 0)
    ridge = -b.gap - 1.8 * rise - b.arch * (1 - (along - 0.25) ** 2) - 8 * b.tilt * along + frown
    half = 0.5 * b.thickness * (1.05 - 0.75 * np.maximum(along - 0.1, 0) ** 1.5 - 0.25 * np.maximum(inner - 0.6, 0))
    x = identity.eyes.spacing + 0.8 + b.length * along
    upper, lower = np.column_stack([x, ridge - half]), np.column_stack([x, ridge + half])
    sheet.glaze(both(band(upper, lower).astype(np.float32)), b.colour, 0.9, 0.45)


def _nose(sheet: Sheet, identity: Identity, skin: Colour) -> None:
    n, dark, base = identity.nose, tinted(skin, SHADOW), identity.nose.tip + 3.6
    ridge = spline(points((n.bridge + 1.6, 0), (n.bridge + 0.4, 8), (0.6 * n.width + 1, n.tip - 4)))
    sheet.stroke(both(ridge), dark, 0.28, 1.6, 1.3)
    wing = ((n.width - 1.2, n.tip - 2.6), (n.width, n.tip + 1), (n.width - 1.8, base), (0.45 * n.width, base - 0.6))
    sheet.stroke(both(spline(points(*wing))), dark, 0.8, 1.1, 0.5)
    under = band(arch((0.7 * n.width, base), (0, base + 1.4)), arch((0.7 * n.width, base), (0, base + 3.2)))
    sheet.glaze([under], dark, 0.5, 1.0)
    nostril = ellipse(0.5 * n.width, base - 0.5, 0.2 * n.width, 0.9, -0.25)
    sheet.glaze(both(nostril), tinted(skin, (0.3, 0.2, 0.18)), 0.85, 0.3)
    sheet.glaze([ellipse(-0.6, n.tip - 2, 1.7, 1.7)], tinted(skin, 1.0, 40), 0.4, 1.0)


def _mouth(sheet: Sheet, identity: Identity, expression: Expression, skin: Colour) -> None:
    m, line = identity.mouth, tinted(skin, (0.42, 0.26, 0.25))
    w, y = mouth_corner(identity, expression)
    seam, rise, drop = _gap(identity, expression)
    thin = 1 - 0.22 * max(expression.smile, 0)
    top, edge = seam + rise - m.upper * thin, seam + drop + m.lower * thin
    bow = (0.2 * w, top - 0.5 * m.bow), (0, top + 0.7 * m.bow)
    upper = arch((w, y), (0.55 * w, 0.55 * top + 0.45 * y - 0.5), *bow)
    part = arch((w, y), (0.5 * w, 0.5 * (y + seam) + rise), (0, seam + rise + 0.3))
    low = arch((w, y), (0.5 * w, 0.4 * y + 0.6 * (seam + drop)), (0, seam + drop + 0.3))
    bottom = arch((w, y), (0.55 * w, 0.3 * y + 0.7 * edge), (0, edge))
    red = 0.35 + 0.65 * m.redness
    lip = tinted(skin, (0.97 - 0.16 * red, 0.92 - 0.42 * red, 0.92 - 0.36 * red))
    sheet.glaze([band(upper, bottom)], lip, 0.95, 0.35)
    sheet.glaze([band(upper, part)], tinted(lip, 0.84), 0.8, 0.3)
    sheet.glaze([ellipse(0, edge - 0.45 * m.lower * thin, 0.36 * w, 0.16 * m.lower)], tinted(lip, 1.05, 30), 0.5, 0.9)
    if drop - rise > 1.2:
        sheet.inset(band(part, low), lambda inner: _inside(inner, seam + rise, drop - rise, w))
    sheet.stroke([part], line, 0.8, 0.8, 0.2)
    sheet.stroke(both(points((w - 1.2, y), (w + 0.6, y + 0.2 - 0.5 * expression.smile))), line, 0.75, 1.0, 0.4)


def _gap(identity: Identity, expression: Expression) -> tuple[float, float, float]:
    """Where the lips meet, and how far the upper goes up from there and the lower down."""
    drop = 8.5 * expression.mouth_open + 2.7 * max(expression.smile - 0.35, 0)
    return identity.mouth.y - 0.2 * expression.smile, -1.4 * expression.mouth_open, drop


def _inside(sheet: Sheet, top: float, gap: float, width: float) -> None:
    """Teeth above, tongue below, dark between."""
    sheet.flood(_GULLET)
    sheet.glaze([ellipse(0, top + gap, 0.55 * width, 0.4 * gap)], (176, 84, 84), 0.8, 0.8)
    edge, wide = top + min(3.4, 0.75 * gap + 0.3), width
    sheet.fill(
        [points((-0.86 * wide, top - 3), (0.86 * wide, top - 3), (0.7 * wide, edge), (-0.7 * wide, edge))], _TEETH
    )
    between = [points((x, top - 2), (x, edge)) for x in (-6.6, -3.3, 0.0, 3.3, 6.6)]
    sheet.stroke(between, (150, 140, 132), 0.35, 0.4)
