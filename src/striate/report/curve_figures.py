"""Curves as inline SVG, with their names and last values at their ends.

Colours are CSS variables of the page that holds the figure (``--ink``, ``--soft``, ``--rule``, ``--paper``,
``--good``, ``--bad``), so that one figure serves light, dark and print. Lengths are SVG user units, about one
CSS pixel. Every text is escaped; every figure is well-formed XML.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from striate.report.axes import Axis, count_axis, value_axis
from striate.report.svg import format_number, line, svg, words


@dataclass(frozen=True, slots=True)
class Series:
    """One curve.

    Attributes:
        name: label written at the curve's end; empty for none.
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
    """Draw curves with their names and last values written at their ends.

    The vertical axis is logarithmic, and says so, where all values are positive and span a factor of 20 or
    more; otherwise it is linear and contains 0.

    Args:
        series: the curves; the last one is drawn on top and carries the mark.
        x_label: name of the horizontal axis.
        y_label: name and unit of the vertical axis.
        marked_x: position to mark with a dashed line and a ring, or None.
        mark_label: words at the mark.
        height: of the figure, in user units (the width is 400).
        integer_x: the horizontal axis counts something, so ticks are whole numbers.
        log_if_wide: whether the vertical axis may be logarithmic.
        values_at_ends: whether last values are written, or names alone.

    Returns:
        SVG; a note in place of curves where no value can be drawn.
    """
    width, left, right, top, bottom = 400, 46, 82, 34, 40
    drawn = [(one, [p for p in one.points() if p is not None]) for one in series]
    drawn = [(one, points) for one, points in drawn if points]
    if not drawn:
        note = words(width / 2, height / 2, "no finite value to draw", anchor="middle", css="soft")
        return svg(width, height, f"{y_label}: no finite value", note)
    xs = [x for one in series for x in one.x]
    ys = [y for _, points in drawn for _, y in points]
    x_axis = count_axis(min(xs), max(xs), left, width - right, integer=integer_x)
    y_axis = value_axis(
        ys, height - bottom, top, max_ticks=max(2, (height - top - bottom) // 24), may_log=log_if_wide
    )
    parts = [words(0, 12, y_label + (" · log scale" if y_axis.log else ""), css="axis-name")]
    for tick in y_axis.ticks:
        y = y_axis.at(tick)
        parts.append(line(left, y, width - right, y, "var(--rule)"))
        parts.append(words(left - 7, y + 4, format_number(tick), anchor="end", css="tick"))
    for tick in x_axis.ticks:
        x = x_axis.at(tick)
        parts.append(line(x, height - bottom, x, height - bottom + 4, "var(--soft)"))
        parts.append(words(x, height - bottom + 17, format_number(tick), anchor="middle", css="tick"))
    parts.append(line(left, height - bottom, width - right, height - bottom, "var(--soft)"))
    parts.append(words((left + width - right) / 2, height - 5, x_label, anchor="middle", css="axis-name"))
    parts += [_curve(one, x_axis, y_axis) for one, _ in drawn]
    if marked_x is not None:
        parts.append(_mark(marked_x, mark_label, drawn[-1], x_axis, y_axis))
    ends = [y_axis.at(points[-1][1]) for _, points in drawn]
    named = any(one.name for one, _ in drawn)
    gap = 30 if named and values_at_ends else 15
    for (one, points), y in zip(drawn, _spread(ends, gap, top, height - bottom), strict=True):
        x = x_axis.at(points[-1][0]) + 9
        value = format_number(points[-1][1], digits=3)
        if one.name:
            place = y - 2 if values_at_ends else y + 4
            parts.append(words(x, place, one.name, css="name", colour=one.colour))
        if values_at_ends:
            parts.append(words(x, y + (11 if one.name else 4), value, css="value", colour=one.colour))
    spoken = "; ".join(
        f"{one.name or y_label} ends at {format_number(p[-1][1], digits=3)}" for one, p in drawn
    )
    return svg(width, height, f"{y_label} against {x_label}: {spoken}", *parts)


def _curve(one: Series, x_axis: Axis, y_axis: Axis) -> str:
    points = one.points()
    places = [None if p is None else (x_axis.at(p[0]), y_axis.at(p[1])) for p in points]
    path = []
    for before, here in pairwise([None, *places]):
        if here is not None:
            path.append(f"{'M' if before is None else 'L'}{here[0]:.1f} {here[1]:.1f}")
    alone = len(places) <= 12
    dots = [
        place
        for i, place in enumerate(places)
        if place is not None
        and (alone or ((i == 0 or places[i - 1] is None) and (i + 1 == len(places) or places[i + 1] is None)))
    ]
    drawn = f'<path d="{" ".join(path)}" fill="none" stroke="{one.colour}" stroke-width="2"'
    drawn += ' stroke-linejoin="round" stroke-linecap="round"/>'
    return drawn + "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{one.colour}"/>' for x, y in dots
    )


def _mark(
    marked_x: float,
    label: str,
    top_curve: tuple[Series, list[tuple[float, float]]],
    x_axis: Axis,
    y_axis: Axis,
) -> str:
    x = x_axis.at(marked_x)
    anchor = "start" if x < x_axis.start + 60 else "end" if x > x_axis.end - 30 else "middle"
    parts = [
        f'<line x1="{x:.1f}" y1="{y_axis.end}" x2="{x:.1f}" y2="{y_axis.start}" stroke="var(--soft)"'
        ' stroke-width="1" stroke-dasharray="3 3"/>',
        words(x, y_axis.end - 6, label, anchor=anchor, css="tick") if label else "",
    ]
    series, points = top_curve
    for point_x, y in points:
        if point_x == marked_x:
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y_axis.at(y):.1f}" r="5" fill="var(--paper)"'
                f' stroke="{series.colour}" stroke-width="2"/>'
            )
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
