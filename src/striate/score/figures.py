"""Figures as inline SVG and PNG: small pure functions from numbers to text.

Colours are CSS variables of the page that holds the figure (``--ink``, ``--soft``, ``--rule``, ``--paper``,
``--good``, ``--bad``), so that one figure serves light, dark and print. Lengths are SVG user units, about one
CSS pixel. Every text is escaped here; every figure is well-formed XML.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from striate.score.metrics import ClassScore
from striate.score.svg import escape, fit, format_number, line, png_uri, svg, text_width, words

_MAX_MAP_CELLS = 200


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


@dataclass(frozen=True, slots=True)
class _Axis:
    """Maps values to user units along one side of a figure."""

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        place = (math.log10(value) if self.log else value) - low
        return self.start + (self.end - self.start) * (place / (high - low))


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
    x_axis = _x_axis(min(xs), max(xs), left, width - right, integer=integer_x)
    y_axis = _value_axis(
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
    two_lines = any(one.name for one, _ in drawn)
    for (one, points), y in zip(
        drawn, _spread(ends, 30 if two_lines else 15, top, height - bottom), strict=True
    ):
        x = x_axis.at(points[-1][0]) + 9
        value = format_number(points[-1][1], digits=3)
        if one.name:
            parts.append(words(x, y - 2, one.name, css="name", colour=one.colour))
        parts.append(words(x, y + (11 if one.name else 4), value, css="value", colour=one.colour))
    spoken = "; ".join(
        f"{one.name or y_label} ends at {format_number(p[-1][1], digits=3)}" for one, p in drawn
    )
    return svg(width, height, f"{y_label} against {x_label}: {spoken}", *parts)


def recall_dots(entries: Sequence[ClassScore], *, floor: float | None = None) -> str:
    """Draw one row per class: a bar over the 95% Wilson interval of its recall, and a dot at the recall.

    Args:
        entries: classes that have images, in the order to draw from the top; at least one.
        floor: rate that the axis must reach down to, so that two figures can share an axis; None for the
            lowest interval drawn.

    Returns:
        SVG, 400 user units wide. The axis starts at a round value at or below ``floor``, not always at 0.
    """
    rows = [(entry, entry.recall, entry.recall_interval) for entry in entries if entry.recall is not None]
    gutter = min(150.0, max(60.0, 12 + max(text_width(entry.name, 12.5) for entry, _, _ in rows)))
    width, right, row, top = 400, 56, 24, 6
    bottom = top + row * len(rows)
    floor = min(interval.low for _, _, interval in rows) if floor is None else floor
    step = _step(100 - 100 * floor, 5)
    low = max(0.0, math.floor(100 * floor / step) * step)
    ticks = tuple(low + step * i for i in range(int((100 - low) / step + 1e-6) + 1))
    axis = _Axis(low, 100.0, gutter, width - right, False, ticks)
    parts = []
    for tick in ticks:
        parts.append(line(axis.at(tick), top, axis.at(tick), bottom, "var(--rule)"))
        parts.append(words(axis.at(tick), bottom + 15, format_number(tick), anchor="middle", css="tick"))
    for i, (entry, recall, interval) in enumerate(rows):
        y = top + row * (i + 0.5)
        start, end = axis.at(100 * interval.low), axis.at(100 * interval.high)
        parts.append(
            f"<g><title>{escape(f'{entry.name}: {entry.num_correct} of {entry.num_images} found')}</title>"
            f"{words(gutter - 9, y + 4, fit(entry.name, gutter - 10, 12.5), anchor='end', css='row')}"
            f'<rect x="{start:.1f}" y="{y - 4:.1f}" width="{max(end - start, 1):.1f}" height="8" rx="4"'
            ' fill="var(--good)" fill-opacity="0.28"/>'
            f'<circle cx="{axis.at(100 * recall):.1f}" cy="{y:.1f}" r="4.5" fill="var(--good)"/>'
            f"{words(width, y + 4, f'{100 * recall:.1f}%', anchor='end', css='value')}</g>"
        )
    parts.append(
        words((gutter + width - right) / 2, bottom + 32, "recall, %", anchor="middle", css="axis-name")
    )
    return svg(width, bottom + 36, f"recall of {len(rows)} classes with 95% intervals", *parts)


def confusion_table(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Draw a confusion matrix with its counts: right answers in one colour, mistakes in another.

    A right answer is as deep as its share of its row; a mistake as deep as its share of its row relative to
    the commonest mistake, so that rare mistakes are seen.

    Args:
        counts: ``K x K``, row = true class; meant for up to about 20 classes.
        classes: ``K`` names.

    Returns:
        SVG; its width grows with the classes.
    """
    num = len(classes)
    cell = 60.0 if num <= 3 else 46.0 if num <= 6 else 36.0 if num <= 12 else 31.0
    names = [fit(name, 118, 12) for name in classes]
    widths = [text_width(name, 12) for name in names]
    turned = max(widths) > cell - 6
    left = 26 + max(widths) + 8
    head = 24 + (max(widths) * 0.72 + 12 if turned else 18)
    width = (
        left
        + cell * num
        + (max(max(0.0, widths[k] * 0.72 - (num - k - 1) * cell) for k in range(num)) if turned else 4)
    )
    height = head + cell * num + 4
    shares = _row_shares(counts)
    worst = float((shares * ~np.eye(num, dtype=bool)).max()) or 1.0
    middle = left + cell * num / 2
    parts = [
        words(middle, 12, "predicted class", anchor="middle", css="axis-name"),
        f'<g transform="translate(12 {head + cell * num / 2:.1f}) rotate(-90)">'
        f"{words(0, 0, 'true class', anchor='middle', css='axis-name')}</g>",
    ]
    for k, name in enumerate(names):
        x, y = left + cell * (k + 0.5), head + cell * (k + 0.5)
        parts.append(words(left - 8, y + 4, name, anchor="end", css="row", title=classes[k]))
        if turned:
            slanted = words(0, 0, name, css="row", title=classes[k])
            parts.append(f'<g transform="translate({x - 2:.1f} {head - 7:.1f}) rotate(-45)">{slanted}</g>')
        else:
            parts.append(words(x, head - 8, name, anchor="middle", css="row", title=classes[k]))
    for i in range(num):
        for j in range(num):
            count = int(counts[i, j])
            depth = float(shares[i, j]) if i == j else 0.12 + 0.78 * float(shares[i, j]) / worst
            hue = "var(--good)" if i == j else "var(--bad)"
            opacity = 0.9 * depth if count else 0.0
            x, y = left + cell * j, head + cell * i
            style = (
                f'fill="{hue}" fill-opacity="{opacity:.3f}"'
                if count
                else 'fill="var(--rule)" fill-opacity="0.35"'
            )
            said = f"{classes[i]} called {classes[j]}: {count} ({100 * shares[i, j]:.1f}% of the class)"
            parts.append(
                f'<g><title>{escape(said)}</title><rect x="{x + 1:.1f}" y="{y + 1:.1f}"'
                f' width="{cell - 2:.1f}" height="{cell - 2:.1f}" rx="3" {style}/>'
            )
            if count:
                size = min(12.5, (cell - 6) / (0.58 * len(str(count))))
                colour = "var(--paper)" if opacity > 0.5 else "var(--ink)"
                parts.append(
                    f'<text x="{x + cell / 2:.1f}" y="{y + cell / 2 + size * 0.35:.1f}" text-anchor="middle"'
                    f' style="font-size:{size:.1f}px;fill:{colour}">{count}</text>'
                )
            parts.append("</g>")
    return svg(width, height, f"confusion matrix of {num} classes", *parts)


