"""Volumes: a chain of layers as boxes in perspective, the way papers and lectures draw it.

Height and depth of a box are the rows and columns of the maps, its width the channels. A square on a box and
the lines from it show which window a unit of the next box reads.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from striate.anatomy.draw.bodies import DEPTH_X, DEPTH_Y, Body, links
from striate.anatomy.draw.labels import range_of, shortened
from striate.anatomy.draw.legend import legend
from striate.anatomy.draw.shapes import Point, Polygon, Shape, Text, Wire, bounds, text_width
from striate.anatomy.draw.steps import TIMES, Step, size, window_words

_NAME, _WORDS, _SMALL = 7.0, 6.5, 6.2  # sizes of text
_LEADING = 1.16
_APART = 5.0  # between labels
_NARROWEST = 1.3  # of a box: what is thinner can't be seen
_WIDEST_CHANNEL = 4.0
_BAR, _BAR_DEPTH = 4.0, 5.0
_LEGIBLE = 9.0  # below this a box to a linear scale is too flat to be recognised


@dataclass(frozen=True, slots=True)
class _Group:
    """Volumes of one size side by side, with one label."""

    steps: tuple[Step, ...]
    towers: int

    @property
    def is_bar(self) -> bool:
        return not self.steps[0].is_volume


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    size: float
    bold: bool = False
    colour: str = "ink"

    @property
    def width(self) -> float:
        return text_width(self.text, self.size, bold=self.bold)


@dataclass(frozen=True, slots=True)
class _Scales:
    """Lengths in points: of pixels, of channels, of features."""

    pixels: Callable[[int], float]
    channels: Callable[[int], float]
    features: Callable[[int], float]
    words: str


def draw_volumes(steps: Sequence[Step], *, width: float, scale: str, towers: bool) -> tuple[list[Shape], str]:
    """Lay a chain out as volumes.

    Args:
        steps: a chain.
        width: of the page in points.
        scale: ``linear``, ``log`` or ``auto``.
        towers: draw what is split into two groups as two towers, one above the other.

    Returns:
        The shapes, at most as wide as the page where labels allow it, and a sentence about the scales.
    """
    rows = _towers(steps) if towers else [1] * len(steps)
    attempts = [
        _grouped(steps, rows, alike=alike, pools=pools)
        for alike, pools in ((False, False), (True, False), (True, True))
    ]
    groups = next((one for one in attempts if _room_for_labels(one) <= 0.92 * width), attempts[-1])
    tallest = min(0.225 * width, 150.0)
    scales = _scales(groups, scale, tallest)
    placed = _place(groups, scales, width)
    return _shapes(groups, placed, scales, width), scales.words


def _towers(steps: Sequence[Step]) -> list[int]:
    """Say how many towers each step has: two from the input to the last layer, where channels are even."""
    last = len(steps) - 1
    return [
        1 if step.role == "input" or place == last or step.channels % 2 else 2
        for place, step in enumerate(steps)
    ]


def _grouped(steps: Sequence[Step], rows: Sequence[int], *, alike: bool, pools: bool) -> list[_Group]:
    """Put volumes side by side: those ``alike`` in size, and ``pools`` behind what they pool."""
    groups: list[_Group] = []
    for step, towers in zip(steps, rows, strict=True):
        before = groups[-1].steps[-1] if groups else None
        same = (
            alike
            and before is not None
            and step.role == before.role
            and step.role in ("conv", "block")
            and step.output == before.output
            and step.is_volume
        )
        pooled = (
            pools
            and before is not None
            and step.role == "pool"
            and before.role in ("conv", "block", "norm")
            and step.is_volume
        )
        if same or pooled:
            groups[-1] = _Group((*groups[-1].steps, step), towers)
        else:
            groups.append(_Group((step,), towers))
    return groups


def _label_below(group: _Group) -> list[_Line]:
    """Name, window and what is folded in."""
    lines: list[_Line] = []
    runs: list[list[Step]] = []
    for step in group.steps:
        if runs and _how(runs[-1][-1]) == _how(step) and runs[-1][-1].role == step.role:
            runs[-1].append(step)
        else:
            runs.append([step])
    for i, run in enumerate(runs):
        lines.append(
            _Line(shortened(range_of([step.name for step in run]), 64, _NAME, bold=True), _NAME, True)
        )
        lines += [_Line(words, _WORDS) for words in _how(run[0])]
        if run[0].output != group.steps[0].output:
            lines.append(_Line(_size(run[0], group.towers), _WORDS))
        if i + 1 == len(runs) or run[0].role != runs[i + 1][0].role:
            alike = [step for other in runs[: i + 1] for step in other if step.role == run[0].role]
            folded = [*dict.fromkeys(word for step in alike for word in (*step.before, *step.after))]
            room = max([line.width for line in lines] + [30.0])
            lines += [
                _Line(shortened(words, 64, _SMALL), _SMALL, colour="soft") for words in _wrapped(folded, room)
            ]
    return lines


def _wrapped(words: Sequence[str], room: float) -> list[str]:
    """Write words into lines with commas."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]}, {word}" if lines else word
        if lines and text_width(longer, _SMALL) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _how(step: Step) -> list[str]:
    """Say in up to two lines what a step does."""
    if step.role == "pool":
        window = window_words(step) if step.is_volume else window_words(step).partition(" ")[0]
        return [step.operation, window] if window else [step.operation]
    if step.role == "conv":
        words = [window_words(step)] if step.window else [step.operation]
        if step.window and step.window.groups > 1:
            words.append(f"{step.window.groups} groups")
        if step.window and step.window.dilation != (1, 1):
            words.append(f"dilated {step.window.dilation[0]}")
        return words
    if step.role in ("input", "fc"):
        return []
    return [shortened(step.operation, 64, _WORDS)]


