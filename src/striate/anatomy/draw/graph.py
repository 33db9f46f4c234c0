"""Graphs: boxes and lines, for networks that branch, from top to bottom in one or several columns."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from striate.anatomy.draw.branches import Network
from striate.anatomy.draw.columns import (
    FRAME_BESIDE,
    WIDE_FRAME,
    Column,
    Names,
    choices,
    size_of,
)
from striate.anatomy.draw.labels import FONT, shortened
from striate.anatomy.draw.legend import legend
from striate.anatomy.draw.pieces import BLOCK_GAP, Piece, Run, Spot, is_symbol
from striate.anatomy.draw.shapes import Box, Point, Shape, Text, Wire, bounds
from striate.anatomy.draw.steps import Repeat, Step

_RADIUS = 5.0  # of the corners of lines
_FRAME_ABOVE, _FRAME_BELOW = 3.0, 2.5
_GUTTER = 15.0  # between columns, for the line to the next
_LEAD = 9.0  # from the end of a column to the line to the next
_SHAPELIEST = 0.62  # height by width
_TALLEST = 1.38  # of a page
_MOST_IN_A_FRAME = 12
_SMALLEST_FACTOR = 0.78


def blocks_of(steps: Sequence[Step]) -> dict[str, str]:
    """Say which module each step is framed with: the innermost that joins branches, or "" for none."""
    joining = {step.name.rpartition(".")[0] for step in steps if step.role == "join"}
    blocks: dict[str, str] = {}
    for step in steps:
        parts = step.name.split(".")
        around = [".".join(parts[:i]) for i in range(len(parts) - 1, 0, -1)]
        blocks[step.name] = next((path for path in around if path in joining), around[-1] if around else "")
    counts: dict[str, int] = {}
    joins = {blocks[step.name] for step in steps if step.role == "join"}
    for block in blocks.values():
        counts[block] = counts.get(block, 0) + 1
    return {
        name: block if counts[block] > 1 and (block in joins or counts[block] <= _MOST_IN_A_FRAME) else ""
        for name, block in blocks.items()
    }


def draw_graph(
    steps: Sequence[Step],
    *,
    width: float,
    blocks: Mapping[str, str],
    repeats: Mapping[str, Repeat],
) -> list[Shape]:
    """Lay a network out as a graph.

    Args:
        steps: of the network.
        width: of the page in points.
        blocks: the module that each step is framed with, "" for none.
        repeats: blocks drawn once for several.

    Returns:
        The shapes. Long networks fill as many columns as the page holds.
    """
    network = Network(steps, blocks)
    units = network.units()
    names = Names(units, network, repeats)
    best: tuple[float, float, list[Column], float] | None = None  # cost, height by width, columns, room
    for factor in (1.0, 0.92, 0.85, _SMALLEST_FACTOR):
        room = width / factor - 8.0
        for columns in choices(units, network, names, room):
            across = sum(one.left + one.right for one in columns) + _GUTTER * (len(columns) - 1)
            if across > room and len(columns) > 1:
                continue
            shape = max(one.height for one in columns) / room
            cost = abs(math.log(shape / _SHAPELIEST)) + max(0.0, 0.5 - across / room)
            if best is None or cost < best[0]:
                best = (cost, shape, columns, room)
        if best is not None and best[1] <= _TALLEST:
            break
    assert best is not None
    _, _, columns, room = best
    return _shapes(columns, network, names, room)


def _shapes(columns: Sequence[Column], network: Network, names: Names, room: float) -> list[Shape]:
    across = sum(one.left + one.right for one in columns)
    gutter = min(46.0, (room - across) / (len(columns) - 1)) if len(columns) > 1 else 0.0
    gutter = max(gutter, _GUTTER)
    whole = Piece()
    frames: list[Shape] = []
    words: list[Shape] = []
    x = 0.0
    last: tuple[Spot, float, float] | None = None  # the last box of a column, its bottom, the column's edge
    for column in columns:
        axis = x + column.left
        piece = Piece()
        for unit in column.units:
            piece.add(unit.section, 0.0, piece.height)
            spot = unit.spot
            own = [spot] if spot.width else []
            piece.add(Piece(spot.width / 2, spot.width / 2, spot.height, own, []), 0.0, piece.height)
        here = Piece()
        here.add(piece, axis, 0.0)
        if last is not None:
            spot, bottom, edge = last
            between = edge + gutter * 0.45
            top = -_LEAD + 2.0
            way: tuple[Point, ...] = (
                (spot.x, bottom),
                (spot.x, bottom + _LEAD),
                (between, bottom + _LEAD),
                (between, top),
                (axis, top),
                (axis, 0.5),
            )
            here.runs.append(Run(spot.step.name, column.units[0].spot.step.name, way, arrow=False))
        more_frames, more_words = _framed(here, network.block_of, names)
        frames += more_frames
        words += more_words
        whole.spots += here.spots
        whole.runs += here.runs
        end = here.spots[-1]
        last = (end, end.y + end.height, x + column.left + column.right)
        x += column.left + column.right + gutter
    lines, dotted = _wires(whole.runs, network)
    drawn = [*frames, *lines, *(shape for spot in whole.spots for shape in _drawn(spot)), *words]
    left, _, right, bottom = bounds(drawn)
    roles = list(dict.fromkeys(spot.step.role for spot in whole.spots))
    joins = {spot.step.operation for spot in whole.spots if spot.step.role == "join"}
    sums = {"add": "sum", "concat": "concatenation", "mul": "product"}
    meaning = {"join": " or ".join(sums.get(one, one) for one in sorted(joins))}
    notes = _notes([spot.step for spot in whole.spots], dotted)
    return [
        *drawn,
        *legend(
            roles, notes, meaning=meaning, left=left, top=bottom + 10, room=max(right - left, 0.9 * room)
        ),
    ]


def _notes(steps: Sequence[Step], dotted: bool) -> list[str]:
    folded = list(dict.fromkeys(word for step in steps for word in step.after))
    notes = []
    if dotted:
        notes.append("dotted: the shortcut changes the size")
    if folded:
        said = folded[0] if len(folded) == 1 else f"{', '.join(folded[:-1])} and {folded[-1]}"
        notes.append(f"boxes include the {said} after them")
    return notes


def _framed(piece: Piece, blocks: Mapping[str, str], names: Names) -> tuple[list[Shape], list[Shape]]:
    """Draw frames around blocks, and the names beside frames and boxes."""
    frames: list[Shape] = []
    words: list[Shape] = []
    members: dict[str, list[Spot]] = {}
    for spot in piece.spots:
        if blocks[spot.step.name]:
            members.setdefault(blocks[spot.step.name], []).append(spot)
    for block, spots in members.items():
        top = min(spot.y for spot in spots)
        own = {spot.step.name for spot in spots}
        points = [
            (x, y)
            for run in piece.runs
            if run.target in own and run.arrow
            for x, y in run.points
            if y >= top - BLOCK_GAP / 2 - 0.1
        ]
        xs = [x for x, _ in points] + [spot.x + side * spot.width / 2 for spot in spots for side in (-1, 1)]
        left, right = min(xs) - FRAME_BESIDE, max(xs) + FRAME_BESIDE
        above = min([y for _, y in points] + [top]) - _FRAME_ABOVE
        below = max(spot.y + spot.height for spot in spots) + _FRAME_BELOW
        middle = (above + below) / 2
        if right - left > WIDE_FRAME:
            said = " · ".join(text for text, _ in names.lines(block))
            said = shortened(said, below - above, FONT, bold=True)
            beside: list[Text] = [Text(x=left - 3.5, y=middle, text=said, size=FONT, bold=True, turned=True)]
        else:
            beside = _beside(names.lines(block), left - 4.0, middle)
        frame = (left, above, right, below)
        others = [
            (spot.x - spot.width / 2, spot.y, spot.x + spot.width / 2, spot.y + spot.height)
            for spot in piece.spots
            if spot.step.name not in own
        ]
        lines = [
            (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
            for run in piece.runs
            for (x1, y1), (x2, y2) in pairwise(run.points)
        ]
        if any(_touch(frame, other) for other in others) or any(
            _touch(text.box, other) for text in beside for other in others + lines
        ):
            continue  # its steps lie among others: their names are in the hints
        frames.append(
            Box(
                x=left,
                y=above,
                width=right - left,
                height=below - above,
                radius=4.0,
                fill="frame.fill",
                edge="frame",
                line=0.5,
            )
        )
        words += beside
    for spot in piece.spots:
        if names.named(spot):
            words += _beside(
                names.lines(spot.step.name), spot.x - spot.width / 2 - 4.0, spot.y + spot.height / 2
            )
    return frames, words


def _touch(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two rectangles (left, top, right, bottom) share a point."""
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _beside(lines: Sequence[tuple[str, bool]], right: float, middle: float) -> list[Text]:
    """Write lines that end at a place, around a height."""
    leading = 7.2
    y = middle - leading * (len(lines) - 1) / 2 + 0.33 * FONT
    return [
        Text(
            x=right,
            y=y + i * leading,
            text=text,
            size=size_of(bold),
            anchor="end",
            bold=bold,
            colour="ink" if bold else "soft",
        )
        for i, (text, bold) in enumerate(lines)
    ]


