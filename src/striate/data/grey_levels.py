"""Grey with more than 8 bits: which values a file means by black and white, and how they become 0..255."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.core.errors import BrokenImageError
from striate.data.pixels import strips

_BITS, _INVERTED, _MAX_VALUE, _SAMPLE_FORMAT = 258, 262, 281, 339  # TIFF 6.0, section 8 and 19
_KINDS: Final = {1: "unsigned", 2: "signed", 3: "float"}
_READABLE: Final = "convert it to 8 or 16 bits"


def deep_grey(
    opened: Image.Image, file: str, levels: tuple[float, float] | None
) -> tuple[Image.Image, tuple[float, float]] | None:
    """Bring grey of more than 8 bits to 8.

    Args:
        opened: as Pillow opened and loaded it.
        file: its name, for the error.
        levels: values that become 0 and 255; None for those that the file means.

    Returns:
        An image of mode ``L`` with the tags of the file, and the smallest and largest value in it; None for
        an image of another kind.

    Raises:
        BrokenImageError: signed 8-bit samples, or values that are not finite.
    """
    tags = getattr(opened, "tag_v2", None) if opened.format == "TIFF" else None
    bits, kind, inverted = _samples(tags)
    if kind == 2 and bits == 8:
        raise BrokenImageError(file, f"TIFF of signed 8-bit samples is not supported: {_READABLE} unsigned")
    if opened.mode not in ("I", "F") and not opened.mode.startswith("I;16"):
        return None
    unsigned = opened.mode == "I" and kind == 1 and bits == 32  # Pillow has no such mode

    def values() -> Iterator[tuple[int, NDArray[Any]]]:
        for top, strip in strips(opened):
            part = np.asarray(strip)
            yield top, part.view(np.uint32) if unsigned else part

    ends = [(float(strip.min()), float(strip.max())) for _, strip in values()]
    low, high = float(np.min(ends)), float(np.max(ends))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise BrokenImageError(file, "holds values that are not finite numbers")
    black, white = levels or _range(opened.mode != "F", low, high, bits, _stated(tags))
    grey = np.empty((opened.height, opened.width), np.uint8)
    for top, strip in values():
        scaled = np.clip((strip.astype(np.float64) - black) * 255.0 / (white - black), 0.0, 255.0)
        grey[top : top + len(strip)] = np.floor(scaled + 0.5)
    made = Image.fromarray(255 - grey if inverted else grey)
    made.info = opened.info
    made.format = opened.format
    return made, (low, high)


def unsupported_samples(data: bytes) -> str | None:
    """Say what samples a TIFF has that Pillow does not read; None where its first directory can't be read."""
    order = {b"II": "little", b"MM": "big"}.get(data[:2])
    if order is None or data[2:4] not in (b"*\0", b"\0*"):
        return None
    offset = int.from_bytes(data[4:8], order)  # type: ignore[arg-type]
    count = int.from_bytes(data[offset : offset + 2], order)  # type: ignore[arg-type]
    found: dict[int, int] = {}
    for at in range(offset + 2, offset + 2 + 12 * min(count, 200), 12):
        entry = data[at : at + 12]
        if len(entry) == 12:
            tag = int.from_bytes(entry[:2], order)  # type: ignore[arg-type]
            found.setdefault(tag, int.from_bytes(entry[8:10], order))  # type: ignore[arg-type]
    if _BITS not in found or not 1 <= found[_BITS] <= 64:
        return None
    kind = _KINDS.get(found.get(_SAMPLE_FORMAT, 1), "other")
    zero = ", zero being white," if found.get(_INVERTED) == 0 else ""
    return f"TIFF of {found[_BITS]}-bit {kind} samples{zero} is not supported: {_READABLE}"


def _samples(tags: Any) -> tuple[int, int, bool]:
    """Return bits a sample, their format (1 unsigned, 2 signed, 3 float), and whether zero is white."""
    if tags is None:
        return 16, 1, False

    def first(tag: int, default: int) -> int:
        value = tags.get(tag, default)
        return int(value[0] if isinstance(value, tuple) and value else value if value else default)

    return first(_BITS, 1), first(_SAMPLE_FORMAT, 1), tags.get(_INVERTED) == 0


def _range(whole: bool, low: float, high: float, bits: int, stated: float | None) -> tuple[float, float]:
    """Return the values that become 0 and 255."""
    if stated is not None and low >= 0 and high <= stated:
        return 0.0, stated
    if bits == 12:
        return 0.0, 4095.0
    if low >= 0 and high <= 65535:
        if whole or high > 255:
            return 0.0, 65535.0
        return 0.0, 255.0 if high > 1 else 1.0
    return low, high if high > low else low + 1.0


def _stated(tags: Any) -> float | None:
    """Return the largest value that a TIFF says it uses."""
    value = None if tags is None else tags.get(_MAX_VALUE)
    value = value[0] if isinstance(value, tuple) and value else value
    return float(value) if isinstance(value, int) and value > 0 else None
