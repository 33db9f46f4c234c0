"""Branches: a network as pieces in series and in parallel, each placed around a vertical axis.

A step through which every path goes cuts its network into sections; the parts of a section that don't touch
are branches side by side, and each is cut again. What can't be cut is drawn in layers.
"""

from collections.abc import Mapping, Sequence

from striate.anatomy.draw.labels import FONT, label
from striate.anatomy.draw.layers import in_layers
from striate.anatomy.draw.pieces import (
    BLOCK_GAP,
    BOX,
    BRANCH_GAP,
    BUS,
    FAN,
    GAP,
    JOIN,
    Piece,
    Run,
    Spot,
    Unit,
    is_symbol,
)
from striate.anatomy.draw.shapes import Point, text_width
from striate.anatomy.draw.steps import Step

_LANE = 8.0  # between a branch and the line of a shortcut
_PADDING = 8.0  # of a label in its box


class Network:
    """The steps of a network and how they are placed."""

    def __init__(self, steps: Sequence[Step], block_of: Mapping[str, str]) -> None:
        self.steps = {step.name: step for step in steps}
        self.block_of = block_of
        self.readers: dict[str, list[str]] = {name: [] for name in self.steps}
        for step in steps:
            for name in step.inputs:
                self.readers[name].append(step.name)
        self.span: dict[str, float] = {}  # width of concatenations, from their branches
        self.aside: set[str] = set()  # steps on the side branches of sums: their labels are short
        self.width = self._widest(list(self.steps), None, None)

    def units(self) -> list[Unit]:
        """Place the network: the steps of its main path, in order, each with its section."""
        nodes = list(self.steps)
        cuts, insides = self._divided(nodes, None, None)
        if not cuts:
            spots = {name: self._spot(name, 0.0) for name in nodes}
            last = Spot(self.steps[nodes[-1]], 0.0, 0.0, 0.0, 0.0)
            return [Unit(in_layers(nodes, None, None, steps=self.steps, spots=spots), last)]
        units: list[Unit] = []
        before: str | None = None
        for cut, inside in zip([*cuts, None], insides, strict=True):
            if cut is None and not inside:
                continue
            section = self._section(before, inside, cut, self.width)
            if cut is not None:
                units.append(Unit(section, self._spot(cut, self.width)))
            elif units:  # what hangs behind the last step
                units.append(Unit(section, Spot(self.steps[inside[-1]], 0.0, 0.0, 0.0, 0.0)))
            before = cut
        return units

    # How a network falls into parts.

    def _main(self, nodes: Sequence[str], sink: str | None) -> set[str]:
        """Return the nodes that lead to the sink; without one, to the last node."""
        inside = set(nodes)
        ends = [name for name in nodes if sink is not None and name in self.steps[sink].inputs] or [nodes[-1]]
        found, waiting = set(ends), ends
        while waiting:
            name = waiting.pop()
            for source in self.steps[name].inputs:
                if source in inside and source not in found:
                    found.add(source)
                    waiting.append(source)
        return found

    def _cuts(self, nodes: Sequence[str], main: set[str], source: str | None, sink: str | None) -> list[str]:
        """Return the nodes that every path from the source to the sink goes through."""
        order = [name for name in nodes if name in main]
        number = {name: i for i, name in enumerate(order)}
        jumps = [0] * (len(order) + 2)

        def jump(start: int, end: int) -> None:
            if end - start > 1:
                jumps[start + 1] += 1
                jumps[end] -= 1

        for name in order:
            inside = [number[one] for one in self.steps[name].inputs if one in number]
            for start in inside:
                jump(start, number[name])
            if not inside or source in self.steps[name].inputs:
                jump(-1, number[name])
        if sink is not None:
            for name in self.steps[sink].inputs:
                if name in number:
                    jump(number[name], len(order))
        cuts, over = [], 0
        for i, name in enumerate(order):
            over += jumps[i]
            if over == 0:
                cuts.append(name)
        return cuts

    def _divided(
        self, nodes: Sequence[str], source: str | None, sink: str | None
    ) -> tuple[list[str], list[list[str]]]:
        """Return the cuts, and the nodes before each of them and behind the last.

        Dead ends are drawn where they branch off; one that reads several sections leaves no cut.
        """
        main = self._main(nodes, sink)
        cuts = self._cuts(nodes, main, source, sink)
        number = {cut: i for i, cut in enumerate(cuts)}
        home: dict[str, int] = {}
        passed = 0
        for name in nodes:
            if name in number:
                passed = number[name] + 1
            elif name in main:
                home[name] = passed
        for name in nodes:
            if name not in main:
                inputs = self.steps[name].inputs
                read = {number[one] + 1 if one in number else home.get(one, 0) for one in inputs}
                if len(read) > 1:
                    return [], [list(nodes)]
                home[name] = max(read, default=0)
        insides: list[list[str]] = [[] for _ in range(len(cuts) + 1)]
        for name in nodes:
            if name in home:
                insides[home[name]].append(name)
        return cuts, insides

    def _parts(self, nodes: Sequence[str]) -> list[list[str]]:
        """Return the parts of a section that don't touch."""
        leader = {name: name for name in nodes}

        def find(name: str) -> str:
            while leader[name] != name:
                leader[name] = leader[leader[name]]
                name = leader[name]
            return name

        for name in nodes:
            for source in self.steps[name].inputs:
                if source in leader:
                    leader[find(name)] = find(source)
        parts: dict[str, list[str]] = {}
        for name in nodes:
            parts.setdefault(find(name), []).append(name)
        return list(parts.values())

    # How parts are placed.

    def _spot(self, name: str, width: float) -> Spot:
        step = self.steps[name]
        if is_symbol(step):
            return Spot(step, 0.0, 0.0, JOIN, JOIN)
        text = label(step, short=name in self.aside)
        own = text_width(text, FONT) + _PADDING
        if step.role == "join":
            width = self.span.get(name, 0.0)
        return Spot(step, 0.0, 0.0, max(own, width), BOX, text)

    def _gap(self, source: str | None, target: str | None) -> float:
        if source is None or target is None:
            return 0.0
        return GAP if self.block_of[source] == self.block_of[target] else BLOCK_GAP

    def _widest(self, nodes: Sequence[str], source: str | None, sink: str | None) -> float:
        """Return the width of the boxes on a path and on the main branches of its sums."""
        if not nodes:
            return 0.0
        cuts, insides = self._divided(nodes, source, sink)
        widths = [
            text_width(label(self.steps[cut], short=cut in self.aside), FONT) + _PADDING
            for cut in cuts
            if self.steps[cut].role != "join"
        ]
        before = source
        for cut, inside in zip([*cuts, sink], insides, strict=True):
            parts = self._parts(inside)
            if cut is not None and parts and len(inside) < len(nodes) and is_symbol(self.steps[cut]):
                widths.append(self._widest(max(parts, key=len), before, cut))
            before = cut
        return max(widths, default=0.0)

    def _series(self, nodes: Sequence[str], source: str | None, sink: str | None, width: float) -> Piece:
        """Place a branch between two steps."""
        cuts, insides = self._divided(nodes, source, sink)
        if not cuts:
            spots = {name: self._spot(name, 0.0) for name in nodes}
            return in_layers(nodes, source, sink, steps=self.steps, spots=spots)
        width = max(width, self._widest(nodes, source, sink))
        piece = Piece()
        before = source
        for cut, inside in zip([*cuts, sink], insides, strict=True):
            if inside and cut is sink:  # several ways to the sink: they meet before it
                piece.add(self._spread(before, inside, cut, meet=True), 0.0, piece.height)
            elif inside:
                piece.add(self._section(before, inside, cut, width), 0.0, piece.height)
            elif before is not source and cut is not sink and before is not None and cut is not None:
                piece.add(self._straight(before, cut), 0.0, piece.height)
            if cut is not sink and cut is not None:
                spot = self._spot(cut, width)
                piece.add(Piece(spot.width / 2, spot.width / 2, spot.height, [spot], []), 0.0, piece.height)
            before = cut
        return piece

    def _straight(self, source: str, target: str) -> Piece:
        gap = self._gap(source, target)
        return Piece(0.0, 0.0, gap, [], [Run(source, target, ((0.0, 0.0), (0.0, gap)))])

    def _section(self, source: str | None, inside: list[str], target: str | None, width: float) -> Piece:
        """Place what lies between two steps that all paths go through."""
        if not inside:
            if source is None or target is None:
                return Piece()
            return self._straight(source, target)
        if target is not None and is_symbol(self.steps[target]):
            return self._beside(source, inside, target, width)
        return self._spread(source, inside, target)

    def _enters(self, part: Sequence[str], source: str | None) -> str:
        return next((name for name in part if source in self.steps[name].inputs), part[0])

    def _entry(self, source: str, part: Sequence[str], target: str | None, points: tuple[Point, ...]) -> Run:
        """Draw the line into a branch: with an arrow to a step, without where it spreads again."""
        cuts, _ = self._divided(part, source, target)
        first = self._enters(part, source)
        if not cuts:
            x, y = points[-1]
            points = (*points[:-1], (x, y - BUS))
        return Run(source, first, points, arrow=bool(cuts) and cuts[0] == first)

    def _leaves(self, part: Sequence[str], target: str | None) -> str | None:
        """Return the last step of a branch that the target reads; None for a dead end."""
        if target is None:
            return None
        return next((name for name in reversed(part) if name in self.steps[target].inputs), None)

    def _beside(self, source: str | None, inside: list[str], target: str, width: float) -> Piece:
        """Place the longest branch on the axis and the others on its right, as around a sum."""
        parts = self._parts(inside)
        longest = max(parts, key=len)
        branch = self._series(longest, source, target, width)
        self.aside.update(name for part in parts if part is not longest for name in part)
        others = [(part, self._series(part, source, target, 0.0)) for part in parts if part is not longest]
        tall = max([branch.height, *(piece.height for _, piece in others)])
        end = FAN + tall + GAP
        piece = Piece()
        top = FAN + (tall - branch.height) / 2
        piece.add(branch, 0.0, top)
        piece.height = end
        last = self._leaves(longest, target)
        if source is not None:
            piece.runs.append(self._entry(source, longest, target, ((0.0, 0.0), (0.0, top))))
        if last is not None:
            piece.runs.append(Run(last, target, ((0.0, top + branch.height), (0.0, end))))
        x = branch.right
        side = JOIN / 2
        for part, other in others:
            x += _LANE + other.left
            top = FAN + (tall - other.height) / 2
            piece.add(other, x, top)
            piece.height = end
            if source is not None:
                bus = FAN - BUS
                way = ((0.0, 0.0), (0.0, bus), (x, bus), (x, top))
                piece.runs.append(self._entry(source, part, target, way))
            leaves = self._leaves(part, target)
            if leaves is not None:
                bottom = end + JOIN / 2
                out = ((x, top + other.height), (x, bottom), (side, bottom))
                piece.runs.append(Run(leaves, target, out))
            x += other.right
        if source is not None and source in self.steps[target].inputs:
            x += _LANE
            bus, bottom = FAN - BUS, end + JOIN / 2
            lane = ((0.0, 0.0), (0.0, bus), (x, bus), (x, bottom), (side, bottom))
            piece.runs.append(Run(source, target, lane))
            piece.right = max(piece.right, x + 1.0)
        return piece

    def _spread(
        self, source: str | None, inside: list[str], target: str | None, *, meet: bool = False
    ) -> Piece:
        """Place branches side by side around the axis, as above a concatenation.

        Lines end where they are above a concatenation, elsewhere on the axis; ``meet`` has them end there
        without arrows.
        """
        parts = self._parts(inside)
        pieces = [self._series(part, source, target, 0.0) for part in parts]
        direct = source is not None and target is not None and source in self.steps[target].inputs
        if direct:
            pieces.append(Piece(_LANE / 2, _LANE / 2, 0.0))
            parts.append([])
        wide = sum(piece.left + piece.right for piece in pieces) + BRANCH_GAP * (len(pieces) - 1)
        tall = max(piece.height for piece in pieces)
        end = FAN + tall + GAP
        whole = Piece(height=end)
        x = -wide / 2
        if len(pieces) == 1:
            x = -pieces[0].left
        middles = []
        joined = target is not None and self.steps[target].role == "join" and not meet
        for part, piece in zip(parts, pieces, strict=True):
            x += piece.left
            top = FAN + tall - piece.height
            leaves = self._leaves(part, target) if part else source
            if leaves is None:
                top = FAN
            whole.add(piece, x, top)
            whole.height = end
            goal = (x, end) if joined else (0.0, end)
            way: tuple[Point, ...] = ((x, top + piece.height), goal)
            if not joined and x != 0.0:
                way = ((x, top + piece.height), (x, end - GAP / 2), (0.0, end - GAP / 2), goal)
            bus = FAN - BUS
            start: tuple[Point, ...] = ((0.0, 0.0), (0.0, bus), (x, bus), (x, top))
            if x == 0.0:
                start = ((0.0, 0.0), (0.0, top))
            if not part and source is not None and target is not None:
                whole.runs.append(Run(source, target, (*start[:-1], *way[1:]), arrow=not meet))
            else:
                if source is not None:
                    whole.runs.append(self._entry(source, part, target, start))
                if leaves is not None and target is not None:
                    whole.runs.append(Run(leaves, target, way, arrow=not meet))
            if leaves is not None:
                middles.append(x)
            x += piece.right + BRANCH_GAP
        if joined and target is not None and middles:
            half = max(abs(middle) for middle in middles) + 10.0
            half = max(half, min(whole.left, whole.right))
            self.span[target] = 2 * half
            whole.left, whole.right = max(whole.left, half), max(whole.right, half)
        return whole
