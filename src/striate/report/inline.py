"""Pictures inside a page: as ``data:`` addresses, so that the page needs no other file."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A picture inside the page.

    Attributes:
        uri: the whole picture, as a ``data:`` address.
        width_px: of the picture.
        height_px: of the picture.
        pixels: whether it is drawn with sharp pixels when it is enlarged.
    """

    uri: str
    width_px: int
    height_px: int
    pixels: bool


def hex_of(colour: Sequence[float]) -> str:
    """Write a colour of three parts in 0..1 as ``#rrggbb``."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


def heat(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Colour ``H x W`` numbers from their smallest (dark) to their largest (bright)."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.full_like(values, 0.5)
    coloured: NDArray[np.float64] = np.asarray(colormaps["magma"](scaled))[..., :3]
    return coloured


def rgb(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give ``N x H x W x 1`` three channels."""
    return np.repeat(colours, 3, axis=3) if colours.shape[3] == 1 else colours


def inline(colours: NDArray[np.floating], *, pixels: bool) -> Figure:
    """Inline a picture: PNG where pixels count, else JPEG."""
    image = Image.fromarray((colours.clip(0, 1) * 255).round().astype(np.uint8))
    content = io.BytesIO()
    if pixels:
        image.save(content, "PNG", optimize=True)
    else:
        image.save(content, "JPEG", quality=82, optimize=True)
    kind = "png" if pixels else "jpeg"
    return Figure(
        uri=f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}",
        width_px=image.width,
        height_px=image.height,
        pixels=pixels,
    )
