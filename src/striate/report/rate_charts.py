"""Rates as charts: dots with their intervals, bars, the reliability diagram."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from striate.metrics.by_class import ClassScore
from striate.metrics.calibration import ReliabilityBin
from striate.report.axes import Axis, nice_ticks, step_of
from striate.report.numbers import format_number
from striate.report.palette import GOOD, INK, RULE, SOFT
from striate.report.svg import dot, fit, hovered, line, rect, svg, text, text_width

_WIDTH = 400
_MAX_GUTTER = 150.0


@dataclass(frozen=True, slots=True)
class DotRow:
    """One row of a chart of dots: a name, a value, and the interval around it, all in the axis's unit.

    Attributes:
        name: at the left; shortened where it is too long.
        value: where the dot is.
        low: start of the interval.
        high: its end.
        written: the value as it is written at the right.
        hover: what appears under the pointer.
        colour: any CSS colour.
    """

    name: str
    value: float
    low: float
    high: float
    written: str
    hover: str = ""
    colour: str = GOOD


def recall_dots(entries: Sequence[ClassScore], *, floor: float | None = None) -> str:
    """Draw one row per class: a bar over the 95% Wilson interval of its recall, and a dot at the recall.

    Args:
        entries: classes that have images, in the order to draw from the top; at least one.
        floor: rate that the axis must reach down to, so that two charts can share an axis; None for the
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
            hover=f"{entry.name}: {entry.num_correct} of {entry.num_images} found",
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
        spoken: what the chart is, for those who cannot see it.
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
        spoken: what the chart is, for those who cannot see it.

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
        spoken: what the chart is, for those who cannot see it.

    Returns:
        SVG, 400 user units wide.
    """
    gutter, right, row, top = _gutter([name for name, _, _ in rows]), 56, 22, 6
    bottom = top + row * len(rows)
    axis = Axis(0.0, 1.0, gutter, _WIDTH - right, False, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
    parts = _grid(axis, top, bottom, axis_name)
    for i, (name, value, written) in enumerate(rows):
        y = top + row * (i + 0.5)
        short = fit(name, gutter - 10, 12.5)
        parts.append(text(gutter - 9, y + 4, short, "row", anchor="end", hover=name))
        if value is not None:
            parts.append(
                rect(gutter, y - 6, max(axis.at(value) - gutter, 1), 12, GOOD, radius=2, opacity=0.75)
            )
        parts.append(text(_WIDTH, y + 4, written, "value", anchor="end"))
    return svg(_WIDTH, bottom + 36, spoken, *parts)


def reliability_diagram(bins: Sequence[ReliabilityBin]) -> str:
    """Draw how often predictions of each probability are correct, above how many such predictions there are.

    A dot on the dashed line is a probability that can be trusted; below the line the network is
    overconfident, above it underconfident. Dots have 95% intervals; the bars below count the images of
    each bin.

    Args:
        bins: by rising confidence; empty ones are left out.

    Returns:
        SVG, 400 user units wide.

    Paper: M. H. DeGroot and S. E. Fienberg, "The comparison and evaluation of forecasters", The Statistician
        32, 1983; C. Guo et al., "On calibration of modern neural networks", ICML 2017, figure 1.
    Departures: dots at each bin's mean confidence, with intervals, instead of bars of the bin's width.
    """
    left, right, top, side, gap, low_side = 46, 12, 26, 238, 30, 56
    end, floor, foot = _WIDTH - right, top + side, top + side + gap + low_side
    ticks = (0.0, 20.0, 40.0, 60.0, 80.0, 100.0)
    across = Axis(0.0, 100.0, left, end, False, ticks)
    up = Axis(0.0, 100.0, floor, top, False, ticks)
    parts = [text(0, 12, "correct predictions, %", "axis-name")]
    for tick in ticks:
        parts.append(line((left, up.at(tick)), (end, up.at(tick)), RULE))
        parts.append(text(left - 7, up.at(tick) + 4, format_number(tick), "tick", anchor="end"))
        parts.append(text(across.at(tick), foot + 16, format_number(tick), "tick", anchor="middle"))
    parts.append(line((left, floor), (end, top), SOFT, width=1.2, dashes="4 4"))
    most = max((one.num for one in bins), default=0)
    parts.append(text(0, floor + gap - 8, f"images (highest bar: {most:,})", "axis-name"))
    filled = [
        (one.num, 100 * one.confidence, 100 * one.accuracy, 100 * one.interval.low, 100 * one.interval.high)
        for one in bins
        if one.confidence is not None and one.accuracy is not None
    ]
    for num, confidence, accuracy, low, high in filled:
        x, y = across.at(confidence), up.at(accuracy)
        tall = max(low_side * num / most, 1.0)
        hover = (
            f"{num:,} images: mean probability {confidence:.1f}%, correct {accuracy:.1f}%"
            f" (95% interval {low:.1f}% to {high:.1f}%)"
        )
        parts.append(
            hovered(
                hover,
                rect(x - 4, up.at(high), 8, max(up.at(low) - up.at(high), 1), GOOD, radius=4, opacity=0.28),
                dot(x, y, 4.5, GOOD),
                rect(x - 5, foot - tall, 10, tall, SOFT, radius=1, opacity=0.7),
            )
        )
    parts.append(line((left, foot), (end, foot), SOFT))
    parts.append(text((left + end) / 2, foot + 34, "predicted probability, %", "axis-name", anchor="middle"))
    spoken = "; ".join(f"at {p:.0f}% {rate:.0f}% of {num} correct" for num, p, rate, _, _ in filled)
    return svg(_WIDTH, foot + 38, f"reliability diagram: {spoken or 'no images'}", *parts)


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
    gutter, row, top = _gutter([one.name for one in rows]), 24, 6
    right = max(56.0, 14 + max(text_width(one.written, 12) for one in rows))
    bottom = top + row * len(rows)
    axis = Axis(low, high, gutter, _WIDTH - right, False, ticks)
    parts = _grid(axis, top, bottom, axis_name)
    if zero:
        parts.append(line((axis.at(0), top), (axis.at(0), bottom), INK))
    for i, one in enumerate(rows):
        y = top + row * (i + 0.5)
        start, end = axis.at(one.low), axis.at(one.high)
        parts.append(
            hovered(
                one.hover or f"{one.name}: {one.written}",
                text(gutter - 9, y + 4, fit(one.name, gutter - 10, 12.5), "row", anchor="end"),
                rect(start, y - 4, max(end - start, 1), 8, one.colour, radius=4, opacity=0.28),
                dot(axis.at(one.value), y, 4.5, one.colour),
                text(_WIDTH, y + 4, one.written, "value", anchor="end"),
            )
        )
    return svg(_WIDTH, bottom + 36, spoken, *parts)


def _gutter(names: Sequence[str]) -> float:
    return min(_MAX_GUTTER, max(60.0, 12 + max(text_width(name, 12.5) for name in names)))


def _grid(axis: Axis, top: float, bottom: float, name: str) -> list[str]:
    parts = [text((axis.start + axis.end) / 2, bottom + 32, name, "axis-name", anchor="middle")]
    for tick in axis.ticks:
        parts.append(line((axis.at(tick), top), (axis.at(tick), bottom), RULE))
        parts.append(text(axis.at(tick), bottom + 15, format_number(tick), "tick", anchor="middle"))
    return parts
