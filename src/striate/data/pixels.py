"""A decoded image, as Pillow's object or as its pixels: 8 bits, upright, RGB or grey."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ImageOrPixels = Image.Image | NDArray[np.uint8]
"""Pillow's image of mode RGB or L, or its pixels, ``H x W x C`` uint8 with C 3 or 1."""

STRIP_PIXELS: Final = 2**20
"""Larger images are worked on in strips of about so many pixels."""


def as_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return ``H x W x C`` (or ``H x W``) pixels as Pillow's image, of mode RGB or L."""
    return Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def as_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return an image of mode RGB or L as ``H x W x C`` uint8, C being 3 or 1."""
    array = np.asarray(image, np.uint8)
    return array[:, :, None] if array.ndim == 2 else array


def strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield an image in strips from top to bottom, each with its first row."""
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))
