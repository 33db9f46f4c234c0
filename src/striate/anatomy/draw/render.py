"""Rendering: shapes as SVG text, and through matplotlib as PNG and PDF."""

import html
import io
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from striate.anatomy.draw.shapes import Box, Picture, Point, Polygon, Text, Wire, text_width
from striate.anatomy.draw.themes import colours
from striate.core.errors import UsageError

FONTS = ("Helvetica", "Arial", "Liberation Sans", "Nimbus Sans", "DejaVu Sans")
_PRINT_DPI = 300
_HEAD_LENGTH, _HEAD_WIDTH = 3.4, 2.9


def svg(picture: Picture, *, theme: str = "light", pixels: int | None = None) -> str:
    """Write a picture as SVG: plain text, no scripts, nothing loaded from elsewhere.

    Args:
        picture: what to draw.
        theme: ``light``, ``dark`` or ``print``.
        pixels: width to show it at; None gives its width on paper in millimetres.
    """
    tones = colours(theme)
    shown = (
        f'width="{pixels}" height="{round(pixels * picture.height / picture.width)}"'
        if pixels
        else f'width="{picture.width_mm:.2f}mm" height="{picture.height_mm:.2f}mm"'
    )
    names = ", ".join(f"'{name}'" if " " in name else name for name in FONTS)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {shown} viewBox="0 0 {_n(picture.width)}'
        f' {_n(picture.height)}" role="img" aria-labelledby="title description"'
        f' font-family="{names}, sans-serif">',
        f'<title id="title">{_escape(picture.title)}</title>',
        f'<desc id="description">{_escape(picture.description)}</desc>',
        f'<rect width="100%" height="100%" fill="{tones["paper"]}"/>',
    ]
    for shape in picture.shapes:
        if isinstance(shape, Text):
            lines.append(_svg_text(shape, tones))
        elif isinstance(shape, Polygon):
            corners = " ".join(f"{_n(x)},{_n(y)}" for x, y in shape.points)
            style = _svg_style(shape.fill, shape.edge, shape.line, tones)
            lines.append(
                _svg_hinted(f'polygon points="{corners}"{style} stroke-linejoin="round"', shape.hint)
            )
        elif isinstance(shape, Box):
            style = _svg_style(shape.fill, shape.edge, shape.line, tones)
            place = (
                f'x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" height="{_n(shape.height)}"'
            )
            lines.append(_svg_hinted(f'rect {place} rx="{_n(shape.radius)}"{style}', shape.hint))
        else:
            lines += _svg_wire(shape, tones)
    return "\n".join([*lines, "</svg>", ""])


def png(picture: Picture, *, theme: str = "light", pixels: int | None = None) -> bytes:
    """Draw a picture as PNG of a width in pixels; None: 300 for each inch of its width on paper."""
    if pixels is None:
        pixels = round(picture.width / 72 * _PRINT_DPI)
    # A little more than the pixels asked for: what is left over is cut off.
    return _plotted(picture, theme, "png", (pixels + 0.01) / picture.width * 72)


def pdf(picture: Picture, *, theme: str = "light") -> bytes:
    """Draw a picture as PDF: lines and letters stay lines and letters, the font is embedded."""
    return _plotted(picture, theme, "pdf", 72.0)


def encode(picture: Picture, kind: str, *, theme: str = "light", pixels: int | None = None) -> bytes:
    """Encode a picture as a file.

    Args:
        picture: what to draw.
        kind: ``svg``, ``png`` or ``pdf``.
        theme: ``light``, ``dark`` or ``print``.
        pixels: width to show it at; None keeps its width on paper, at 300 dots an inch in a PNG.

    Raises:
        UsageError: another kind of file.
    """
    if kind == "svg":
        return svg(picture, theme=theme, pixels=pixels).encode()
    if kind == "png":
        return png(picture, theme=theme, pixels=pixels)
    if kind == "pdf":
        return pdf(picture, theme=theme)
    raise UsageError(f"expected a file that ends in .svg, .png or .pdf, got .{kind}")


