"""Images inside a page: PNG or JPEG in ``data:`` addresses, so that the page needs no other file."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_JPEG_QUALITY = 85


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineImage:
    """An image inside the page.

    Attributes:
        uri: the whole image, as a ``data:`` address.
        width_px: of the image.
        height_px: of the image.
        sharp: whether its pixels stay sharp when it is enlarged.
    """

    uri: str
    width_px: int
    height_px: int
    sharp: bool


def inline(pixels: NDArray[np.floating] | NDArray[np.uint8], *, sharp: bool) -> InlineImage:
    """Put an image into the page: as PNG where single pixels matter, else as JPEG.

    Args:
        pixels: ``H x W`` or ``H x W x C``, uint8 or floats in 0..1. C is 1 or 3, for PNG also 4.
        sharp: whether single pixels matter.
    """
    if pixels.dtype != np.uint8:
        pixels = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    kind, options = ("png", {}) if sharp else ("jpeg", {"quality": _JPEG_QUALITY})
    file = io.BytesIO()
    image.save(file, kind, optimize=True, **options)
    return InlineImage(
        uri=f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}",
        width_px=image.width,
        height_px=image.height,
        sharp=sharp,
    )
