"""Curves as inline SVG, with their names and last values at their ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from striate.report.axes import Axis, count_axis, value_axis
from striate.report.numbers import format_number
from striate.report.palette import PAPER, RULE, SOFT
from striate.report.svg import dot, line, svg, text


@dataclass(frozen=True, slots=True)
class Series:
    """One curve.

    Attributes:
        name: label at the curve's end; empty for none.
        x: positions, rising.
        y: values; None or a non-finite value leaves a gap.
        colour: any CSS colour.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    colour: str

    def points(self) -> list[tuple[float, float] | None]:
        """Return the points, None for each gap."""
        pairs = zip(self.x, self.y, strict=True)
        return [(x, y) if y is not None and math.isfinite(y) else None for x, y in pairs]


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    marked_x: float | None = None,
    mark_label: str = "",
    height: int = 250,
    integer_x: bool = True,
    log_if_wide: bool = True,
    values_at_ends: bool = True,
) -> str:
    """Draw curves with their names and last values at their ends.

    The vertical axis is logarithmic, and says so, where all values are positive and span a factor of 20 or
    more; otherwise it is linear and contains 0.

    Args:
        series: the curves; the last one is drawn on top and carries the mark.
        x_label: name of the horizontal axis.
        y_label: name and unit of the vertical axis.
        marked_x: position to mark with a dashed line and a ring, or None.
        mark_label: text at the mark.
        height: of the chart, in user units (the width is 400).
        integer_x: the horizontal axis counts something, so ticks are whole numbers.
        log_if_wide: whether the vertical axis may be logarithmic.
        values_at_ends: whether the last values are written, or names alone.

    Returns:
        SVG; a note in place of curves where no value can be drawn.
    """
    width, left, right, top, bottom = 400, 46, 82, 34, 40
    drawn = [(one, [p for p in one.points() if p is not None]) for one in series]
    drawn = [(one, points) for one, points in drawn if points]
    if not drawn:
        note = text(width / 2, height / 2, "no finite value to draw", "soft", anchor="middle")
        return svg(width, height, f"{y_label}: no finite value", note)
    xs = [x for one in series for x in one.x]
    ys = [y for _, points in drawn for _, y in points]
    end, floor = width - right, height - bottom
    x_axis = count_axis(min(xs), max(xs), left, end, integer=integer_x)
    y_axis = value_axis(ys, floor, top, max_ticks=max(2, (floor - top) // 24), may_log=log_if_wide)
    parts = [text(0, 12, y_label + (" · log scale" if y_axis.log else ""), "axis-name")]
    for tick in y_axis.ticks:
        y = y_axis.at(tick)
        parts.append(line((left, y), (end, y), RULE))
        parts.append(text(left - 7, y + 4, format_number(tick), "tick", anchor="end"))
    for tick in x_axis.ticks:
        x = x_axis.at(tick)
        parts.append(line((x, floor), (x, floor + 4), SOFT))
        parts.append(text(x, floor + 17, format_number(tick), "tick", anchor="middle"))
    parts.append(line((left, floor), (end, floor), SOFT))
    parts.append(text((left + end) / 2, height - 5, x_label, "axis-name", anchor="middle"))
    parts += [_curve(one, x_axis, y_axis) for one, _ in drawn]
    if marked_x is not None:
        parts.append(_mark(marked_x, mark_label, drawn[-1], x_axis, y_axis))
    ends = [y_axis.at(points[-1][1]) for _, points in drawn]
    named = any(one.name for one, _ in drawn)
    gap = 30 if named and values_at_ends else 15
    for (one, points), y in zip(drawn, _spread(ends, gap, top, floor), strict=True):
        x, style = x_axis.at(points[-1][0]) + 9, f"fill:{one.colour}"
        if one.name:
            parts.append(text(x, y - 2 if values_at_ends else y + 4, one.name, "name", style=style))
        if values_at_ends:
            value = format_number(points[-1][1], digits=3)
            parts.append(text(x, y + (11 if one.name else 4), value, "value", style=style))
    spoken = "; ".join(
        f"{one.name or y_label} ends at {format_number(p[-1][1], digits=3)}" for one, p in drawn
    )
    return svg(width, height, f"{y_label} against {x_label}: {spoken}", *parts)


def _curve(one: Series, x_axis: Axis, y_axis: Axis) -> str:
    places = [None if p is None else (x_axis.at(p[0]), y_axis.at(p[1])) for p in one.points()]
    path = []
    for before, here in pairwise([None, *places]):
        if here is not None:
            path.append(f"{'M' if before is None else 'L'}{here[0]:.1f} {here[1]:.1f}")
    few = len(places) <= 12
    dots = [
        here
        for before, here, after in zip([None, *places], places, [*places[1:], None], strict=False)
        if here is not None and (few or (before is None and after is None))
    ]
    drawn = f'<path d="{" ".join(path)}" fill="none" stroke="{one.colour}" stroke-width="2"'
    drawn += ' stroke-linejoin="round" stroke-linecap="round"/>'
    return drawn + "".join(dot(x, y, 2.6, one.colour) for x, y in dots)


def _mark(
    marked_x: float,
    label: str,
    top_curve: tuple[Series, list[tuple[float, float]]],
    x_axis: Axis,
    y_axis: Axis,
) -> str:
    x = x_axis.at(marked_x)
    anchor = "start" if x < x_axis.start + 60 else "end" if x > x_axis.end - 30 else "middle"
    parts = [line((x, y_axis.end), (x, y_axis.start), SOFT, dashes="3 3")]
    if label:
        parts.append(text(x, y_axis.end - 6, label, "tick", anchor=anchor))
    series, points = top_curve
    parts += [dot(x, y_axis.at(y), 5, PAPER, edge=series.colour) for at, y in points if at == marked_x]
    return "".join(parts)


def _spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Push labels apart to at least ``gap``, keeping their order and, where possible, the given range."""
    order = sorted(range(len(places)), key=lambda i: (places[i], i))
    result = list(places)
    for before, here in pairwise(order):
        lack = result[before] + gap - result[here]
        if lack > 0:
            result[before] -= lack / 2
            result[here] += lack / 2
    shift = max(0.0, low - min(result)) - max(0.0, max(result) - high)
    return [place + shift for place in result]
