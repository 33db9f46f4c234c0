"""Parts of a picture in text: SVG elements, PNG in ``data:`` addresses, numbers and names cut to size.

Colours are CSS variables of the page that holds the picture; lengths are SVG user units, about one CSS pixel.
Every text is escaped here.
"""

import base64
import html
import io
import math
import unicodedata

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode ``H x W`` grey, ``H x W x 3`` or ``H x W x 4`` uint8 pixels as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def jpeg_uri(pixels: NDArray[np.uint8]) -> str:
    """Encode ``H x W`` grey or ``H x W x 3`` pixels as a ``data:`` address that holds a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """Encode pixels as a ``data:`` address that holds a PNG."""
    return data_uri(png(pixels))


def data_uri(file: bytes) -> str:
    """Wrap the bytes of a PNG file as a ``data:`` address."""
    return "data:image/png;base64," + base64.b64encode(file).decode()


def format_number(value: float, digits: int = 6) -> str:
    """Write a number for people: ``digits`` significant ones, powers of ten instead of ``e-05``."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if 1e-3 <= abs(value) < 1e6:
        text = f"{value:.{digits}g}"
        return f"{float(text):,.0f}" if "e" in text or abs(value) >= 10_000 else text
    mantissa, exponent = f"{value:.{max(digits - 1, 0)}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if mantissa == "1" else f"{mantissa}·{power}"


def text_width(text: str, size: float) -> float:
    """Estimate the width of a text in user units at a font size: no font is at hand to ask."""
    return size * sum(_advance(character) for character in text)


def fit(text: str, width: float, size: float) -> str:
    """Shorten a text with an ellipsis in its middle until it fits into ``width`` user units."""
    if text_width(text, size) <= width:
        return text
    kept = len(text)
    while kept > 2:
        kept -= 1
        head, tail = text[: (kept + 1) // 2], text[len(text) - kept // 2 :]
        short = f"{head.rstrip()}…{tail.lstrip()}"
        if text_width(short, size) <= width:
            return short
    return text[:1] + "…"


def _advance(character: str) -> float:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Cf"):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    if character in "iljtf.,:;'|!()[] ":
        return 0.32
    return 0.66 if character.isupper() or character in "mwMW@%" else 0.55


def escape(text: str) -> str:
    """Escape a text for XML and replace what XML cannot hold."""
    kept = (
        c if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff" else "\ufffd"
        for c in text
    )
    return html.escape("".join(kept))


def words(
    x: float, y: float, text: str, *, anchor: str = "start", css: str = "", colour: str = "", title: str = ""
) -> str:
    """Write a text; ``css`` names its class, ``title`` what is told where the pointer rests."""
    style = f' style="fill:{colour}"' if colour else ""
    hover = f"<title>{escape(title)}</title>" if title and title != text else ""
    start = f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css}"{style}>'
    return f"{start}{escape(text)}{hover}</text>"


def line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    """Draw a hairline."""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="1"/>'
    )


def svg(width: float, height: float, spoken: str, *parts: str) -> str:
    """Wrap parts as a whole picture; ``spoken`` tells it to those who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" role="img" aria-label="{escape(spoken)}">{"".join(parts)}</svg>'
    )