def confusion_map(counts: NDArray[np.int64]) -> tuple[str, int]:
    """Draw a confusion matrix of many classes as a picture without numbers.

    Args:
        counts: ``K x K``, row = true class.

    Returns:
        The SVG, and how many classes one dot stands for along each side: above 200 classes a dot shows the
        largest share in its block.
    """
    num = len(counts)
    shares = _row_shares(counts)
    right = shares * np.eye(num)
    wrong = shares - right
    block = math.ceil(num / _MAX_MAP_CELLS)
    right, wrong = _block_max(right, block), _block_max(wrong, block)
    is_wrong = wrong > right
    # Opacity follows the square root of the share: most mistakes are rare, and a rare one must still be seen.
    alpha = np.where(is_wrong, 0.2 + 0.8 * np.sqrt(wrong / (wrong.max() or 1.0)), np.sqrt(right)) * (
        (right + wrong) > 0
    )
    pixels = np.empty((*alpha.shape, 4), np.uint8)
    pixels[..., :3] = np.where(is_wrong[..., None], (214, 84, 26), (42, 120, 190))
    pixels[..., 3] = np.round(alpha * 255)
    side, left, top = 330, 44, 26
    ticks = sorted({0, num - 1, *(int(t) for t in _nice_ticks(0, num - 1, 4) if 0 < t < 0.94 * (num - 1))})
    parts = [
        f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="var(--rule)" fill-opacity="0.35"/>',
        f'<image x="{left}" y="{top}" width="{side}" height="{side}" style="image-rendering:pixelated"'
        f' preserveAspectRatio="none" href="{png_uri(pixels)}"/>',
        words(left + side / 2, 11, "predicted class (number)", anchor="middle", css="axis-name"),
        f'<g transform="translate(11 {top + side / 2}) rotate(-90)">'
        f"{words(0, 0, 'true class (number)', anchor='middle', css='axis-name')}</g>",
    ]
    for tick in ticks:
        place = side * (tick + 0.5) / num
        parts.append(words(left - 5, top + place + 4, str(tick), anchor="end", css="tick"))
        parts.append(words(left + place, top + side + 15, str(tick), anchor="middle", css="tick"))
    return svg(left + side + 16, top + side + 20, f"confusion matrix of {num} classes", *parts), block