def _wires(runs: Sequence[Run], network: Network) -> tuple[list[Shape], bool]:
    """Draw the lines; those of shortcuts that change the size of what they carry are dotted."""
    changing = _changing(network)
    shapes: list[Shape] = []
    for run in runs:
        dotted = (run.source, run.target) in changing
        points = _clean(run.points)
        if dotted and len(points) > 2 and points[0][0] == points[1][0] and points[0][1] < points[1][1]:
            first = network.steps[run.source]
            points = points[1:] if len(network.readers[first.name]) > 1 else points  # leave the solid trunk
        shapes.append(Wire(points=points, radius=_RADIUS, dotted=dotted, arrow=run.arrow))
    return shapes, bool(changing)


def _changing(network: Network) -> set[tuple[str, str]]:
    """Return the lines of shortcuts around convolutions that change the size of their input."""
    found: set[tuple[str, str]] = set()
    for step in network.steps.values():
        if not is_symbol(step) or len(step.inputs) < 2:
            continue
        ways = []
        for name in step.inputs:
            way = [step.name, name]
            while (
                network.steps[way[-1]].role not in ("join", "input", "pool")
                and len(network.steps[way[-1]].inputs) == 1
                and len(network.readers[way[-1]]) == 1
            ):
                way.append(network.steps[way[-1]].inputs[0])
            ways.append(way)
        ways.sort(key=len)
        shortest = ways[0]
        if len(shortest) < len(ways[-1]) and network.steps[shortest[-1]].output != step.output:
            found |= {(source, target) for target, source in pairwise(shortest)}
    return found


