"""Charts as SVG text: lines over linear or logarithmic axes, histograms, and points.

They carry classes, not colours: the page that holds them decides how they look in light and in dark.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDTH, HEIGHT = 480, 320
LEFT, RIGHT, TOP, BOTTOM = 66, 24, 14, 46  # room for labels, in the units of the drawing
EDGE = 10  # around a map

Floats = NDArray[np.float64]
Scale = Literal["linear", "log"]


@dataclass(frozen=True)
class Series:
    """A named line through points `x`, `y`, both `(P,)`; `stepped` where the value holds until the next point.

    `spans` are intervals to draw upright: x, low, high.
    """

    name: str
    x: ArrayLike
    y: ArrayLike
    stepped: bool = False
    spans: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class Axis:
    """One axis: its label, its range and whether it is logarithmic; `percent` writes shares as percentages."""

    label: str
    low: float
    high: float
    scale: Scale = "linear"
    percent: bool = False

    def position(self, values: ArrayLike) -> Floats:
        """Values as shares 0..1 of the axis, cut off at its ends."""
        v = np.clip(np.asarray(values, dtype=np.float64), self.low, self.high)
        if self.scale == "log":
            return np.asarray(np.log(v / self.low) / math.log(self.high / self.low))
        return (v - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Four to ten round values; on a logarithmic axis every power of ten, of few with their 2 and 5."""
        if self.scale == "log":
            powers = range(math.floor(math.log10(self.low)), math.floor(math.log10(self.high) + 1e-9) + 1)
            values = [10.0**power * factor for power in powers for factor in ((1, 2, 5) if len(powers) < 4 else (1,))]
            return [value for value in values if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]
        rough = (self.high - self.low) / 4
        unit = 10.0 ** math.floor(math.log10(rough))
        step = max(unit * factor for factor in (1, 2, 5) if unit * factor <= rough * (1 + 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [step * i for i in range(first, last + 1)]

    def text(self, value: float) -> str:
        """A tick's label."""
        return f"{100 * value:.6g} %" if self.percent else f"{value:.6g}"


def line_chart(
    title: str,
    x: Axis,
    y: Axis,
    series: Sequence[Series],
    marks: Sequence[tuple[float, float]] = (),
    *,
    legend_below: bool = False,
    at: float | None = None,
) -> str:
    """Lines over two axes; `marks` are points to circle; the names stand top left, or `legend_below` bottom left.

    `at` is where a dashed line stands upright.
    """
    lines = [] if at is None else _threshold(x, at)
    for i, one in enumerate(series):
        lines.append(f'<path class="line c{i}" d="{_path(x, y, one)}"/>')
        lines += [
            f'<path class="span c{i}" d="M{_x(x, where):.1f} {_y(y, low):.1f}V{_y(y, high):.1f}"/>'
            for where, low, high in one.spans
        ]
    dots = [f'<circle class="mark" cx="{_x(x, a):.1f}" cy="{_y(y, b):.1f}" r="4"/>' for a, b in marks]
    names = [one.name for one in series]
    return _frame(title, x, y, [*lines, *dots], names if len(names) > 1 else [], legend_below)


def histogram(title: str, label: str, groups: Sequence[tuple[str, ArrayLike]], threshold: float, bins: int = 60) -> str:
    """Finite values of each named group in shared bins, each as a share of its group, and a line at the threshold."""
    values = [_finite(group) for _, group in groups]
    everything = np.concatenate(values)
    low, high = (float(everything.min()), float(everything.max())) if everything.size else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    shares = [np.histogram(v, edges)[0] / max(1, v.size) for v in values]
    x = Axis(label, float(edges[0]), float(edges[-1]))
    y = Axis("share of its kind", 0, 1.05 * max(float(share.max()) for share in shares) or 1, percent=True)
    body = [f'<path class="area c{i}" d="{_outline(x, y, edges, share)}"/>' for i, share in enumerate(shares)]
    return _frame(title, x, y, [*body, *_threshold(x, threshold)], [name for name, _ in groups])


def point_chart(title: str, points: ArrayLike, colours: ArrayLike) -> str:
    """Points `(N, 2)` without axes, both ways to one scale: a map whose directions have no names.

    Each is of the class `c{colour}`, or `other` where its colour `(N,)` is below 0; those first.
    """
    places, colour = np.asarray(points, dtype=np.float64).reshape(-1, 2), np.asarray(colours)
    room = np.array([WIDTH, HEIGHT]) - 2 * EDGE
    extent = np.ptp(places, axis=0) if len(places) else np.ones(2)
    scale = float(np.min(room / np.maximum(extent, 1e-12)))
    middle = (places.max(axis=0) + places.min(axis=0)) / 2 if len(places) else np.zeros(2)
    across, up = ((places - middle) * (scale, -scale) + (WIDTH / 2, HEIGHT / 2)).T.tolist()
    kinds = [f"c{c}" if c >= 0 else "other" for c in colour.tolist()]
    order = np.argsort(colour >= 0, kind="stable").tolist()
    dots = [f'<circle class="dot {kinds[i]}" cx="{across[i]:.1f}" cy="{up[i]:.1f}" r="3.5"/>' for i in order]
    return "".join([_head(title), *dots, "</svg>"])


def thinned(x: ArrayLike, y: ArrayLike, axis: Axis) -> tuple[Floats, Floats]:
    """A rising curve with the last point of each 1/1000 of the axis: more cannot be seen, and pages must stay small."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    cells = np.floor(axis.position(x) * 1000)
    keep = np.append(np.diff(cells) != 0, True)
    keep[:1] = True
    return x[keep], y[keep]


def _threshold(x: Axis, value: float) -> list[str]:
    """A dashed line, where the axis has the value."""
    if not x.low <= value <= x.high:
        return []
    at = _x(x, value)
    return [f'<line class="threshold" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>']


def _path(x: Axis, y: Axis, series: Series) -> str:
    px, py = _x(x, series.x), _y(y, series.y)
    good = np.isfinite(px) & np.isfinite(py)
    points = list(zip(px[good].tolist(), py[good].tolist(), strict=True))
    if not points:
        return ""
    if not series.stepped:
        return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
    return f"M{points[0][0]:.1f} {points[0][1]:.1f}" + "".join(f"H{a:.1f}V{b:.1f}" for a, b in points[1:])


def _outline(x: Axis, y: Axis, edges: Floats, shares: Floats) -> str:
    """The bars of a histogram as one closed shape."""
    across, up, floor = _x(x, edges), _y(y, shares), _y(y, 0)
    bars = "".join(f"V{top:.1f}H{right:.1f}" for top, right in zip(up.tolist(), across[1:].tolist(), strict=True))
    return f"M{across[0]:.1f} {floor:.1f}{bars}V{floor:.1f}Z"


def _frame(title: str, x: Axis, y: Axis, body: Iterable[str], legend: Sequence[str], legend_below: bool = False) -> str:
    """The drawing with its axes, ticks, labels and, for several groups, their names."""
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [_head(title), *_ticks(x, y), f'<path class="axis" d="M{LEFT} {TOP}V{floor}H{right}"/>']
    parts.append(_text("label", x.label, f'x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle"'))
    parts.append(
        _text("label", y.label, f'transform="translate(13 {(TOP + floor) / 2}) rotate(-90)" text-anchor="middle"')
    )
    return "".join([*parts, *body, *_legend(legend, legend_below), "</svg>"])


def _head(title: str) -> str:
    """Where a drawing begins."""
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'


def _ticks(x: Axis, y: Axis) -> Iterable[str]:
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    for tick in y.ticks():
        at = float(_y(y, tick))
        yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield _text("tick", y.text(tick), f'x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end"')
    for tick in x.ticks():
        at = float(_x(x, tick))
        yield f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{floor}"/>'
        yield _text("tick", x.text(tick), f'x="{at:.1f}" y="{floor + 16}" text-anchor="middle"')


def _text(kind: str, text: str, place: str) -> str:
    return f'<text class="{kind}" {place}>{escape(text)}</text>'


def _legend(names: Sequence[str], below: bool) -> Iterable[str]:
    start = HEIGHT - BOTTOM - 8 - 18 * len(names) if below else TOP + 8
    for i, name in enumerate(names):
        top = start + 18 * i
        yield f'<rect class="key c{i}" x="{LEFT + 10}" y="{top}" width="12" height="12" rx="2"/>'
        yield _text("legend", name, f'x="{LEFT + 28}" y="{top + 10}"')


def _x(axis: Axis, values: ArrayLike) -> Floats:
    return LEFT + axis.position(values) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, values: ArrayLike) -> Floats:
    return HEIGHT - BOTTOM - axis.position(values) * (HEIGHT - TOP - BOTTOM)


def _finite(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]
