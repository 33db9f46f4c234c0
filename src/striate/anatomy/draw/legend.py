"""The line under a figure that says what its colours and lengths mean."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from striate.anatomy.draw.shapes import Box, Shape, Text, text_width

_SIZE = 6.2
_SWATCH = 6.0

_ROLE_WORDS = {
    "conv": "convolution",
    "pool": "pooling",
    "fc": "fully connected",
    "norm": "normalisation",
    "activation": "activation",
    "join": "sum or concatenation",
    "block": "module",
    "view": "dropout, flatten",
    "other": "other operation",
}


def legend(
    roles: Sequence[str],
    notes: Sequence[str],
    *,
    left: float,
    top: float,
    room: float,
    meaning: Mapping[str, str] = MappingProxyType({}),
) -> list[Shape]:
    """Draw a swatch and a word for each role, then notes; in as many lines as they need.

    Args:
        roles: in order; the input needs no word.
        notes: sentences about lengths or lines.
        left: of the line in points.
        top: of the line in points.
        room: its width in points.
        meaning: words for roles that say more than the usual ones.
    """
    shapes: list[Shape] = []
    x, y = left, top
    for role in roles:
        words = meaning.get(role) or _ROLE_WORDS.get(role)
        if words is None:
            continue
        wide = _SWATCH + 3 + text_width(words, _SIZE) + 11
        if x > left and x + wide > left + room:
            x, y = left, y + 10
        shapes.append(
            Box(
                x=x,
                y=y,
                width=_SWATCH,
                height=_SWATCH,
                radius=1,
                fill=f"{role}.front",
                edge=f"{role}.edge",
                line=0.4,
            )
        )
        shapes.append(
            Text(x=x + _SWATCH + 3, y=y + 5.2, text=words, size=_SIZE, anchor="start", colour="soft")
        )
        x += wide
    for note in notes:
        wide = text_width(note, _SIZE)
        if x > left and x + wide > left + room:
            x, y = left, y + 10
        shapes.append(Text(x=x, y=y + 5.2, text=note, size=_SIZE, anchor="start", colour="soft"))
        x += wide + 11
    return shapes
