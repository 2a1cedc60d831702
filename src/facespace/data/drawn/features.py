"""Skin and features, painted flat and frontal on the plane of the face; relief and light come later."""

import numpy as np

from facespace.data.drawn.brush import Layer, ellipse, tinted
from facespace.data.drawn.form import Points, mirrored, mouth_corner, outline, spline
from facespace.data.drawn.hair import covers_ears
from facespace.data.drawn.identity import Colour, Identity
from facespace.data.drawn.shot import Expression, Shot

_SHADOW: Colour = (0.66, 0.54, 0.50)  # what shade does to skin: darker and redder
_SIDES = (-1, 1)


def paint_face(layer: Layer, identity: Identity, shot: Shot) -> None:
    """Everything of the head but the hair, from the skin up."""
    skin = skin_colour(identity, shot)
    _skin(layer, identity, skin)
    _marks(layer, identity, skin)
    _lines_of_age(layer, identity, shot.expression, skin)
    if not shot.shaved:
        _beard(layer, identity, shot.expression)
    for side in _SIDES:
        _eye(layer, identity, shot.expression, skin, side)
        _brow(layer, identity, shot.expression, side)
    _nose(layer, identity, skin)
    _mouth(layer, identity, shot.expression, skin)
    if not shot.shaved:
        _moustache(layer, identity, shot.expression)


def skin_colour(identity: Identity, shot: Shot) -> Colour:
    """The skin on the day of the photo."""
    return tinted(identity.skin.colour, 1 - 0.09 * shot.tan)


def _points(*points: tuple[float, float]) -> Points:
    return np.array(points, np.float32)


def _skin(layer: Layer, identity: Identity, skin: Colour) -> None:
    s, flush = identity.skull, identity.skin.flush
    dark, blush = tinted(skin, _SHADOW), tinted(skin, (1.02, 0.78, 0.74))
    if not covers_ears(identity.hair.style):
        _ears(layer, identity, skin)
    layer.fill(outline(identity), skin)
    layer.glaze([ellipse(x, 20, 10, 8) for x in (-25, 25)], blush, 0.25 + 0.4 * flush, 5)
    layer.glaze([ellipse(k * identity.eyes.spacing, -2, 11, 6) for k in _SIDES], dark, 0.34, 3)
    layer.glaze([ellipse(k * s.width, 30, 8, 30) for k in _SIDES], dark, 0.35, 6)
    layer.glaze([ellipse(0, identity.nose.tip, 7, 6)], blush, 0.15 + 0.45 * flush, 3)
    layer.glaze([ellipse(0, s.chin + 2, 26, 6)], dark, 0.4, 4)


def _ears(layer: Layer, identity: Identity, skin: Colour) -> None:
    s = identity.skull
    x = s.width - 3 + s.ear_out
    for k in _SIDES:
        layer.fill(ellipse(k * x, 8, 5.2 + 0.5 * s.ear_out, s.ear_size, k * 0.12), tinted(skin, (0.95, 0.88, 0.86)))
    hollows = [ellipse(k * (x + 1), 7, 2.6, 0.62 * s.ear_size, k * 0.12) for k in _SIDES]
    layer.glaze(hollows, tinted(skin, _SHADOW), 0.55, 1.2)


