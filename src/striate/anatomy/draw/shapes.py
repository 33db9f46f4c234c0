"""Shapes of a picture: what a layout gives and a renderer draws.

Lengths are points (1/72 inch), x to the right and y downwards. Colours are names that a theme turns into
colours. Texts are measured with the widths of Helvetica, which Arial and Liberation Sans share.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

Point = tuple[float, float]

_LETTERS = {
    **dict.fromkeys("0123456789abdeghnopquL_\N{EN DASH}$#?", 556),
    **dict.fromkeys(" ftI.,·:;/!\\[]", 278),
    **dict.fromkeys("ckvxyszJ", 500),
    **dict.fromkeys("ijl", 222),
    **dict.fromkeys("r-()*", 333),
    **dict.fromkeys("TFZ", 611),
    **dict.fromkeys("ABEKPSVXY&", 667),
    **dict.fromkeys("CDHNRUw", 722),
    **dict.fromkeys("GOQ", 778),
    **dict.fromkeys("\N{MULTIPLICATION SIGN}+=<>→", 584),
    **dict.fromkeys("mM", 833),
    "W": 944,
    "%": 889,
    "@": 1015,
    "…": 1000,
    "'": 191,
    "|": 260,
}
_MM_A_POINT = 25.4 / 72
_OTHER_LETTER = 667
_WIDE_LETTER = 1000  # from U+1100 on: Hangul, Chinese, Japanese
_BOLD = 1.08
_ASCENT, _DESCENT = 0.73, 0.21


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a text in points at a font size in points."""
    units = sum(_LETTERS.get(letter, _WIDE_LETTER if letter >= "ᄀ" else _OTHER_LETTER) for letter in text)
    return units / 1000 * size * (_BOLD if bold else 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One line of text.

    Attributes:
        x: of the anchor.
        y: of the baseline; of a turned text its anchor turns about (x, y).
        text: what it says.
        size: of the font.
        anchor: ``start``, ``middle`` or ``end``.
        bold: weight.
        colour: name of a colour.
        turned: reads upwards instead of to the right.
    """

    x: float
    y: float
    text: str
    size: float
    anchor: str = "middle"
    bold: bool = False
    colour: str = "ink"
    turned: bool = False

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        width = text_width(self.text, self.size, bold=self.bold)
        before = {"start": 0.0, "middle": width / 2, "end": width}[self.anchor]
        up, down = _ASCENT * self.size, _DESCENT * self.size
        if self.turned:
            return (self.x - up, self.y - (width - before), self.x + down, self.y + before)
        return (self.x - before, self.y - up, self.x + width - before, self.y + down)


@dataclass(frozen=True, slots=True, kw_only=True)
class Polygon:
    """A filled outline.

    Attributes:
        points: corners.
        fill: name of a colour, or None.
        edge: name of a colour, or None.
        line: width of the edge.
        hint: what a viewer shows under the pointer, or "".
    """

    points: tuple[Point, ...]
    fill: str | None
    edge: str | None = None
    line: float = 0.5
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle with rounded corners.

    Attributes:
        x: left.
        y: top.
        width: of the rectangle.
        height: of the rectangle.
        radius: of the corners.
        fill: name of a colour, or None.
        edge: name of a colour, or None.
        line: width of the edge.
        hint: what a viewer shows under the pointer, or "".
    """

    x: float
    y: float
    width: float
    height: float
    radius: float
    fill: str | None
    edge: str | None = None
    line: float = 0.5
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A line through corners that are rounded off.

    Attributes:
        points: of the line; corners between the first and the last are rounded.
        radius: of the rounding, less where the line is short.
        colour: name of a colour.
        line: its width.
        dotted: whether it is.
        arrow: whether it ends in an arrow head.
    """

    points: tuple[Point, ...]
    radius: float = 0.0
    colour: str = "wire"
    line: float = 0.6
    dotted: bool = False
    arrow: bool = False


Shape = Text | Polygon | Box | Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Shapes on a page.

    Attributes:
        width: of the page in points.
        height: of the page in points.
        shapes: from back to front.
        title: for viewers and screen readers.
        description: what the picture shows, in a sentence.
    """

    width: float
    height: float
    shapes: tuple[Shape, ...]
    title: str
    description: str

    @property
    def width_mm(self) -> float:
        """Width of the page in millimetres."""
        return self.width * _MM_A_POINT

    @property
    def height_mm(self) -> float:
        """Height of the page in millimetres."""
        return self.height * _MM_A_POINT

    @property
    def smallest_text(self) -> float:
        """Size of the smallest text in points."""
        return min((shape.size for shape in self.shapes if isinstance(shape, Text)), default=0.0)


def moved(shape: Shape, dx: float, dy: float) -> Shape:
    """Return a shape at another place."""
    if isinstance(shape, Text | Box):
        return replace(shape, x=shape.x + dx, y=shape.y + dy)
    return replace(shape, points=tuple((x + dx, y + dy) for x, y in shape.points))


def scaled(shape: Shape, factor: float) -> Shape:
    """Return a shape with all its lengths multiplied."""
    if isinstance(shape, Text):
        return replace(shape, x=shape.x * factor, y=shape.y * factor, size=shape.size * factor)
    if isinstance(shape, Box):
        return replace(
            shape,
            x=shape.x * factor,
            y=shape.y * factor,
            width=shape.width * factor,
            height=shape.height * factor,
            radius=shape.radius * factor,
            line=shape.line * factor,
        )
    points = tuple((x * factor, y * factor) for x, y in shape.points)
    if isinstance(shape, Wire):
        return replace(shape, points=points, radius=shape.radius * factor, line=shape.line * factor)
    return replace(shape, points=points, line=shape.line * factor)


def bounds(shapes: Iterable[Shape]) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of shapes."""
    boxes = []
    for shape in shapes:
        if isinstance(shape, Text):
            boxes.append(shape.box)
        elif isinstance(shape, Box):
            boxes.append((shape.x, shape.y, shape.x + shape.width, shape.y + shape.height))
        else:
            xs, ys = zip(*shape.points, strict=True)
            boxes.append((min(xs), min(ys), max(xs), max(ys)))
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return (min(lefts), min(tops), max(rights), max(bottoms))


def framed(
    shapes: Sequence[Shape], *, width: float, title: str, description: str, margin: float = 4.0
) -> Picture:
    """Put shapes on a page of a width, made smaller where they are wider, in the middle where narrower."""
    left, top, right, bottom = bounds(shapes)
    room = width - 2 * margin
    factor = min(1.0, room / (right - left))
    dx = margin + (room - factor * (right - left)) / 2 - factor * left
    dy = margin - factor * top
    placed = shapes if factor == 1.0 else [scaled(shape, factor) for shape in shapes]
    return Picture(
        width=width,
        height=factor * (bottom - top) + 2 * margin,
        shapes=tuple(moved(shape, dx, dy) for shape in placed),
        title=title,
        description=description,
    )
