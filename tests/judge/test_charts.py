"""Charts: well-formed, to scale, and small."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from facespace.judge.charts import (
    BOTTOM,
    EDGE,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Series,
    histogram,
    line_chart,
    point_chart,
    thinned,
)

NAMESPACE = "{http://www.w3.org/2000/svg}"


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def by_class(svg: str, name: str) -> list[ElementTree.Element]:
    return [node for node in parse(svg).iter() if name in node.get("class", "").split()]


def test_a_line_goes_through_its_points_to_scale() -> None:
    x, y = Axis("x", 0, 10), Axis("y", 0, 1)
    (line,) = by_class(line_chart("t", x, y, [Series("a", [0, 5, 10], [0, 1, 0.5])]), "line")
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    points = [(float(a), float(b)) for a, b in re.findall(r"([\d.]+) ([\d.]+)", line.get("d", ""))]
    expected = [(LEFT, TOP + height), (LEFT + width / 2, TOP), (LEFT + width, TOP + height / 2)]
    np.testing.assert_allclose(points, expected, atol=0.06)


def test_a_logarithmic_axis_gives_each_power_of_ten_the_same_room() -> None:
    axis = Axis("FAR", 1e-4, 1, "log", percent=True)
    np.testing.assert_allclose(axis.position([1e-4, 1e-3, 1e-2, 1e-1, 1]), [0, 0.25, 0.5, 0.75, 1])
    assert axis.position(0) == 0  # zero has no place: it stands at the end
    assert [axis.text(tick) for tick in axis.ticks()] == ["0.01 %", "0.1 %", "1 %", "10 %", "100 %"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.9, 1), (-0.33, 0.97), (0, 48_000), (3.2, 3.3), (0, 1e-5)])
def test_ticks_are_a_few_round_values_inside(low: float, high: float) -> None:
    axis = Axis("x", low, high)
    ticks = axis.ticks()
    assert 4 <= len(ticks) <= 10
    assert all(low - 1e-9 * (high - low) <= tick <= high + 1e-9 * (high - low) for tick in ticks)
    assert all(len(axis.text(tick)) <= 7 for tick in ticks)


def test_a_histogram_has_the_share_of_each_kind_and_leaves_out_failures() -> None:
    svg = histogram("t", "s", [("a", [0.0, 0.0, 1.0, -np.inf]), ("b", [1.0])], threshold=0.5, bins=2)
    first, second = by_class(svg, "area")
    height = HEIGHT - TOP - BOTTOM
    ups = [[float(v) for v in re.findall(r"V([\d.]+)", area.get("d", ""))][:2] for area in (first, second)]
    shares = [[(HEIGHT - BOTTOM - up) / height * 1.05 for up in row] for row in ups]
    np.testing.assert_allclose(shares, [[2 / 3, 1 / 3], [0, 1]], atol=0.001)
    (line,) = by_class(svg, "threshold")
    assert float(line.get("x1", "")) == pytest.approx(LEFT + (WIDTH - LEFT - RIGHT) / 2)
    assert [node.text for node in by_class(svg, "legend")] == ["a", "b"]


def test_odd_groups_still_make_a_chart() -> None:
    for groups in ([("none", []), ("lost", [-np.inf])], [("all alike", [0.5, 0.5]), ("none", [])]):
        parse(histogram("t", "s", groups, threshold=np.inf))


def test_names_are_text_not_markup() -> None:
    svg = line_chart("<t>", Axis("a & b", 0, 1), Axis('"y"', 0, 1), [Series("<b>", [0], [0]), Series("c", [0], [0])])
    assert [node.text for node in by_class(svg, "legend")] == ["<b>", "c"]


def test_names_may_stand_below_where_lines_begin_above() -> None:
    axis, lines = Axis("a", 0, 1), [Series(name, [0], [1]) for name in ("one", "two")]
    for below in (False, True):
        ups = [
            float(n.get("y", "")) for n in by_class(line_chart("t", axis, axis, lines, legend_below=below), "legend")
        ]
        assert all((up > HEIGHT / 2) == below and TOP < up < HEIGHT - BOTTOM for up in ups)


def test_gaps_of_a_curve_are_left_out() -> None:
    (line,) = by_class(
        line_chart("t", Axis("x", 0, 3), Axis("y", 0, 1), [Series("a", [0, 1, 2, 3], [0, np.nan, 1, 0])]), "line"
    )
    assert "nan" not in line.get("d", "")
    for stepped in (False, True):
        parse(line_chart("t", Axis("x", 0, 1), Axis("y", 0, 1), [Series("none", [], [], stepped)]))


def test_a_long_curve_is_thinned_to_what_can_be_seen() -> None:
    far = np.linspace(0, 1, 200_001)
    axis = Axis("FAR", 1e-5, 1, "log")
    x, y = thinned(far, np.sqrt(far), axis)
    assert len(x) < 1100
    np.testing.assert_array_equal(y, np.sqrt(x))
    seen = np.interp(axis.position(far), axis.position(x), y)
    assert np.abs(seen - np.sqrt(far)).max() < 0.01
    assert (x[0], x[-1]) == (0, 1)


def test_points_stand_where_they_are_and_the_coloured_ones_on_top() -> None:
    """To one scale both ways, as large as fits, in the middle; up is up."""
    dots = by_class(point_chart("t", [[-1, -1], [1, 1], [0, 0]], [2, -1, 0]), "dot")
    assert [dot.get("class") for dot in dots] == ["dot other", "dot c2", "dot c0"]
    reach = HEIGHT / 2 - EDGE
    expected = [(WIDTH / 2 + s * reach, HEIGHT / 2 - s * reach) for s in (1, -1, 0)]
    np.testing.assert_allclose([(float(d.get("cx", "")), float(d.get("cy", ""))) for d in dots], expected, atol=0.06)
    for places in ([], [[3, 4]], [[0, 0], [5, 0]]):
        assert len(by_class(point_chart("t", places, [0] * len(places)), "dot")) == len(places)


def test_an_interval_stands_upright_at_its_place_in_the_colour_of_its_line() -> None:
    axis = Axis("a", 0, 1)
    lines = [Series("a", [0, 1], [0, 1]), Series("b", [0, 1], [1, 0], spans=[(0.5, 0.25, 2.0)])]
    (span,) = by_class(line_chart("t", axis, axis, lines, at=0.5), "span")
    assert "c1" in span.get("class", "")
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    numbers = [float(text) for text in re.findall(r"[\d.]+", span.get("d", ""))]
    np.testing.assert_allclose(numbers, [LEFT + width / 2, TOP + 0.75 * height, TOP], atol=0.06)
    assert len(by_class(line_chart("t", axis, axis, lines, at=0.5), "threshold")) == 1
    assert not by_class(line_chart("t", axis, axis, lines, at=1.5), "threshold")


def test_a_short_logarithmic_axis_has_ticks_between_its_powers() -> None:
    assert Axis("k", 1, 24, "log").ticks() == [1, 2, 5, 10, 20]
    assert Axis("k", 7, 300, "log").ticks() == [10, 20, 50, 100, 200]
    np.testing.assert_allclose(Axis("FAR", 1e-4, 1, "log").ticks(), [1e-4, 1e-3, 1e-2, 1e-1, 1])
