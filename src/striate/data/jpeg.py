"""The fast way through a JPEG: libjpeg-turbo without Pillow's block-wise reading.

Pillow feeds its decoder 64 KiB at a time and takes Python's lock in between; ``simplejpeg`` decodes the whole
file at once. Both run libjpeg-turbo with the same settings, so the pixels are the same to the bit. Whatever
is out of the ordinary (CMYK, damage, warnings of the decoder) is left to Pillow.
"""

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

_COLOUR_SPACES = {"RGB": "RGB", "L": "GRAY"}


def jpeg_scale(size: tuple[int, int], min_side_px: int | None) -> int:
    """Return by how much a JPEG is decoded smaller: 1, 2, 4 or 8; its shorter side stays long enough."""
    if min_side_px is None:
        return 1
    return max(scale for scale in (1, 2, 4, 8) if scale == 1 or min(size) // min_side_px >= scale)


def decode_jpeg(data: bytes, opened: Image.Image, min_side_px: int | None) -> NDArray[np.uint8] | None:
    """Decode a JPEG that Pillow has opened and not yet loaded.

    Args:
        data: the whole file.
        opened: what ``PIL.Image.open`` made of it: its header has been read and its size is accepted.
        min_side_px: the shorter side that is wanted: decoded at 1/2, 1/4 or 1/8, as Pillow's ``draft`` would,
            as long as the shorter side stays at least this long. None: full size.

    Returns:
        ``H x W x C`` uint8, C being 3 or 1 as the mode of ``opened`` says; None if Pillow has to decode it.
    """
    space = _COLOUR_SPACES.get(opened.mode)
    if space is None or not isinstance(opened, JpegImagePlugin.JpegImageFile):
        return None
    width, height = opened.size
    reduced = jpeg_scale(opened.size, min_side_px)
    size = (-(-width // reduced), -(-height // reduced))
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, space, min_height=size[1], min_width=size[0], min_factor=reduced, strict=True
        )
    except ValueError:  # damage, or a warning: Pillow decides what becomes of it
        return None
    return pixels if pixels.shape[:2] == (size[1], size[0]) else None
