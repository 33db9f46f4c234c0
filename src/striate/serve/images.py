"""Images on their way to a network: files, folders, archives, and images in memory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.core.errors import BrokenImageError, DataError, UsageError
from striate.data.archives import is_archive
from striate.data.decode import decode_opened, decode_sized
from striate.data.find import Item, find_images
from striate.data.preprocess import Preprocessing, decode_side_px, to_pixels

ImageInMemory = bytes | Image.Image | NDArray[np.uint8]
"""An encoded file, Pillow's image, or ``H x W x 3`` (RGB) or ``H x W`` uint8 pixels."""

OneImage = str | Path | ImageInMemory | Item
"""A path (also of a folder or an archive), an image in memory, or an ``Item``."""

Images = OneImage | Iterable[OneImage]


@dataclass(frozen=True, slots=True)
class PixelItem:
    """An image that was decoded elsewhere.

    Attributes:
        file: its name.
        read: returns ``H x W x C`` uint8 pixels, C being 3 (RGB) or 1 (grey).
    """

    file: str
    read: Callable[[], NDArray[np.uint8]]


def is_one_image(images: Images) -> bool:
    """Say whether it is one image: Pillow's, bytes, pixels, or a path of no folder and no archive."""
    if isinstance(images, str | Path):
        path = Path(images)
        return not path.is_dir() and not is_archive(path)
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    return isinstance(images, bytes | Image.Image | Item)


def items_of(images: Images) -> Iterator[Item | PixelItem]:
    """List images by name, to be read later.

    Those in memory are called ``image``, in a collection ``image 1``, ``image 2`` ...; Pillow's by the file
    that they were opened from. An array of four dimensions is a collection. A list or tuple is checked at
    once, any other iterable while it is read.

    Raises:
        UsageError: a path does not exist, an array does not hold pixels, or it is no image at all.
        DataError: an archive is damaged or hostile.
    """
    if isinstance(images, np.ndarray) and images.ndim == 4:
        images = list(images)
    if isinstance(images, list | tuple):
        return chain.from_iterable([_items(one, f"image {k}") for k, one in enumerate(images, 1)])
    if isinstance(images, str | bytes | np.ndarray) or not isinstance(images, Iterable):
        return _items(images, "image")
    return chain.from_iterable(_items(one, f"image {k}") for k, one in enumerate(images, 1))


def _items(image: object, name: str) -> Iterator[Item | PixelItem]:
    if isinstance(image, str | Path):
        return find_images([image])
    if isinstance(image, Item):
        return iter((image,))
    if isinstance(image, bytes):
        return iter((Item(name, lambda: image),))
    if isinstance(image, Image.Image):
        name = str(getattr(image, "filename", "") or name)
        return iter((PixelItem(name, partial(decode_opened, image, file=name)),))
    if isinstance(image, np.ndarray):
        pixels = _pixels(image)
        return iter((PixelItem(name, lambda: pixels),))
    raise UsageError(
        f"expected an image (a path, bytes, Pillow's image, or uint8 pixels of H x W x 3),"
        f" got {type(image).__name__}: convert it first"
    )


def _pixels(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pixels = array[:, :, None] if array.ndim == 2 else array
    if array.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] in (1, 3) and pixels.size:
        return pixels
    remedy = "scale it to 0..255 and round it" if array.dtype != np.uint8 else "put the three colours last"
    raise UsageError(
        f"expected uint8 pixels of H x W x 3 (RGB) or H x W (grey), got {array.dtype} of"
        f" {' x '.join(map(str, array.shape)) or 'no dimensions'}: {remedy}"
    )


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image on its way to the network.

    Attributes:
        file: its name.
        pixels: ``H x W x C`` uint8 of the network's input size; None when the image is broken.
        error: why the image could not be read, or None.
    """

    file: str
    pixels: NDArray[np.uint8] | None
    error: str | None = None


def prepare(item: Item | PixelItem, preprocessing: Preprocessing) -> Prepared:
    """Read, decode, resize and crop one image; a broken one is a result, not an error."""
    try:
        image = item.read()
        if isinstance(image, bytes):
            image = decode_sized(image, file=item.file, min_side_px=decode_side_px(preprocessing)).pixels
        return Prepared(item.file, to_pixels(image, preprocessing))
    except BrokenImageError as error:
        return Prepared(item.file, None, error.reason)
    except DataError as error:
        return Prepared(item.file, None, str(error))


def read_pixels(images: Images, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Read images into memory as a network takes them, ``N x H x W x C`` uint8.

    Raises:
        BrokenImageError: one can't be read.
        UsageError: see ``items_of``; or there is no image.
    """
    pixels = []
    for item in items_of(images):
        one = prepare(item, preprocessing)
        if one.pixels is None:
            raise BrokenImageError(one.file, one.error or "can't be read")
        pixels.append(one.pixels)
    if not pixels:
        raise UsageError("expected at least one image, got none: check the path")
    return np.stack(pixels)
