"""Hair: what hangs behind the head, and what lies on it."""

from dataclasses import dataclass

import numpy as np

from facespace.data.drawn.brush import Sheet, tinted
from facespace.data.drawn.curves import Points, band, ellipse, loop, points, resampled, spline
from facespace.data.drawn.identity import HairStyle, Identity, Stream
from facespace.data.drawn.shot import Shot


@dataclass(frozen=True)
class Cut:
    """Shape of a hair style, in units."""

    crown: float  # thickness over the crown, times the person's volume
    side: float  # thickness over the ears
    front_end: float  # y where the hair beside the face ends
    back_end: float  # y where the hair behind the neck ends
    flare: float = 0.0  # how much wider the hair is at its end
    frizz: float = 0.0  # waviness of the outline
    curled: bool = False


CUTS: dict[HairStyle, Cut | None] = {
    "bald": None,
    "buzz": Cut(0.25, 0.8, -2, 20),
    "short": Cut(0.9, 2.5, 4, 30),
    "side part": Cut(1.1, 2.0, 2, 28),
    "quiff": Cut(1.9, 1.2, -3, 26),
    "curly": Cut(1.6, 6.5, 10, 40, 2, 2.0, curled=True),
    "afro": Cut(2.6, 17, 18, 34, 0, 1.2, curled=True),
    "bob": Cut(1.1, 6.0, 44, 52, 5),
    "long": Cut(0.9, 4.0, 66, 96, 6),
    "wavy": Cut(1.2, 7.0, 58, 84, 8, 1.6),
    "bun": Cut(0.7, 1.5, 0, 26),
}


def covers_ears(style: HairStyle) -> bool:
    """Whether the hair beside the face hides the ears."""
    cut = CUTS[style]
    return cut is not None and cut.front_end > 8


def back_shapes(identity: Identity, shot: Shot) -> list[Points]:
    """Shapes of the hair behind head and neck, for the sheet behind the face."""
    cut, s = CUTS[identity.hair.style], identity.skull
    if cut is None or identity.hair.style == "buzz":
        return []
    wide = s.width + cut.side * _fullness(shot)
    half = [(0, -s.top), (0.8 * wide, -0.7 * s.top), (wide, -14), (wide + 0.5 * cut.flare, 0.5 * cut.back_end)]
    if cut.back_end < 45:  # short hair narrows into the neck
        end = [(0.7 * wide, 0.9 * cut.back_end), (0.4 * wide, cut.back_end), (0, cut.back_end)]
    else:
        end = [(wide + cut.flare, 0.92 * cut.back_end), (0.7 * wide, cut.back_end), (0, cut.back_end)]
    shapes = [loop(*half, *end)]
    if identity.hair.style == "bun":
        shapes.append(ellipse(0, -s.top - 9, 15, 13))
    return shapes


def paint_front(sheet: Sheet, identity: Identity, shot: Shot) -> None:
    """The hair on the head, with its shadow on the forehead."""
    h, cut = identity.hair, CUTS[identity.hair.style]
    if cut is None:
        return
    outer, inner = _edges(identity, shot, cut)
    shape = band(outer, inner)
    shadow = tinted(identity.skin.colour, (0.58, 0.47, 0.44))
    if h.style == "buzz":
        sheet.glaze([shape], h.colour, 0.72, 1.2)
        return
    sheet.stroke([inner + points((0, 1.6))], shadow, 0.5, 2.5, 1.6)
    sheet.fill([shape], h.colour)
    rng = np.random.default_rng([identity.seed, Stream.HAIR, identity.index, shot.entropy])
    paint = _curls if cut.curled else _strands
    paint(sheet, identity, outer, inner, rng)


def _fullness(shot: Shot) -> float:
    return 1 + 0.35 * shot.hair_change


