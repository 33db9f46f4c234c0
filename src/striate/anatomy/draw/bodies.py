"""Bodies: the boxes of a figure of volumes in perspective, and the windows drawn on them."""

from dataclasses import dataclass

from striate.anatomy.draw.shapes import Point, Polygon, Shape, Wire
from striate.anatomy.draw.steps import Step

DEPTH_X, DEPTH_Y = 0.36, 0.26  # how far one point of depth goes to the right and upwards


@dataclass(frozen=True, slots=True)
class Body:
    """One box with its position."""

    step: Step
    left: float
    width: float
    middle: float
    height: float
    depth: float

    def at(self, x: float, y: float, z: float) -> Point:
        """Project a corner: x from 0 (left) to 1, y from -1 (top) to 1, z from -1 (front) to 1."""
        deep = z * self.depth / 2
        return (
            self.left + x * self.width + DEPTH_X * deep,
            self.middle + y * self.height / 2 - DEPTH_Y * deep,
        )

    def faces(self) -> list[Polygon]:
        """Draw the side, the top and the front."""
        at, role = self.at, self.step.role
        front = (at(0, -1, -1), at(1, -1, -1), at(1, 1, -1), at(0, 1, -1))
        top = (at(0, -1, -1), at(0, -1, 1), at(1, -1, 1), at(1, -1, -1))
        side = (at(1, -1, -1), at(1, -1, 1), at(1, 1, 1), at(1, 1, -1))
        hint = self.step.hint
        return [
            Polygon(points=points, fill=f"{role}.{face}", edge=f"{role}.edge", line=0.4, hint=hint)
            for face, points in (("side", side), ("top", top), ("front", front))
        ]


def links(sources: list[list[Body]], targets: list[list[Body]]) -> list[Shape]:
    """Draw the window that a unit reads, or the fan of a fully connected layer."""
    step = targets[0][0].step
    grouped = step.role == "pool" or (step.window is not None and step.window.groups > 1)
    shapes: list[Shape] = []
    for i, source in enumerate(sources):
        for j, target in enumerate(targets):
            if grouped and len(sources) == len(targets) and i != j:
                continue
            shapes += _link(source[-1], target[0])
    return shapes


def _link(source: Body, target: Body) -> list[Shape]:
    step = target.step
    if step.window is None and step.is_volume:
        return [Wire(points=(source.at(1, 0, -1), target.at(0, 0, -1)), colour="fan", line=0.5)]
    if step.window is None or not step.is_volume or not source.step.is_volume:
        return [
            Wire(points=(source.at(1, -1, 1), target.at(0, -1, -1)), colour="fan", line=0.5),
            Wire(points=(source.at(1, 1, -1), target.at(0, 1, -1)), colour="fan", line=0.5),
        ]
    rows = min(1.0, max(step.window.kernel[0] / source.step.output[1], 2.6 / source.height))
    columns = min(1.0, max(step.window.kernel[1] / source.step.output[2], 4.5 / source.depth))
    near = -1.0
    square = (
        source.at(1, -rows, near),
        source.at(1, -rows, near + 2 * columns),
        source.at(1, rows, near + 2 * columns),
        source.at(1, rows, near),
    )
    unit = target.at(0, 0, -1)
    x, y = unit
    dot = ((x - 0.9, y - 0.9), (x + 0.9, y - 0.9), (x + 0.9, y + 0.9), (x - 0.9, y + 0.9))
    return [
        Polygon(points=square, fill="window", edge="mark", line=0.5),
        *(Wire(points=(corner, unit), colour="mark", line=0.35) for corner in square),
        Polygon(points=dot, fill="mark"),
    ]