def _label_above(group: _Group) -> _Line:
    return _Line(_size(group.steps[0], group.towers), _WORDS)


def _size(step: Step, towers: int) -> str:
    if towers == 2:
        return f"2 {TIMES} {size((step.channels // 2, *step.output[1:]))}"
    return size(step.output)


def _label_width(group: _Group) -> float:
    return max(line.width for line in (_label_above(group), *_label_below(group)))


def _room_for_labels(groups: Sequence[_Group]) -> float:
    return sum(_label_width(group) + _APART for group in groups)


def _scales(groups: Sequence[_Group], scale: str, tallest: float) -> _Scales:
    steps = [step for group in groups for step in group.steps]
    volumes = [step for step in steps if step.is_volume]
    sides = [side for step in volumes for side in step.output[1:]] or [1]
    features = [step.values for step in steps if not step.is_volume] or [1]
    channels = [step.channels for step in volumes] or [1]
    log_pixels = scale == "log" or (scale == "auto" and tallest * min(sides) / max(sides) < _LEGIBLE)
    log_features = scale == "log" or (scale == "auto" and min(features) / max(features) < 0.1)
    log_channels = scale == "log"

    def measure(most: int, length: float, log: bool) -> Callable[[int], float]:
        if log:
            return lambda n: length * math.log2(1 + n) / math.log2(1 + most)
        return lambda n: length * n / most

    kinds = {True: "log", False: "linear"}
    said = []
    if volumes:
        said.append(f"height and depth: pixels ({kinds[log_pixels]})")
        said.append(f"width: channels ({kinds[log_channels]})")
    if len(volumes) < len(steps):
        said.append(f"bars: values ({kinds[log_features]})")
    return _Scales(
        pixels=measure(max(sides), tallest, log_pixels),
        channels=measure(max(channels), 1.0, log_channels),
        features=measure(max(features), min(tallest, 0.8 * tallest + 8), log_features),
        words="; ".join(said),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    left: float
    widths: tuple[float, ...]
    inner_gap: float

    @property
    def right(self) -> float:
        return self.left + sum(self.widths) + self.inner_gap * (len(self.widths) - 1)

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2


def _place(groups: Sequence[_Group], scales: _Scales, width: float) -> list[_Place]:
    """Choose the widths of channels so that the figure is as wide as the page, and the places."""
    labels = [_label_width(group) for group in groups]

    def overhang(step: Step) -> float:
        return DEPTH_X * _depth(step, scales) / 2

    def gap(before: _Group, group: _Group) -> float:
        """Leave room for the side of the last box, all of it before a bar."""
        return 7.0 + (2.0 if group.is_bar and not before.is_bar else 0.35) * overhang(before.steps[-1])

    def places(points_a_channel: float, spare: float) -> list[_Place]:
        found: list[_Place] = []
        for i, group in enumerate(groups):
            widths = tuple(
                _BAR
                if group.is_bar
                else max(_NARROWEST, points_a_channel * scales.channels(step.channels) / group.towers)
                for step in group.steps
            )
            inner = 2.2
            half = (sum(widths) + inner * (len(widths) - 1)) / 2
            middle = half
            if found:
                middle = found[-1].right + gap(groups[i - 1], group) + spare + half
                apart = (labels[i - 1] + labels[i]) / 2 + _APART
                middle = max(middle, found[-1].middle + apart)
            found.append(_Place(middle - half, widths, inner))
        return found

    def extent(found: list[_Place]) -> float:
        lefts = [
            min(place.left - overhang(group.steps[0]), place.middle - label / 2)
            for place, group, label in zip(found, groups, labels, strict=True)
        ]
        rights = [
            max(place.right + overhang(group.steps[-1]), place.middle + label / 2)
            for place, group, label in zip(found, groups, labels, strict=True)
        ]
        return max(rights) - min(lefts)

    room = width - 8.0
    most = max([step.channels for group in groups for step in group.steps if step.is_volume] + [1])
    low, high = 0.0, min(60.0, _WIDEST_CHANNEL * most)
    if extent(places(high, 0.0)) <= room:
        low = high
    else:
        for _ in range(40):
            trial = (low + high) / 2
            low, high = (trial, high) if extent(places(trial, 0.0)) <= room else (low, trial)
    spare_low, spare_high = 0.0, 60.0
    for _ in range(30):
        trial = (spare_low + spare_high) / 2
        fits = extent(places(low, trial)) <= room
        spare_low, spare_high = (trial, spare_high) if fits else (spare_low, trial)
    return places(low, spare_low)


def _depth(step: Step, scales: _Scales) -> float:
    return scales.pixels(step.output[2]) if step.is_volume else _BAR_DEPTH


def _height(step: Step, scales: _Scales, towers: int) -> float:
    if step.is_volume:
        return scales.pixels(step.output[1])
    return max(scales.features(step.values) / towers, 5.0)


def _shapes(groups: Sequence[_Group], placed: Sequence[_Place], scales: _Scales, width: float) -> list[Shape]:
    split = [group for group in groups if group.towers == 2]
    lift = 0.0
    if split:
        tall = max(
            _height(group.steps[0], scales, 2) + DEPTH_Y * _depth(group.steps[0], scales) for group in split
        )
        lift = tall / 2 + 5.0
    bodies: list[list[list[Body]]] = []  # by group, tower, member
    for group, place in zip(groups, placed, strict=True):
        middles = [-lift, lift] if group.towers == 2 else [0.0]
        towers = []
        for middle in middles:
            left, members = place.left, []
            for step, wide in zip(group.steps, place.widths, strict=True):
                members.append(
                    Body(step, left, wide, middle, _height(step, scales, group.towers), _depth(step, scales))
                )
                left += wide + place.inner_gap
            towers.append(members)
        bodies.append(towers)
    boxes: list[Shape] = []
    lines: list[Shape] = []
    for i in range(len(groups)):
        for tower in bodies[i]:
            for body in tower:
                boxes += body.faces()
        if i + 1 < len(groups):
            lines += links(bodies[i], bodies[i + 1])
    drawn = boxes + lines
    labels = _labels(groups, placed, drawn)
    left, _, right, bottom = bounds([*drawn, *labels])
    roles = list(dict.fromkeys(step.role for group in groups for step in group.steps))
    key = legend(roles, [scales.words], left=left, top=bottom + 9, room=max(right - left, 0.8 * width))
    return [*drawn, *labels, *key]


def _labels(groups: Sequence[_Group], placed: Sequence[_Place], drawn: Sequence[Shape]) -> list[Shape]:
    """Put each size above its volume and name and window below, as near as nothing is crossed."""
    segments: list[tuple[Point, Point]] = []
    for shape in drawn:
        if isinstance(shape, Polygon | Wire):
            points = list(shape.points)
            closed = points + points[:1] if isinstance(shape, Polygon) else points
            segments += list(pairwise(closed))
    labels: list[Shape] = []
    for place, group in zip(placed, groups, strict=True):
        above, below = _label_above(group), _label_below(group)
        half = above.width / 2 + 1
        top = min(_heights(segments, place.middle - half, place.middle + half))
        labels.append(_text(above, place.middle, top - 3.2))
        half = max(line.width for line in below) / 2 + 1
        y = max(_heights(segments, place.middle - half, place.middle + half)) + 2.0
        for k, line in enumerate(below):
            y += _LEADING * line.size + (1.6 if line.bold and k else 0.0)
            labels.append(_text(line, place.middle, y))
    return labels


def _text(line: _Line, x: float, y: float) -> Text:
    return Text(x=x, y=y, text=line.text, size=line.size, bold=line.bold, colour=line.colour)


def _heights(segments: Sequence[tuple[Point, Point]], left: float, right: float) -> list[float]:
    """Return the heights at which lines run between two places, their extremes among them."""
    found = []
    for (x1, y1), (x2, y2) in segments:
        if max(x1, x2) < left or min(x1, x2) > right:
            continue
        found += [y for x, y in ((x1, y1), (x2, y2)) if left <= x <= right]
        if x1 != x2:
            for x in (left, right):
                if min(x1, x2) <= x <= max(x1, x2):
                    found.append(y1 + (x - x1) / (x2 - x1) * (y2 - y1))
    return found or [0.0]
