"""Columns: how a long network is divided so that it fits a page, and the names beside its boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from striate.anatomy.draw.branches import Network
from striate.anatomy.draw.labels import FONT, range_of, shortened
from striate.anatomy.draw.pieces import Spot, Unit
from striate.anatomy.draw.shapes import text_width
from striate.anatomy.draw.steps import Repeat, sides

SMALL = 6.0  # size of the letters of sizes
FRAME_BESIDE = 4.0  # from boxes and lines to their frame
WIDE_FRAME = 150.0  # from here on a frame's name is turned and beside it
_NAME_ROOM = 62.0


@dataclass(frozen=True, slots=True)
class Column:
    """Units from the first to before the last, and the room that they take."""

    units: Sequence[Unit]
    left: float
    right: float
    height: float


class Names:
    """What is on the left of frames and boxes: names, and sizes where they change."""

    def __init__(self, units: Sequence[Unit], network: Network, repeats: Mapping[str, Repeat]) -> None:
        self.repeats = repeats
        self.blocks = network.block_of
        self.main = {unit.spot.step.name for unit in units if unit.spot.width}
        self.tags: dict[str, str] = {}  # by block, or by the name of an unframed step
        before: tuple[int, ...] = ()
        for unit in units:
            step = unit.spot.step
            here = step.output[1:]
            if len(here) == 2 and here != before and step.role != "input":
                self.tags[self.blocks[step.name] or step.name] = sides(here)
            before = here

    def lines(self, key: str) -> list[tuple[str, bool]]:
        """Return the lines beside a block or a step, and which are bold."""
        name = key
        lines = []
        if key in self.repeats:
            repeat = self.repeats[key]
            name = range_of((key, repeat.last))
            lines.append((f"{repeat.count} alike", False))
        if key in self.tags:
            lines.append((self.tags[key], False))
        return [(shortened(name, _NAME_ROOM, FONT, bold=True), True), *lines]

    def named(self, spot: Spot) -> bool:
        """Whether a box has a name beside it: on the main path, where there is room."""
        name, role = spot.step.name, spot.step.role
        return name in self.main and not self.blocks[name] and role not in ("join", "input")

    def room(self, key: str) -> float:
        """Return their width."""
        return max(text_width(text, size_of(bold), bold=bold) for text, bold in self.lines(key)) + 4.0


def size_of(bold: bool) -> float:
    """Return the size of the letters of names (bold) and of what is under them."""
    return FONT if bold else SMALL


def choices(units: Sequence[Unit], network: Network, names: Names, room: float) -> list[list[Column]]:
    """Return the best division into one column, two, three ..."""
    heights = [unit.section.height + unit.spot.height for unit in units]
    blocks = [network.block_of[unit.spot.step.name] for unit in units]
    free = [0]  # where a column may begin
    for i in range(1, len(units)):
        inside = {network.block_of[spot.step.name] for spot in units[i].section.spots} | {blocks[i]}
        if not blocks[i - 1] or blocks[i - 1] not in inside:
            free.append(i)
    changes = {i for i in free[1:] if units[i].spot.step.output[1:] != units[i - 1].spot.step.output[1:]}
    found = []
    total = sum(heights)
    for count in range(1, min(len(free), 12) + 1):
        starts = _divided(heights, free, changes, count, total)
        if starts is None:
            break
        ends = [*starts[1:], len(units)]
        found.append([_column(units[a:b], network, names) for a, b in zip(starts, ends, strict=True)])
        if sum(one.left + one.right for one in found[-1]) > room:
            break
    return found


def _divided(
    heights: Sequence[float], free: Sequence[int], changes: set[int], count: int, total: float
) -> list[int] | None:
    """Divide units into columns of about the same height, rather where the size of the maps changes."""
    sums = [0.0]
    for height in heights:
        sums.append(sums[-1] + height)
    goal = total / count
    # By number of columns and first unit behind them: cost, and where the last of them begins.
    table: list[dict[int, tuple[float, int]]] = [{0: (0.0, 0)}]
    for _ in range(count):
        row: dict[int, tuple[float, int]] = {}
        for end in [*free[1:], len(heights)]:
            for start, (cost, _) in table[-1].items():
                if start >= end:
                    continue
                off = (sums[end] - sums[start]) / goal - 1
                more = cost + off * off * (4 if off > 0 else 1)
                more += 0.0 if end == len(heights) or end in changes else 0.05
                if end not in row or more < row[end][0]:
                    row[end] = (more, start)
        table.append(row)
    if len(heights) not in table[-1]:
        return None
    starts, end = [], len(heights)
    for row in reversed(table[1:]):
        end = row[end][1]
        starts.append(end)
    return starts[::-1]


def _column(units: Sequence[Unit], network: Network, names: Names) -> Column:
    left = right = height = 0.0
    for unit in units:
        spots = [*unit.section.spots, unit.spot]
        keys = {network.block_of[spot.step.name] for spot in spots} - {""}
        framed = FRAME_BESIDE if keys else 0.0
        half = unit.spot.width / 2
        wide = max(unit.section.left, half) + framed
        rightmost = max(unit.section.right, half) + framed
        beside = [0.0]
        for key in keys:
            beside.append(SMALL + 6.0 if wide + rightmost > WIDE_FRAME else names.room(key))
        if names.named(unit.spot):
            beside.append(names.room(unit.spot.step.name) - (wide - half))
        left = max(left, wide + max(beside) + 1.0)
        right = max(right, rightmost)
        height += unit.section.height + unit.spot.height
    return Column(units, left, right, height)