def _clean(points: Sequence[Point]) -> tuple[Point, ...]:
    """Drop points that a line passes straight through."""
    kept: list[Point] = []
    for point in points:
        if kept and math.dist(kept[-1], point) < 0.01:
            continue
        if len(kept) > 1:
            (ax, ay), (bx, by) = kept[-2], kept[-1]
            straight = abs((bx - ax) * (point[1] - by) - (by - ay) * (point[0] - bx)) < 1e-6
            if straight:
                kept.pop()
        kept.append(point)
    return tuple(kept)


def _drawn(spot: Spot) -> list[Shape]:
    step, middle = spot.step, spot.y + spot.height / 2
    colours = {"fill": f"{step.role}.front", "edge": f"{step.role}.edge"}
    box = Box(
        x=spot.x - spot.width / 2,
        y=spot.y,
        width=spot.width,
        height=spot.height,
        radius=spot.height / 2 if is_symbol(step) else 2.0,
        line=0.6,
        hint=step.hint,
        fill=colours["fill"],
        edge=colours["edge"],
    )
    if is_symbol(step):
        arm = 1.9
        edge = colours["edge"]
        strokes: list[Shape] = [
            Wire(points=((spot.x - arm, middle), (spot.x + arm, middle)), colour=edge, line=0.7)
        ]
        if step.operation == "add":
            strokes.append(
                Wire(points=((spot.x, middle - arm), (spot.x, middle + arm)), colour=edge, line=0.7)
            )
        elif step.operation == "mul":
            strokes = [
                Wire(
                    points=((spot.x - arm, middle - sign * arm), (spot.x + arm, middle + sign * arm)),
                    colour=edge,
                    line=0.7,
                )
                for sign in (-1, 1)
            ]
        return [box, *strokes]
    return [
        box,
        Text(x=spot.x, y=middle + 0.345 * FONT, text=spot.label, size=FONT, colour=f"{step.role}.text"),
    ]