def _n(value: float) -> str:
    """Write a length: two decimals, none where they are zero."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if round(value, 2) else "0"


def _escape(text: str) -> str:
    """Escape a text for XML, without the control characters that XML has no way to write."""
    kept = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return html.escape(kept)


def _svg_style(fill: str | None, edge: str | None, line: float, tones: Mapping[str, str]) -> str:
    style = f' fill="{tones[fill] if fill else "none"}"'
    return style + (f' stroke="{tones[edge]}" stroke-width="{_n(line)}"' if edge else "")


def _svg_hinted(element: str, hint: str) -> str:
    if not hint:
        return f"<{element}/>"
    return f"<{element}><title>{_escape(hint)}</title></{element.partition(' ')[0]}>"


def _svg_text(text: Text, tones: Mapping[str, str]) -> str:
    place = f'x="{_n(text.x)}" y="{_n(text.y)}"'
    if text.turned:
        place = f'transform="translate({_n(text.x)} {_n(text.y)}) rotate(-90)"'
    weight = ' font-weight="bold"' if text.bold else ""
    anchor = "" if text.anchor == "start" else f' text-anchor="{text.anchor}"'
    return (
        f'<text {place} font-size="{_n(text.size)}"{weight}{anchor} fill="{tones[text.colour]}">'
        f"{_escape(text.text)}</text>"
    )


def _svg_wire(wire: Wire, tones: Mapping[str, str]) -> list[str]:
    points = _without_head(wire)
    path = []
    for command in _rounded(points, wire.radius):
        path.append(command[0] + " ".join(f"{_n(x)} {_n(y)}" for x, y in command[1]))
    dashes = ' stroke-dasharray="0.1 1.7" stroke-linecap="round"' if wire.dotted else ""
    line = wire.line * (1.5 if wire.dotted else 1.0)
    colour = tones[wire.colour]
    drawn = [f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="{_n(line)}"{dashes}/>']
    if wire.arrow:
        corners = " ".join(f"{_n(x)},{_n(y)}" for x, y in _head(wire))
        drawn.append(f'<polygon points="{corners}" fill="{colour}"/>')
    return drawn


def _rounded(points: tuple[Point, ...], radius: float) -> list[tuple[str, list[Point]]]:
    """Cut the corners of a line: ``M`` to its start, ``L`` to a corner, ``Q`` around it."""
    commands: list[tuple[str, list[Point]]] = [("M", [points[0]])]
    for before, corner, behind in zip(points, points[1:], points[2:], strict=False):
        reach = min(radius, math.dist(before, corner) / 2, math.dist(corner, behind) / 2)
        if reach < 0.05:
            commands.append(("L", [corner]))
            continue
        commands.append(("L", [_toward(corner, before, reach)]))
        commands.append(("Q", [corner, _toward(corner, behind, reach)]))
    commands.append(("L", [points[-1]]))
    return commands


def _toward(start: Point, goal: Point, distance: float) -> Point:
    share = distance / (math.dist(start, goal) or 1.0)
    return (start[0] + share * (goal[0] - start[0]), start[1] + share * (goal[1] - start[1]))


def _head(wire: Wire) -> tuple[Point, Point, Point]:
    """Return tip and corners of the arrow head at the end of a line."""
    tip, before = wire.points[-1], wire.points[-2]
    scale = min(1.0, wire.line / 0.6)
    base = _toward(tip, before, _HEAD_LENGTH * scale)
    length = math.dist(tip, base) or 1.0
    half = _HEAD_WIDTH * scale / 2
    across = (-(tip[1] - base[1]) / length * half, (tip[0] - base[0]) / length * half)
    return (tip, (base[0] + across[0], base[1] + across[1]), (base[0] - across[0], base[1] - across[1]))


def _without_head(wire: Wire) -> tuple[Point, ...]:
    """Return the line without the part that its arrow head covers."""
    if not wire.arrow:
        return wire.points
    room = math.dist(wire.points[-1], wire.points[-2])
    cut = min(_HEAD_LENGTH * min(1.0, wire.line / 0.6) * 0.8, room * 0.9)
    return (*wire.points[:-1], _toward(wire.points[-1], wire.points[-2], cut))


@cache
def _font() -> tuple[str, float]:
    """Return a font of this machine and how much smaller than Helvetica it must be set."""
    from matplotlib import font_manager

    for name in FONTS[:-1]:
        try:
            font_manager.findfont(name, fallback_to_default=False)
        except ValueError:
            continue
        return name, 1.0
    return FONTS[-1], 0.88


def _plotted(picture: Picture, theme: str, kind: str, dpi: float) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure

    tones = colours(theme)
    font, shrink = _font()
    settings: Any = {
        "pdf.fonttype": 42,
        "font.family": "sans-serif",
        "font.sans-serif": [font, FONTS[-1]],
        "text.usetex": False,
        "path.simplify": False,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(picture.width / 72, picture.height / 72))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, picture.width)
        axes.set_ylim(picture.height, 0)
        axes.set_axis_off()
        for order, shape in enumerate(picture.shapes):
            if isinstance(shape, Text):
                axes.text(
                    shape.x, shape.y, shape.text, **_text_style(shape, font, shrink, tones), zorder=order
                )
            else:
                for patch in _patches(shape, tones):
                    patch.set_zorder(order)
                    axes.add_patch(patch)
        metadata: dict[str, Any] = {"Title": picture.title, "Software": None}
        if kind == "pdf":
            metadata = {"Title": picture.title, "Creator": "striate", "Producer": None, "CreationDate": None}
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=dpi, facecolor=tones["paper"], metadata=metadata)
    return buffer.getvalue()


def _text_style(text: Text, font: str, shrink: float, tones: Mapping[str, str]) -> dict[str, Any]:
    across = {"start": "left", "middle": "center", "end": "right"}[text.anchor]
    up = {"start": "bottom", "middle": "center", "end": "top"}[text.anchor]
    return {
        "fontsize": text.size * shrink * _squeeze(text, font, shrink),
        "fontweight": "bold" if text.bold else "normal",
        "color": tones[text.colour],
        "ha": "right" if text.turned else across,
        "va": up if text.turned else "baseline",
        "rotation": 90 if text.turned else 0,
        "parse_math": False,
    }


def _squeeze(text: Text, font: str, shrink: float) -> float:
    """Return how much smaller a text must be set in this font to stay within its measured width."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    weight = "bold" if text.bold else "normal"
    properties = FontProperties(family=[font, FONTS[-1]], size=text.size * shrink, weight=weight)
    width, _, _ = TextToPath().get_text_width_height_descent(text.text.replace("$", "S"), properties, False)
    room = text_width(text.text, text.size, bold=text.bold)
    return min(1.0, room / width) if width > 0 else 1.0


