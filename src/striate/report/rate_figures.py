"""Rates as figures: dots with their intervals, bars, the reliability diagram.

Lengths are SVG user units and colours CSS variables, as in ``figures``; every text is escaped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from striate.metrics.by_class import ClassScore
from striate.metrics.calibration import ReliabilityBin
from striate.report.axes import Axis, nice_ticks, step_of
from striate.report.svg import escape, fit, format_number, line, svg, text_width, words

_MAX_GUTTER = 150.0


@dataclass(frozen=True, slots=True)
class DotRow:
    """One row of a figure of dots: a name, a value, and the interval around it, all in the axis's unit.

    Attributes:
        name: at the left; cut to size.
        value: where the dot is.
        low: start of the interval.
        high: its end.
        written: the value as it is written at the right.
        told: what is told where the pointer rests.
        colour: any CSS colour.
    """

    name: str
    value: float
    low: float
    high: float
    written: str
    told: str = ""
    colour: str = "var(--good)"


def recall_dots(entries: Sequence[ClassScore], *, floor: float | None = None) -> str:
    """Draw one row per class: a bar over the 95% Wilson interval of its recall, and a dot at the recall.

    Args:
        entries: classes that have images, in the order to draw from the top; at least one.
        floor: rate that the axis must reach down to, so that two figures can share an axis; None for the
            lowest interval drawn.

    Returns:
        SVG, 400 user units wide. The axis starts at a round value at or below ``floor``, not always at 0.
    """
    rows = [
        DotRow(
            name=entry.name,
            value=100 * entry.recall,
            low=100 * entry.recall_interval.low,
            high=100 * entry.recall_interval.high,
            written=f"{100 * entry.recall:.1f}%",
            told=f"{entry.name}: {entry.num_correct} of {entry.num_images} found",
        )
        for entry in entries
        if entry.recall is not None
    ]
    return rate_dots(
        rows,
        axis_name="recall, %",
        spoken=f"recall of {len(rows)} classes with 95% intervals",
        floor=None if floor is None else 100 * floor,
    )


def rate_dots(rows: Sequence[DotRow], *, axis_name: str, spoken: str, floor: float | None = None) -> str:
    """Draw rows of percentages, each a dot on a bar over its interval.

    Args:
        rows: from the top; at least one; values from 0 to 100.
        axis_name: below the axis.
        spoken: what the figure is, for those who cannot see it.
        floor: percentage that the axis must reach down to; None for the lowest interval drawn.

    Returns:
        SVG, 400 user units wide. The axis ends at 100% or just above the highest interval, and starts at a
        round value at or below ``floor``: not always at 0.
    """
    floor = min(row.low for row in rows) if floor is None else floor
    highest = max(row.high for row in rows)
    top = 100.0 if highest > 50 else min(100.0, highest)
    step = step_of(max(top - floor, 1.0), 5)
    low = max(0.0, math.floor(floor / step) * step)
    top = min(100.0, math.ceil(top / step - 1e-9) * step)
    ticks = tuple(low + step * i for i in range(int((top - low) / step + 1e-6) + 1))
    return _dots(rows, axis_name, spoken, low, top, ticks, zero=False)


def difference_dots(rows: Sequence[DotRow], *, axis_name: str, spoken: str) -> str:
    """Draw rows of differences about a line at 0, each a dot on a bar over its interval.

    Args:
        rows: from the top; at least one; differences, such as percentage points.
        axis_name: below the axis.
        spoken: what the figure is, for those who cannot see it.

    Returns:
        SVG, 400 user units wide; its axis reaches as far to the left of 0 as to the right.
    """
    reach = max(max(abs(row.low), abs(row.high)) for row in rows) or 1.0
    ticks = nice_ticks(-reach * 1.05, reach * 1.05, 5)
    reach = max(reach * 1.05, abs(ticks[0]), abs(ticks[-1]))
    return _dots(rows, axis_name, spoken, -reach, reach, ticks, zero=True)


def bars(rows: Sequence[tuple[str, float | None, str]], *, axis_name: str, spoken: str) -> str:
    """Draw one horizontal bar per row, from 0 to 1.

    Args:
        rows: name, value in [0, 1] (None where it is undefined), and the value as it is written.
        axis_name: below the axis.
        spoken: what the figure is, for those who cannot see it.

    Returns:
        SVG, 400 user units wide.
    """
    gutter, width, right, row, top = _gutter([name for name, _, _ in rows]), 400, 56, 22, 6
    bottom = top + row * len(rows)
    axis = Axis(0.0, 1.0, gutter, width - right, False, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
    parts = _grid(axis, top, bottom)
    for i, (name, value, written) in enumerate(rows):
        y = top + row * (i + 0.5)
        parts.append(
            words(
                gutter - 9,
                y + 4,
                fit(name, gutter - 10, 12.5),
                anchor="end",
                css="row",
                title=name,
            )
        )
        if value is not None:
            parts.append(
                f'<rect x="{gutter:.1f}" y="{y - 6:.1f}" width="{max(axis.at(value) - gutter, 1):.1f}"'
                ' height="12" rx="2" fill="var(--good)" fill-opacity="0.75"/>'
            )
        parts.append(words(width, y + 4, written, anchor="end", css="value"))
    parts.append(
        words((gutter + width - right) / 2, bottom + 32, axis_name, anchor="middle", css="axis-name")
    )
    return svg(width, bottom + 36, spoken, *parts)


def reliability_diagram(bins: Sequence[ReliabilityBin]) -> str:
    """Draw how often answers of each probability are right, above how many such answers there are.

    A dot on the dashed line is a probability that can be taken at its word; below it the network is too
    sure, above it too modest. Dots have 95% intervals; the bars below count the images of each bin.

    Args:
        bins: by rising confidence; empty ones are left out.

    Returns:
        SVG, 400 user units wide.

    Paper: M. H. DeGroot and S. E. Fienberg, "The comparison and evaluation of forecasters", The Statistician
        32, 1983; C. Guo et al., "On calibration of modern neural networks", ICML 2017, figure 1.
    Departures: dots at each bin's mean confidence, with intervals, instead of bars of the bin's width.
    """
    width, left, right, top, side, gap, low_side = 400, 46, 12, 26, 238, 30, 56
    foot = top + side + gap + low_side
    ticks = (0.0, 20.0, 40.0, 60.0, 80.0, 100.0)
    across = Axis(0.0, 100.0, left, width - right, False, ticks)
    up = Axis(0.0, 100.0, top + side, top, False, ticks)
    parts = [words(0, 12, "right answers, %", css="axis-name")]
    for tick in ticks:
        parts.append(line(left, up.at(tick), width - right, up.at(tick), "var(--rule)"))
        parts.append(words(left - 7, up.at(tick) + 4, format_number(tick), anchor="end", css="tick"))
        parts.append(words(across.at(tick), foot + 16, format_number(tick), anchor="middle", css="tick"))
    parts.append(
        f'<line x1="{left}" y1="{top + side}" x2="{width - right}" y2="{top}" stroke="var(--soft)"'
        ' stroke-width="1.2" stroke-dasharray="4 4"/>'
    )
    most = max((one.num for one in bins), default=0)
    parts.append(words(0, top + side + gap - 8, f"images (highest bar: {most:,})", css="axis-name"))
    filled = [
        (one.num, 100 * one.confidence, 100 * one.accuracy, 100 * one.interval.low, 100 * one.interval.high)
        for one in bins
        if one.confidence is not None and one.accuracy is not None
    ]
    for num, confidence, accuracy, low, high in filled:
        x, y = across.at(confidence), up.at(accuracy)
        said = (
            f"{num:,} images: mean probability {confidence:.1f}%, right {accuracy:.1f}%"
            f" (95% interval {low:.1f}% to {high:.1f}%)"
        )
        tall = max(low_side * num / most, 1.0)
        parts.append(
            f"<g><title>{escape(said)}</title>"
            f'<rect x="{x - 4:.1f}" y="{up.at(high):.1f}" width="8" rx="4"'
            f' height="{max(up.at(low) - up.at(high), 1):.1f}" fill="var(--good)"'
            f' fill-opacity="0.28"/><circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="var(--good)"/>'
            f'<rect x="{x - 5:.1f}" y="{foot - tall:.1f}" width="10" height="{tall:.1f}" rx="1"'
            ' fill="var(--soft)" fill-opacity="0.7"/></g>'
        )
    parts.append(line(left, foot, width - right, foot, "var(--soft)"))
    parts.append(
        words(
            (left + width - right) / 2,
            foot + 34,
            "probability of the answer, %",
            anchor="middle",
            css="axis-name",
        )
    )
    spoken = "; ".join(f"at {p:.0f}% {right:.0f}% of {num} right" for num, p, right, _, _ in filled)
    return svg(width, foot + 38, f"reliability diagram: {spoken or 'no images'}", *parts)


def _dots(
    rows: Sequence[DotRow],
    axis_name: str,
    spoken: str,
    low: float,
    high: float,
    ticks: tuple[float, ...],
    *,
    zero: bool,
) -> str:
    gutter, width, row, top = _gutter([one.name for one in rows]), 400, 24, 6
    right = max(56.0, 14 + max(text_width(one.written, 12) for one in rows))
    bottom = top + row * len(rows)
    axis = Axis(low, high, gutter, width - right, False, ticks)
    parts = _grid(axis, top, bottom)
    if zero:
        parts.append(line(axis.at(0), top, axis.at(0), bottom, "var(--ink)"))
    for i, one in enumerate(rows):
        y = top + row * (i + 0.5)
        start, end = axis.at(one.low), axis.at(one.high)
        parts.append(
            f"<g><title>{escape(one.told or f'{one.name}: {one.written}')}</title>"
            f"{words(gutter - 9, y + 4, fit(one.name, gutter - 10, 12.5), anchor='end', css='row')}"
            f'<rect x="{start:.1f}" y="{y - 4:.1f}" width="{max(end - start, 1):.1f}" height="8" rx="4"'
            f' fill="{one.colour}" fill-opacity="0.28"/>'
            f'<circle cx="{axis.at(one.value):.1f}" cy="{y:.1f}" r="4.5" fill="{one.colour}"/>'
            f"{words(width, y + 4, one.written, anchor='end', css='value')}</g>"
        )
    parts.append(
        words((gutter + width - right) / 2, bottom + 32, axis_name, anchor="middle", css="axis-name")
    )
    return svg(width, bottom + 36, spoken, *parts)


def _gutter(names: Sequence[str]) -> float:
    return min(_MAX_GUTTER, max(60.0, 12 + max(text_width(name, 12.5) for name in names)))


def _grid(axis: Axis, top: float, bottom: float) -> list[str]:
    parts = []
    for tick in axis.ticks:
        parts.append(line(axis.at(tick), top, axis.at(tick), bottom, "var(--rule)"))
        parts.append(words(axis.at(tick), bottom + 15, format_number(tick), anchor="middle", css="tick"))
    return parts
