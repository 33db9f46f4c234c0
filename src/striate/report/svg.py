"""Charts in text: SVG elements, and texts cut to size.

Colours are those of ``palette``; lengths are SVG user units, about one CSS pixel. Every text is escaped here.
"""

import html
import unicodedata

Point = tuple[float, float]


def text_width(content: str, size: float) -> float:
    """Estimate the width of a text in user units at a font size: no font is at hand to ask."""
    return size * sum(_advance(character) for character in content)


def fit(content: str, width: float, size: float) -> str:
    """Shorten a text with an ellipsis in its middle until it fits into ``width`` user units."""
    if text_width(content, size) <= width:
        return content
    kept = len(content)
    while kept > 2:
        kept -= 1
        head, tail = content[: (kept + 1) // 2], content[len(content) - kept // 2 :]
        short = f"{head.rstrip()}…{tail.lstrip()}"
        if text_width(short, size) <= width:
            return short
    return content[:1] + "…"


def _advance(character: str) -> float:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Cf"):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    if character in "iljtf.,:;'|!()[] ":
        return 0.32
    return 0.66 if character.isupper() or character in "mwMW@%" else 0.55


def escape(content: str) -> str:
    """Escape a text for XML and replace what XML cannot hold."""
    kept = (
        c if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff" else "\ufffd"
        for c in content
    )
    return html.escape("".join(kept))


def text(
    x: float,
    y: float,
    content: str,
    css: str = "",
    *,
    anchor: str = "start",
    style: str = "",
    hover: str = "",
) -> str:
    """Write a text; ``css`` is its class, ``hover`` what appears under the pointer."""
    styled = f' style="{style}"' if style else ""
    title = f"<title>{escape(hover)}</title>" if hover and hover != content else ""
    start = f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css}"{styled}>'
    return f"{start}{escape(content)}{title}</text>"


def line(start: Point, end: Point, colour: str, *, width: float = 1, dashes: str = "") -> str:
    """Draw a line."""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
        f' stroke="{colour}" stroke-width="{width:g}"{dashed}/>'
    )


def rect(
    x: float, y: float, width: float, height: float, fill: str, *, radius: float = 0, opacity: float = 1
) -> str:
    """Draw a filled rectangle."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:g}"'
        f' fill="{fill}" fill-opacity="{opacity:.3g}"/>'
    )


def dot(x: float, y: float, radius: float, fill: str, *, edge: str = "none") -> str:
    """Draw a filled circle, with an edge of 2 units where it has a colour."""
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}" stroke="{edge}" stroke-width="2"/>'
    )


def turned(x: float, y: float, degrees: float, part: str) -> str:
    """Move a part's origin to a point and turn the part about it."""
    return f'<g transform="translate({x:.1f} {y:.1f}) rotate({degrees:g})">{part}</g>'


def hovered(hover: str, *parts: str) -> str:
    """Group parts over which the pointer shows a text."""
    return f"<g><title>{escape(hover)}</title>{''.join(parts)}</g>"


def svg(width: float, height: float, spoken: str, *parts: str) -> str:
    """Wrap parts as a whole chart; ``spoken`` describes it to those who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" role="img" aria-label="{escape(spoken)}">{"".join(parts)}</svg>'
    )