def _patches(shape: Polygon | Box | Wire, tones: Mapping[str, str]) -> list[Any]:
    from matplotlib.patches import PathPatch
    from matplotlib.patches import Polygon as PolygonPatch
    from matplotlib.path import Path

    if isinstance(shape, Polygon | Box):
        face = tones[shape.fill] if shape.fill else "none"
        edge = tones[shape.edge] if shape.edge else "none"
        line = shape.line if shape.edge else 0.0
        if isinstance(shape, Polygon):
            return [
                PolygonPatch(shape.points, facecolor=face, edgecolor=edge, linewidth=line, joinstyle="round")
            ]
        box = _box_path(shape)
        return [PathPatch(box, facecolor=face, edgecolor=edge, linewidth=line)]
    codes = {"M": [Path.MOVETO], "L": [Path.LINETO], "Q": [Path.CURVE3, Path.CURVE3]}
    vertices, moves = [], []
    for command, points in _rounded(_without_head(shape), shape.radius):
        vertices += points
        moves += codes[command]
    colour = tones[shape.colour]
    line_patch = PathPatch(
        Path(vertices, moves),
        fill=False,
        edgecolor=colour,
        linewidth=shape.line * (1.5 if shape.dotted else 1.0),
        linestyle=(0, (0.1, 1.9)) if shape.dotted else "solid",
        capstyle="round" if shape.dotted else "butt",
    )
    if not shape.arrow:
        return [line_patch]
    return [line_patch, PolygonPatch(_head(shape), facecolor=colour, linewidth=0)]


def _box_path(box: Box) -> Any:
    """Return a rectangle whose corners are quarters of circles."""
    from matplotlib.path import Path

    radius = min(box.radius, box.width / 2, box.height / 2)
    handle = radius * (1 - 0.5523)  # of the Bezier curve next to a quarter of a circle
    left, top, right, bottom = box.x, box.y, box.x + box.width, box.y + box.height
    vertices = [(left + radius, top)]
    codes = [Path.MOVETO]
    for corner, ahead, behind in (
        ((right, top), (-1, 0), (0, 1)),
        ((right, bottom), (0, -1), (-1, 0)),
        ((left, bottom), (1, 0), (0, -1)),
        ((left, top), (0, 1), (1, 0)),
    ):
        for direction, distance in ((ahead, radius), (ahead, handle), (behind, handle), (behind, radius)):
            vertices.append((corner[0] + direction[0] * distance, corner[1] + direction[1] * distance))
        codes += [Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    return Path([*vertices, vertices[0]], [*codes, Path.CLOSEPOLY])
