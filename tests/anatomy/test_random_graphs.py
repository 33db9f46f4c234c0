"""Receptive fields by arithmetic against perturbation, on generated branching graphs.

Every graph runs in float64 with positive weights. One row (then one column) of pixels is raised hugely; a
unit moves exactly when it sees a raised pixel, for nothing in the graph can cancel.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from striate.anatomy import Axis, trace

GRAPHS_IN_A_BLOCK = 20
BLOCKS = 20
HUGE = 1e100
MOVED = 1e50  # no unit of these graphs is as large without a raised pixel, nor as small with one


class Apply(nn.Module):
    """One operation with a name, so that it has a row of its own."""

    def __init__(self, operation: Callable[..., Tensor]) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.operation(*inputs)


@dataclass
class Node:
    """What the generator itself knows about one operation; two-element tuples are rows, columns."""

    kind: str
    module: nn.Module
    sources: list[int]
    channels: int
    size: tuple[int, int]
    step: tuple[int, int]
    """Product of the strides below: pixels between neighbouring units."""
    gaps: bool = False
    """Whether some window below skips units: a dilated one, or a stride longer than the window."""
    joined: bool = False
    """Whether branches were joined below: there may be holes between what they see."""
    cuts: frozenset[int] = frozenset()
    """Nodes up to here that hid pixels from all that follows (cropped, did not fit) or laid zeros around."""
    uneven: bool = False
    """Whether a join below has branches with different cuts: boxes at the border are bounds only."""
    gridless: bool = False
    """Whether a join below has branches on different grids: no field."""


@dataclass
class Graph(nn.Module):
    """Random layers and branches."""

    seed: int
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    __hash__ = nn.Module.__hash__

    def forward(self, images: Tensor) -> Tensor:
        return self.outputs(images)[-1]

    def outputs(self, images: Tensor) -> list[Tensor]:
        """Return what every node gives."""
        found = [images]
        for node in self.nodes[1:]:
            found.append(node.module(*(found[source] for source in node.sources)))
        return found

    def add(self, node: Node) -> int:
        """Append a node; return its number."""
        self.add_module(f"{node.kind}{len(self.nodes)}", node.module)
        self.nodes.append(node)
        return len(self.nodes) - 1

    def name(self, number: int) -> str:
        return f"{self.nodes[number].kind}{number}" if number else "input"


class Generator:
    """Draws one graph from a seed."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.torch_draw = torch.Generator().manual_seed(seed)
        self.graph = Graph(seed)
        size = (self.draw.randint(10, 22), self.draw.randint(10, 22))
        channels = self.draw.randint(1, 3)
        self.graph.nodes.append(Node("input", nn.Identity(), [], channels, size, (1, 1)))

    def make(self) -> Graph:
        current = 0
        wanted = self.draw.randint(3, 7)
        for _ in range(4 * wanted):
            if len(self.graph.nodes) > wanted:
                break
            grow = self.branches if self.draw.random() < 0.4 else self.layer
            current = grow(current)
        return self.graph

    def layer(self, source: int) -> int:
        """Add one layer on top of a node; return the node itself where it would leave fewer than 2 units."""
        kind = self.draw.choices(("conv", "pool", "pad", "slice"), (6, 3, 1, 1))[0]
        return {"conv": self.conv, "pool": self.pool, "pad": self.pad, "slice": self.slice}[kind](source)

    def grow(
        self,
        kind: str,
        module: nn.Module,
        source: int,
        *,
        channels: int | None = None,
        stride: tuple[int, int] = (1, 1),
        gaps: bool = False,
        cuts: bool = False,
    ) -> int:
        below = self.graph.nodes[source]
        number = len(self.graph.nodes)
        with torch.no_grad():
            try:
                result = module(torch.zeros(1, below.channels, *below.size, dtype=torch.float64))
            except RuntimeError:
                return source
        if min(result.shape[2:]) < 2:
            return source
        return self.graph.add(
            Node(
                kind,
                module,
                [source],
                channels or below.channels,
                (result.shape[2], result.shape[3]),
                (below.step[0] * stride[0], below.step[1] * stride[1]),
                gaps=below.gaps or gaps,
                joined=below.joined,
                cuts=below.cuts | ({number} if cuts or self.misses(module, below.size, result) else set()),
                uneven=below.uneven,
                gridless=below.gridless,
            )
        )

    @staticmethod
    def misses(module: nn.Module, size: tuple[int, int], result: Tensor) -> bool:
        """Whether the last window ends before the last unit below, on either axis."""
        if isinstance(module, Apply):
            return False
        for axis in (0, 1):
            kernel, stride, padding, dilation = (
                value if isinstance(value, int) else value[axis]
                for value in (
                    module.kernel_size,
                    module.stride,
                    module.padding,
                    getattr(module, "dilation", 1),
                )
            )
            last_start = (result.shape[2 + axis] - 1) * stride - padding
            if last_start + dilation * (kernel - 1) < size[axis] - 1:
                return True
        return False

    def pair(self, low: int, high: int) -> tuple[int, int]:
        return self.draw.randint(low, high), self.draw.randint(low, high)

    def conv(
        self, source: int, *, stride: tuple[int, int] | None = None, same: bool = False, channels: int = 0
    ) -> int:
        below = self.graph.nodes[source]
        kernel = self.pair(1, 5)
        stride = stride or self.draw.choice([(1, 1), (1, 1), (2, 2), self.pair(1, 3)])
        dilation = self.draw.choice([(1, 1), (1, 1), (1, 1), self.pair(1, 3)])
        padding = (self.draw.randint(0, kernel[0] // 2), self.draw.randint(0, kernel[1] // 2))
        if same:
            kernel = (self.draw.choice((1, 3, 5)), self.draw.choice((1, 3, 5)))
            padding = (dilation[0] * (kernel[0] // 2), dilation[1] * (kernel[1] // 2))
        groups = self.draw.choice([g for g in (1, 2, 3) if below.channels % g == 0])
        channels = channels or groups * self.draw.randint(1, 2)
        groups = groups if channels % groups == 0 else 1
        module = nn.Conv2d(
            below.channels,
            channels,
            kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=False,
            dtype=torch.float64,
        )
        nn.init.uniform_(module.weight, 0.5, 1.5, generator=self.torch_draw)
        gaps = any(
            (k > 1 and d > 1) or s > d * (k - 1) + 1 for k, d, s in zip(kernel, dilation, stride, strict=True)
        )
        return self.grow("conv", module, source, channels=channels, stride=stride, gaps=gaps)

    def pool(self, source: int, *, stride: tuple[int, int] | None = None) -> int:
        kernel = self.pair(2, 4)
        stride = stride or self.pair(1, 3)
        padding = (self.draw.randint(0, kernel[0] // 2), self.draw.randint(0, kernel[1] // 2))
        module_class = self.draw.choice((nn.MaxPool2d, nn.AvgPool2d))
        module = module_class(kernel, stride=stride, padding=padding, ceil_mode=self.draw.random() < 0.5)
        gaps = any(s > k for k, s in zip(kernel, stride, strict=True))
        return self.grow("pool", module, source, stride=stride, gaps=gaps)

    def pad(self, source: int) -> int:
        sides = [self.draw.randint(0, 2) for _ in range(4)]
        return self.grow("pad", Apply(lambda maps: functional.pad(maps, sides)), source, cuts=True)

    def slice(self, source: int) -> int:
        top, left = self.pair(0, 2)
        bottom, right = self.pair(0, 2)
        step = self.draw.choice([(1, 1), (2, 2), self.pair(1, 3)])
        height, width = self.graph.nodes[source].size
        rows = slice(top, height - bottom, step[0])
        columns = slice(left, width - right, step[1])
        module = Apply(lambda maps: maps[:, :, rows, columns])
        return self.grow("slice", module, source, stride=step, gaps=step != (1, 1), cuts=True)

    def branches(self, source: int) -> int:
        """Add two or three branches and join them; sizes are made equal by zeros or by cropping, anywhere."""
        stride = self.draw.choice([(1, 1), (1, 1), (2, 2), self.pair(1, 2)])
        ends = [self.branch(source, stride) for _ in range(self.draw.randint(2, 3))]
        if self.draw.random() < 0.3 and stride == (1, 1):
            ends.append(source)  # a shortcut
        nodes = [self.graph.nodes[end] for end in ends]
        target = nodes[0].size
        fitted = []
        for end in ends:
            fitted.append(self.fit(end, target))
        nodes = [self.graph.nodes[end] for end in fitted]
        by_sum = len({node.channels for node in nodes}) == 1 and self.draw.random() < 0.6
        module = Apply(
            (lambda *maps: sum(maps[1:], maps[0])) if by_sum else (lambda *maps: torch.cat(maps, dim=1))
        )
        return self.graph.add(
            Node(
                "sum" if by_sum else "concat",
                module,
                fitted,
                nodes[0].channels if by_sum else sum(node.channels for node in nodes),
                target,
                nodes[0].step,
                gaps=any(node.gaps for node in nodes),
                joined=True,
                cuts=frozenset().union(*(node.cuts for node in nodes)),
                uneven=any(node.uneven for node in nodes) or len({node.cuts for node in nodes}) > 1,
                gridless=any(node.gridless for node in nodes) or len({node.step for node in nodes}) > 1,
            )
        )

    def branch(self, source: int, stride: tuple[int, int]) -> int:
        kind = self.draw.choices(("same", "pool", "deep", "any"), (4, 2, 3, 1))[0]
        if kind == "same":
            return self.conv(source, stride=stride, same=True, channels=2)
        if kind == "pool":
            return self.pool(source, stride=stride)
        if kind == "deep":
            return self.conv(self.conv(source, stride=(1, 1), same=True), stride=stride, channels=2)
        return self.layer(source)

    def fit(self, end: int, target: tuple[int, int]) -> int:
        height, width = self.graph.nodes[end].size
        missing = (target[0] - height, target[1] - width)
        if missing == (0, 0):
            return end
        top, left = (self.draw.randint(min(0, n), max(0, n)) for n in missing)
        sides = [left, missing[1] - left, top, missing[0] - top]
        return self.grow("fit", Apply(lambda maps: functional.pad(maps, sides)), end, cuts=True)


def graph(seed: int) -> Graph:
    return Generator(seed).make().eval()


def moved_units(net: Graph, *, rows: bool) -> list[Tensor]:
    """Return for every node which units move when a row (or column) of pixels is raised: pixels x units."""
    first = net.nodes[0]
    pixels = first.size[0 if rows else 1]
    draw = torch.Generator().manual_seed(net.seed)
    image = torch.rand(1, first.channels, *first.size, dtype=torch.float64, generator=draw)
    images = image.repeat(pixels, 1, 1, 1)
    for pixel in range(pixels):
        if rows:
            images[pixel, :, pixel, :] += HUGE
        else:
            images[pixel, :, :, pixel] += HUGE
    with torch.no_grad():
        outputs = net.outputs(images)
    return [(maps > MOVED).any(dim=1).any(dim=2 if rows else 1) for maps in outputs]


def check_axis(axis: Axis, moved: Tensor, node: Node, where: str) -> None:
    """Compare the arithmetic of one layer along one axis with the units that moved."""
    pixels, units = moved.shape
    if not moved.any():  # cropped to nothing but the zeros around
        assert node.cuts, where
        return
    for unit in range(units):
        seen = moved[:, unit].nonzero().flatten().tolist()
        low, high = axis.box(unit, pixels)
        free_low, free_high = axis.box(unit)
        told = f"{where}, unit {unit}: arithmetic {low}..{high}, perturbation {seen}"
        assert all(low <= pixel <= high for pixel in seen), told
        if not seen:  # it reads zeros only: its window would lie beyond the border
            assert node.cuts, told
            assert node.uneven or (free_low, free_high) != (low, high), told
        elif node.uneven:
            continue
        elif not node.gaps:
            assert (seen[0], seen[-1]) == (low, high), told
            assert node.joined or seen == list(range(low, high + 1)), told
        else:
            assert low != free_low or seen[0] == low, told
            assert high != free_high or seen[-1] == high, told


def check_join(axis: Axis, branches: list[Axis], units: int, where: str) -> None:
    """Every unit of a join sees from where the first of its branches begins to where the last ends."""
    for unit in range(units):
        boxes = [branch.box(unit) for branch in branches]
        assert axis.box(unit) == (min(low for low, _ in boxes), max(high for _, high in boxes)), where


@pytest.mark.parametrize("block", range(BLOCKS))
def test_arithmetic_equals_perturbation(block: int) -> None:
    for seed in range(block * GRAPHS_IN_A_BLOCK, (block + 1) * GRAPHS_IN_A_BLOCK):
        net = graph(seed)
        anatomy = trace(net, (net.nodes[0].channels, *net.nodes[0].size))
        by_rows, by_columns = moved_units(net, rows=True), moved_units(net, rows=False)
        for number, node in enumerate(net.nodes):
            layer = anatomy[net.name(number)]
            where = f"graph {seed}, {layer.name}"
            assert layer.output == (node.channels, *node.size), where
            if node.gridless:
                assert layer.field is None, where
                if not any(net.nodes[source].gridless for source in node.sources):
                    assert "different grids" in layer.note, where
                continue
            assert layer.field is not None, where
            assert (layer.field.rows.jump_px, layer.field.columns.jump_px) == node.step, where
            check_axis(layer.field.rows, by_rows[number], node, f"{where}, rows")
            check_axis(layer.field.columns, by_columns[number], node, f"{where}, columns")
            if node.kind in ("sum", "concat"):
                below = [found for source in node.sources if (found := anatomy[net.name(source)].field)]
                check_join(layer.field.rows, [one.rows for one in below], node.size[0], where)
                check_join(layer.field.columns, [one.columns for one in below], node.size[1], where)


def test_graphs_are_of_every_kind() -> None:
    """What the generator's own records say: enough of everything, so that the test above is not empty."""
    nodes = [node for seed in range(BLOCKS * GRAPHS_IN_A_BLOCK) for node in graph(seed).nodes]
    assert BLOCKS * GRAPHS_IN_A_BLOCK >= 300
    for kind in ("conv", "pool", "pad", "slice", "sum", "concat"):
        assert sum(node.kind == kind for node in nodes) >= 40, kind
    convs = [node.module for node in nodes if isinstance(node.module, nn.Conv2d)]
    assert sum(conv.groups > 1 for conv in convs) >= 50
    assert sum(max(conv.dilation) > 1 for conv in convs) >= 50
    assert sum(max(conv.stride) == 3 for conv in convs) >= 30
    pools = [node.module for node in nodes if isinstance(node.module, nn.MaxPool2d | nn.AvgPool2d)]
    assert sum(pool.ceil_mode for pool in pools) >= 50
    assert sum(isinstance(pool, nn.AvgPool2d) for pool in pools) >= 50
    assert sum(node.gridless for node in nodes) >= 50
    assert sum(node.joined and not node.uneven for node in nodes) >= 100
    assert sum(not node.joined and not node.gaps for node in nodes) >= 500


def test_two_branches_by_hand() -> None:
    """A 3x3 window without padding, and one pixel of the row three above: a hole between them."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, bias=False)

        def forward(self, images: Tensor) -> Tensor:
            return self.conv(images)[:, :, 3:, :] + images[:, :, :-5, 1:-1]

    field = trace(Net(), (1, 12, 12))["add"].field
    assert field is not None
    assert field.rows == Axis(6, 1, 0)  # rows 3, 4, 5 and row 0
    assert field.columns == Axis(3, 1, 0)
