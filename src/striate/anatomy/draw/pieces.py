"""Pieces of a graph: boxes with their positions, and the lines between them."""

from dataclasses import dataclass, field, replace

from striate.anatomy.draw.shapes import Point
from striate.anatomy.draw.steps import Step

BOX = 11.0  # height of a box
JOIN = 8.0  # diameter of a sum
GAP = 7.5  # between boxes
BLOCK_GAP = 14.0  # between steps of different blocks
FAN = 17.0  # from a step to the boxes of its branches
BUS = 7.0  # from the line that spreads to branches down to their boxes
BRANCH_GAP = 6.0  # between boxes side by side
SYMBOLS = {"add": "+", "mul": "\N{MULTIPLICATION SIGN}", "sub": "\N{EN DASH}"}


def is_symbol(step: Step) -> bool:
    """Whether a step is drawn as a circle with a sign."""
    return step.role == "join" and step.operation in SYMBOLS


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a step is: the middle of its box's upper edge, and the size of the box."""

    step: Step
    x: float
    y: float
    width: float
    height: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """A line from one step to another."""

    source: str
    target: str
    points: tuple[Point, ...]
    arrow: bool = True


@dataclass(slots=True)
class Piece:
    """Part of a network around the axis x = 0, from its entry (0, 0) to its exit (0, height).

    Attributes:
        left: how far it reaches left of the axis.
        right: how far it reaches right of the axis.
        height: of it.
        spots: the boxes.
        runs: the lines.
    """

    left: float = 0.0
    right: float = 0.0
    height: float = 0.0
    spots: list[Spot] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def add(self, other: "Piece", x: float, y: float) -> None:
        """Take another piece in, its entry at (x, y)."""
        self.left = max(self.left, other.left - x)
        self.right = max(self.right, other.right + x)
        self.height = max(self.height, y + other.height)
        self.spots += [replace(one, x=one.x + x, y=one.y + y) for one in other.spots]
        self.runs += [
            Run(run.source, run.target, tuple((a + x, b + y) for a, b in run.points), run.arrow)
            for run in other.runs
        ]


@dataclass(frozen=True, slots=True)
class Unit:
    """A step of the main path, with what lies between the step before and it."""

    section: Piece
    spot: Spot
