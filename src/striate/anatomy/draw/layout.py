"""Layout: a record as positioned shapes, in the style that suits the network."""

from striate.anatomy.draw.graph import blocks_of, draw_graph
from striate.anatomy.draw.shapes import Picture, Shape, Text, bounds, framed
from striate.anatomy.draw.steps import Repeat, is_chain, merged, size, steps_of, without_repeats
from striate.anatomy.draw.volumes import draw_volumes
from striate.anatomy.record import Anatomy
from striate.core.errors import UsageError

STYLES = ("auto", "volumes", "graph")
SCALES = ("auto", "linear", "log")
PAPER_MM = 180.0
_POINTS_A_MM = 72 / 25.4
_MOST_VOLUMES = 40
_MOST_BOXES = 120
_WIDTHS_MM = (40.0, 2000.0)


def layout(
    anatomy: Anatomy,
    *,
    style: str = "auto",
    scale: str = "auto",
    width_mm: float = PAPER_MM,
    title: str = "",
    depth: int | None = None,
    full: bool = False,
    towers: bool = False,
    once: bool | None = None,
) -> Picture:
    """Draw the architecture of a network.

    Args:
        anatomy: the network's record.
        style: ``volumes`` (boxes in perspective, for chains), ``graph`` (for branches), or ``auto``.
        scale: of the volumes: ``linear``, ``log``, or ``auto``, which takes the logarithm of the map sizes
            where the smallest maps would be too flat to be seen.
        width_mm: of the page, 40 to 2000; 180 is the text width of an A4 page.
        title: above the figure, or "".
        depth: draw modules at this depth of the names as one step each, at least 1; None draws every layer.
        full: draw normalisation, activations and dropout as steps of their own.
        towers: draw a network that was split over two GPUs as two towers.
        once: in a graph, draw neighbouring blocks that are alike once and say how many there are; None does
            so from 120 steps on.

    Returns:
        The picture. Where labels need more room than the page has, all of it is made smaller:
        ``smallest_text`` says what that leaves.

    Raises:
        UsageError: an unknown style or scale, a size out of range, or volumes asked of a network that
            branches.
    """
    _check(style, STYLES, "style")
    _check(scale, SCALES, "scale")
    if not _WIDTHS_MM[0] <= width_mm <= _WIDTHS_MM[1]:
        raise UsageError(f"expected a width of 40 to 2000 mm, got {width_mm:g} mm")
    if depth is not None and depth < 1:
        raise UsageError(f"expected a depth of at least 1, got {depth}")
    steps = steps_of(anatomy, full=full)
    if depth is not None:
        steps = merged(steps, depth)
    chain = is_chain(steps)
    if not chain and (style == "volumes" or towers):
        raise UsageError(
            f"volumes are drawn of chains of layers only, and {anatomy.name} branches:"
            " use `style=graph`, or `depth=1` to draw its modules as one volume each"
        )
    if towers and not any(step.window is not None and step.window.groups == 2 for step in steps):
        raise UsageError(f"expected a network with convolutions in two groups, got {anatomy.name}: no towers")
    if style == "auto":
        style = "volumes" if towers or (chain and len(steps) <= _MOST_VOLUMES) else "graph"
    width = width_mm * _POINTS_A_MM
    said = f"Architecture of {anatomy.name}: {len(steps)} steps from {size(steps[0].output)} to "
    said += f"{size(anatomy[anatomy.outputs[-1]].output) if anatomy.outputs else 'its output'}"
    shapes: list[Shape]
    if style == "volumes":
        shapes, words = draw_volumes(steps, width=width, scale=scale, towers=towers)
        said += f"; {words}."
    else:
        blocks = blocks_of(steps)
        repeats: dict[str, Repeat] = {}
        if once or (once is None and len(steps) > _MOST_BOXES):
            steps, repeats = without_repeats(steps, blocks)
        shapes = draw_graph(steps, width=width, blocks=blocks, repeats=repeats)
        said += "; boxes are layers, lines are what they read."
    if title:
        left, top, right, _ = bounds(shapes)
        shapes = [Text(x=(left + right) / 2, y=top - 8, text=title, size=9.0, bold=True), *shapes]
    return framed(shapes, width=width, title=title or anatomy.name, description=said)


def _check(got: str, known: tuple[str, ...], what: str) -> None:
    if got not in known:
        raise UsageError(f"expected a {what} of {', '.join(known)}, got {got!r}")