def _edges(identity: Identity, shot: Shot, cut: Cut) -> tuple[Points, Points]:
    """Outer and inner edge of the hair, each from the left end over the head to the right end `(N, 2)`."""
    s, h = identity.skull, identity.hair
    full = _fullness(shot)
    wide, tall = s.width + cut.side * full, s.top - 14 + cut.crown * h.volume * full
    angle = np.linspace(-np.pi / 2, np.pi / 2, 13)
    dome = np.column_stack([wide * np.sin(angle), -14 - tall * np.cos(angle) ** 0.9])
    dome[:, 1] -= 0.12 * h.volume * np.sin(angle) * np.sign(h.part) * np.cos(angle) * cut.crown
    ends = np.array([(wide + 0.6 * cut.flare, 0.55 * cut.front_end + 4), (wide + cut.flare, cut.front_end)])
    outer = np.concatenate([(ends * [-1, 1])[::-1], dome, ends])
    if cut.frizz:
        turn = np.arange(len(outer)) * 2.4 + identity.index
        outer += cut.frizz * np.column_stack([np.sin(turn), np.cos(1.7 * turn)])
    return spline(outer.astype(np.float32)), spline(_inner_edge(identity, shot, cut))


def _inner_edge(identity: Identity, shot: Shot, cut: Cut) -> Points:
    s, h = identity.skull, identity.hair
    line = h.line + 3.0 * shot.hair_change
    if h.fringe:
        line = line + (h.fringe + 0.15 * shot.hair_change) * (-identity.brows.gap - 3 - line)
    part, w = h.part * s.width * 0.6, s.width
    rise = 4.0 if h.style in ("side part", "bob", "long", "wavy") and not h.fringe else 0.0
    side = 0.97 if cut.front_end < 20 else 0.86
    edge = [
        (-w * side - 1, cut.front_end),
        (-w * side, min(cut.front_end - 4, 8)),
        (-0.9 * w, -12),
        (-0.78 * w, -22),
        (-0.56 * w, line + 5 - h.peak),
        (-0.25 * w + 0.5 * part, line + 0.6 - 0.4 * h.peak),
        (part, line - rise + h.peak),
        (0.25 * w + 0.5 * part, line + 0.6 - 0.4 * h.peak),
        (0.56 * w, line + 5 - h.peak),
        (0.78 * w, -22),
        (0.9 * w, -12),
        (w * side, min(cut.front_end - 4, 8)),
        (w * side + 1, cut.front_end),
    ]
    return points(*edge)


def _strands(sheet: Sheet, identity: Identity, outer: Points, inner: Points, rng: np.random.Generator) -> None:
    """A sheen over the crown, and lines that follow the hair between its two edges, lighter and darker."""
    steps = 40
    a, b = resampled(outer, steps), resampled(inner, steps)
    colour, cut = identity.hair.colour, CUTS[identity.hair.style]
    sheet.stroke([(0.62 * a + 0.38 * b)[10:-10]], tinted(colour, 1.3, 26), 0.5, 3.5, 2.5)
    frizz = cut.frizz if cut else 0.0
    sway = 0.8 * frizz * np.sin(np.arange(steps, dtype=np.float32) * 1.1 + identity.index)[:, None]
    for shade, opacity in ((tinted(colour, 0.6), 0.5), (tinted(colour, 1.25, 16), 0.4)):
        share = rng.uniform(0.03, 0.98, (30, 1, 1)).astype(np.float32)
        index = rng.integers(0, steps - 12, (30, 1)) + np.arange(12)
        curves = list((1 - share) * a[index] + share * b[index] + sway[index])  # 30 of (12, 2)
        sheet.stroke(curves, shade, opacity, 0.5)


def _curls(sheet: Sheet, identity: Identity, outer: Points, inner: Points, rng: np.random.Generator) -> None:
    """Small open rings all over, lighter and darker."""
    steps = 60
    a, b = resampled(outer, steps), resampled(inner, steps)
    pick, share = rng.integers(0, steps, 180), rng.uniform(0, 0.97, (180, 1)).astype(np.float32)
    centres = (1 - share) * a[pick] + share * b[pick]
    turns = (rng.integers(0, 24, (180, 1)) + np.arange(14)) % 24
    arcs = list(ellipse(0, 0, 2.2, 1.9)[turns] + centres[:, None])  # 180 of (14, 2)
    sheet.stroke(arcs[:90], tinted(identity.hair.colour, 1.16, 12), 0.4, 0.6, 0.2)
    sheet.stroke(arcs[90:], tinted(identity.hair.colour, 0.7), 0.45, 0.8, 0.3)