def _x_axis(low: float, high: float, start: float, end: float, *, integer: bool) -> _Axis:
    if low == high:
        return _Axis(low - 1, high + 1, start, end, False, (low,))
    ticks = _nice_ticks(low, high, 5, whole=integer)
    return _Axis(low, high, start, end, False, ticks)


def _value_axis(values: Sequence[float], start: float, end: float, *, max_ticks: int, may_log: bool) -> _Axis:
    low, high = min(values), max(values)
    if may_log and low > 0 and high >= 20 * low:
        bottom, top = math.floor(math.log10(low)), math.ceil(math.log10(high))
        first, last = low / 1.15, high * 1.15
        decades = [e for e in range(bottom, top + 1) if first <= 10.0**e <= last]
        for inner in ((1, 2, 5), (1, 3)):
            marks = [m * 10.0**e for e in range(bottom, top + 1) for m in inner]
            marks = [mark for mark in marks if first <= mark <= last]
            if len(marks) <= max_ticks:
                return _Axis(first, last, start, end, True, tuple(marks))
        every = math.ceil(len(decades) / max_ticks)
        return _Axis(first, last, start, end, True, tuple(10.0**e for e in decades[::-every][::-1]))
    low = min(0.0, low)
    if low == high:
        high = low + 1.0
    ticks = _nice_ticks(low, high + 0.02 * (high - low), min(5, max_ticks))
    return _Axis(min(low, ticks[0]), high + 0.06 * (high - low), start, end, False, ticks)


def _nice_ticks(low: float, high: float, num: int, *, whole: bool = False) -> tuple[float, ...]:
    step = _step(high - low, num)
    if whole:
        step = max(1.0, round(step)) if step >= 1 else 1.0
    first = math.ceil(low / step - 1e-9)
    ticks = [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
    if whole and low not in ticks and (not ticks or ticks[0] - low > 0.4 * step):
        ticks.insert(0, low)
    return tuple(ticks) or (low,)


def _step(span: float, num: int) -> float:
    rough = max(span, 1e-12) / num
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)


def _curve(one: Series, x_axis: _Axis, y_axis: _Axis) -> str:
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
    x_axis: _Axis,
    y_axis: _Axis,
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


def _row_shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    totals = counts.sum(axis=1, keepdims=True)
    return np.asarray(counts / np.maximum(totals, 1), np.float64)


def _block_max(matrix: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    pad = -len(matrix) % block
    side = (len(matrix) + pad) // block
    return np.pad(matrix, (0, pad)).reshape(side, block, side, block).max(axis=(1, 3))