def _marks(layer: Layer, identity: Identity, skin: Colour) -> None:
    if identity.skin.freckles:
        rng = np.random.default_rng([identity.seed, 4, identity.index])
        x, y = rng.normal(0, 15, identity.skin.freckles), rng.normal(16, 6, identity.skin.freckles)
        dots = [_points((a, b), (a + 0.4, b)) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        layer.stroke(dots, tinted(skin, (0.74, 0.55, 0.42)), 0.6, 0.9)
    if identity.skin.moles:
        moles = [ellipse(x, y, radius, radius) for x, y, radius in identity.skin.moles]
        layer.glaze(moles, tinted(skin, (0.42, 0.3, 0.27)), 0.9, 0.25)
    if identity.skin.scar is not None:
        x, y, angle = identity.skin.scar
        dx, dy = 5 * np.cos(angle), 5 * np.sin(angle)
        curve = spline(_points((x - dx, y - dy), (x + 0.2 * dy, y - 0.2 * dx), (x + dx, y + dy)))
        layer.stroke([curve], tinted(skin, (1.06, 0.82, 0.8), 12), 0.85, 1.3, 0.3)


def _lines_of_age(layer: Layer, identity: Identity, expression: Expression, skin: Colour) -> None:
    age, joy = identity.skin.age, max(expression.smile, 0)
    dark = tinted(skin, _SHADOW)
    x, y = mouth_corner(identity, expression)
    n, e = identity.nose, identity.eyes
    folds = [
        spline(
            _points(
                (s * (n.width + 1.5), n.tip - 1),
                (s * (0.55 * n.width + 0.55 * x + 3), 0.5 * (n.tip + y)),
                (s * (x + 3), y - 1),
            )
        )
        for s in _SIDES
    ]
    layer.stroke(folds, dark, min(0.06 + 0.5 * age + 0.25 * joy, 1), 1.1, 0.8)
    bags = [
        spline(_points((s * (e.spacing - 6), 5.0), (s * e.spacing, 7.4), (s * (e.spacing + 6), 4.6))) for s in _SIDES
    ]
    layer.stroke(bags, dark, 0.15 + 0.7 * e.bags, 1.0, 0.7)
    if age > 0.4:
        up = 2 * expression.brow_raise
        rows = [spline(_points((-17, k - 1.5), (-6, k), (6, k - 0.4), (17, k - 1.5))) for k in (-21.5 - up, -26.0 - up)]
        layer.stroke(rows, dark, min((age - 0.4) * 1.2 + 0.3 * max(expression.brow_raise, 0), 0.8), 1.0, 0.6)
        feet = [
            spline(_points((s * (e.spacing + e.width + 2), k * 0.6), (s * (e.spacing + e.width + 7), k * 2.2)))
            for s in _SIDES
            for k in (-1, 0.4, 2)
        ]
        layer.stroke(feet, dark, min((age - 0.4) * 1.3, 0.7), 0.7, 0.4)


def _eye(layer: Layer, identity: Identity, expression: Expression, skin: Colour, side: int) -> None:
    e = identity.eyes
    squint = 1 - 0.22 * max(expression.smile, 0) + 0.12 * expression.brow_raise
    up, down = e.opening * squint * (1 - expression.blink), e.opening * 0.78 * (1 - 0.5 * expression.blink)

    def at(points: Points) -> Points:
        u, v = points[:, 0], points[:, 1]
        return np.column_stack([side * (e.spacing + u), v - e.tilt * u]).astype(np.float32)

    w, sag = e.width, 0.9 * e.opening * expression.blink  # a shut lid hangs on the lower one
    lid = at(
        spline(
            _points(
                (-w, 1.0), (-0.55 * w, -0.62 * up + sag), (0.05 * w, sag - up), (0.6 * w, sag - 0.72 * up), (w, 0.2)
            )
        )
    )
    floor = at(spline(_points((w, 0.2), (0.5 * w, 0.78 * down), (-0.15 * w, down), (-0.7 * w, 0.7 * down), (-w, 1.0))))
    almond = np.concatenate([lid, floor])
    if expression.blink < 0.8:
        layer.inset(almond, lambda sheet: _eyeball(sheet, identity, expression, side))
    dark = tinted(identity.brows.colour, 0.35)
    layer.stroke([floor], tinted(skin, (0.6, 0.44, 0.4)), 0.55, 0.6, 0.3)
    fold = lid + np.float32([0, -1.7 - 0.9 * e.crease])
    layer.stroke([fold[3:-2]], tinted(skin, _SHADOW), 0.25 + 0.65 * e.crease, 0.9, 0.4)
    layer.stroke([lid], dark, 0.95, e.lashes, 0.15)
    if e.lashes > 1.3:
        corner = lid[-1]
        layer.stroke([_flick(corner, side)], dark, 0.9, 0.8, 0.1)


def _flick(corner: Points, side: int) -> Points:
    x, y = float(corner[0]), float(corner[1])
    return _points((x - side * 1.0, y), (x + side * 1.9, y - 1.7))


def _eyeball(sheet: Layer, identity: Identity, expression: Expression, side: int) -> None:
    e = identity.eyes
    x, y = side * e.spacing + 2.3 * expression.gaze[0], -0.3 + 1.2 * expression.gaze[1]
    sheet.flood((222, 217, 212))
    sheet.glaze([ellipse(side * e.spacing, -0.95 * e.opening, 1.3 * e.width, 2.2)], (120, 104, 104), 0.55, 0.9)
    sheet.fill(ellipse(x, y, e.iris, e.iris), tinted(e.colour, 0.5))
    sheet.fill(ellipse(x, y + 0.2, 0.82 * e.iris, 0.82 * e.iris), e.colour)
    sheet.glaze([ellipse(x, y + 0.45 * e.iris, 0.55 * e.iris, 0.4 * e.iris)], tinted(e.colour, 1.4, 20), 0.6, 0.4)
    sheet.fill(ellipse(x, y, 0.42 * e.iris, 0.42 * e.iris), (10, 8, 10))
    sheet.fill(ellipse(x - 1.1, y - 1.3, 0.8, 0.8), (250, 250, 250))


def _brow(layer: Layer, identity: Identity, expression: Expression, side: int) -> None:
    b, spacing = identity.brows, identity.eyes.spacing
    y = -b.gap - 1.8 * expression.brow_raise
    frown = 1.2 * max(-expression.brow_raise, 0)
    along = np.linspace(-1, 1, 9, dtype=np.float32)
    x = spacing + 0.8 + b.length * along
    ridge = (
        y
        - b.arch * (1 - (along - 0.25) ** 2)
        - b.tilt * 8 * along
        + frown * np.maximum(-along, 0)
        - 0.5 * np.maximum(-along - 0.3, 0)
    )
    half = 0.5 * b.thickness * (1.05 - 0.75 * np.maximum(along - 0.1, 0) ** 1.5 - 0.25 * np.maximum(-along - 0.6, 0))
    shape = np.column_stack([np.r_[side * x, side * x[::-1]], np.r_[ridge - half, (ridge + half)[::-1]]])
    layer.glaze([shape.astype(np.float32)], b.colour, 0.9, 0.45)


def _nose(layer: Layer, identity: Identity, skin: Colour) -> None:
    n = identity.nose
    dark, base = tinted(skin, _SHADOW), n.tip + 3.6
    sides = [
        spline(_points((s * (n.bridge + 1.6), 0), (s * (n.bridge + 0.4), 8), (s * (0.6 * n.width + 1), n.tip - 4)))
        for s in _SIDES
    ]
    layer.stroke(sides, dark, 0.28, 1.6, 1.3)
    wings = [
        spline(
            _points(
                (s * (n.width - 1.2), n.tip - 2.6),
                (s * n.width, n.tip + 1),
                (s * (n.width - 1.8), base),
                (s * 0.45 * n.width, base - 0.6),
            )
        )
        for s in _SIDES
    ]
    layer.stroke(wings, dark, 0.8, 1.1, 0.5)
    under = spline(
        _points((-0.7 * n.width, base), (0, base + 1.4), (0.7 * n.width, base), (0, base + 3.2)), closed=True
    )
    layer.glaze([under], dark, 0.5, 1.0)
    nostrils = [ellipse(s * 0.5 * n.width, base - 0.5, 0.2 * n.width, 0.9, s * -0.25) for s in _SIDES]
    layer.glaze(nostrils, tinted(skin, (0.3, 0.2, 0.18)), 0.85, 0.3)
    layer.glaze([ellipse(-0.6, n.tip - 2, 1.7, 1.7)], tinted(skin, 1.0, 40), 0.4, 1.0)


def _mouth(layer: Layer, identity: Identity, expression: Expression, skin: Colour) -> None:
    m, gape = identity.mouth, expression.mouth_open
    w, y = mouth_corner(identity, expression)
    smile = expression.smile
    thin = 1 - 0.22 * max(smile, 0)
    rise, drop = -1.4 * gape, 8.5 * gape + 0.9 * max(smile - 0.35, 0) * 3  # edges of the gap between the lips
    seam = m.y - 0.2 * smile
    top = seam + rise - m.upper * thin
    upper = mirrored_open(
        (w, y), (0.55 * w, 0.55 * top + 0.45 * y - 0.5), (0.2 * w, top - 0.5 * m.bow), (0, top + 0.7 * m.bow)
    )
    part = mirrored_open((w, y), (0.5 * w, 0.5 * y + 0.5 * seam + rise), (0, seam + rise + 0.3))
    low = mirrored_open((w, y), (0.5 * w, 0.4 * y + 0.6 * (seam + drop)), (0, seam + drop + 0.3))
    bottom = mirrored_open(
        (w, y), (0.55 * w, 0.3 * y + 0.7 * (seam + drop + m.lower * thin)), (0, seam + drop + m.lower * thin)
    )
    red = 0.35 + 0.65 * m.redness
    lip = tinted(skin, (0.97 - 0.16 * red, 0.92 - 0.42 * red, 0.92 - 0.36 * red))
    layer.glaze([np.concatenate([upper, bottom[::-1]])], lip, 0.95, 0.35)
    layer.glaze([np.concatenate([upper, part[::-1]])], tinted(lip, 0.84), 0.8, 0.3)
    shine = ellipse(0, seam + drop + 0.55 * m.lower * thin, 0.36 * w, 0.16 * m.lower)
    layer.glaze([shine], tinted(lip, 1.05, 30), 0.5, 0.9)
    if drop - rise > 1.2:
        layer.inset(np.concatenate([part, low[::-1]]), lambda sheet: _inside(sheet, seam + rise, drop - rise, w))
    layer.stroke([part], tinted(skin, (0.42, 0.26, 0.25)), 0.8, 0.8, 0.2)
    corners = [_points((s * (w - 1.2), y), (s * (w + 0.6), y + 0.2 - 0.5 * smile)) for s in _SIDES]
    layer.stroke(corners, tinted(skin, (0.42, 0.26, 0.25)), 0.75, 1.0, 0.4)


def mirrored_open(*half: tuple[float, float]) -> Points:
    """The curve from the left to the right through points given from the right corner to the middle."""
    right = np.array(half[::-1], np.float32)
    return spline(np.concatenate([right[:0:-1] * np.float32([-1, 1]), right]))


def _inside(sheet: Layer, top: float, gap: float, width: float) -> None:
    """Teeth above, tongue below, dark between."""
    sheet.flood((62, 22, 24))
    sheet.glaze([ellipse(0, top + gap, 0.55 * width, 0.4 * gap)], (176, 84, 84), 0.8, 0.8)
    teeth = min(3.4, 0.75 * gap + 0.3)
    sheet.fill(
        _points(
            (-0.86 * width, top - 3), (0.86 * width, top - 3), (0.7 * width, top + teeth), (-0.7 * width, top + teeth)
        ),
        (238, 232, 222),
    )
    gaps = [_points((x, top - 2), (x, top + teeth)) for x in (-6.6, -3.3, 0.0, 3.3, 6.6)]
    sheet.stroke(gaps, (150, 140, 132), 0.35, 0.4)


def _beard(layer: Layer, identity: Identity, expression: Expression) -> None:
    s, h, m = identity.skull, identity.hair, identity.mouth
    if h.beard not in ("stubble", "full", "goatee"):
        return
    drop = 6 * expression.mouth_open
    if h.beard == "goatee":
        shape = ellipse(0, 0.45 * (m.y + drop) + 0.55 * s.chin, s.chin_width + 3, 0.5 * (s.chin - m.y) - 1)
        layer.glaze([shape], tinted(h.colour, 0.85), 0.5 + 0.45 * h.beard_density, 1.4)
        return
    jaw = s.jaw * s.width
    inner = mirrored_open(
        (0.95 * s.width, 14),
        (0.82 * s.width, 24),
        (0.62 * s.width, 36),
        (m.width + 5, m.y - 5),
        (0.5 * m.width, m.y - 7),
        (0, m.y - 6.5),
    )
    outer = mirrored_open(
        (1.02 * s.width, 12), (1.04 * jaw + 4, 42), (1.6 * s.chin_width + 2, s.chin - 2), (0, s.chin + 4)
    )
    bare = mirrored(np.array([(0, m.y - 5), (m.width + 1, m.y), (0, m.y + m.lower + 2 + drop)], np.float32))
    shape = np.concatenate([inner, outer[::-1]])
    full = h.beard == "full"
    layer.glaze(
        [shape], tinted(h.colour, 0.85), (0.55 + 0.4 * h.beard_density) if full else 0.16 + 0.24 * h.beard_density, 2.2
    )
    layer.glaze([spline(bare, closed=True)], skin_of_lip(identity), 0.5 if full else 0.25, 1.0)


def skin_of_lip(identity: Identity) -> Colour:
    """Colour of the bare skin around the lips inside a beard."""
    return tinted(identity.skin.colour, (0.9, 0.78, 0.76))


def _moustache(layer: Layer, identity: Identity, expression: Expression) -> None:
    h, m, n = identity.hair, identity.mouth, identity.nose
    if h.beard not in ("moustache", "goatee", "full"):
        return
    w, y = mouth_corner(identity, expression)
    low = m.y - 0.75 * m.upper - 1.2 * expression.mouth_open
    top = max(low - 5.5, n.tip + 5.0)
    upper = mirrored_open((w + 2, y + 1.5), (0.8 * w, 0.45 * top + 0.55 * low), (0.3 * w, top), (0, top + 1))
    lower = mirrored_open((w + 2, y + 2.5), (0.6 * w, low + 0.8), (0, low))
    layer.glaze([np.concatenate([upper, lower[::-1]])], tinted(h.colour, 0.85), 0.55 + 0.4 * h.beard_density, 0.7)
