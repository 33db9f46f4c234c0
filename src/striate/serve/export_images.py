"""Images to check an exported network with: the user's, or those that come with scikit-learn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.core.errors import BrokenImageError, DataError
from striate.core.progress import Progress
from striate.data.dataset import fetch_pixels
from striate.data.find import find_images
from striate.data.preprocess import Preprocessing, decode_side_px, to_pixels
from striate.data.sources import open_source
from striate.serve.images import prepare

_NUM_IMAGES = 16


def sample_pixels(preprocessing: Preprocessing) -> tuple[NDArray[np.uint8], str]:
    """Return 16 images as a network takes them, ``16 x H x W x C`` uint8, and which these are, in words.

    Six of each of scikit-learn's two photos (all of it, its corners, its middle) and four handwritten digits.
    """
    from sklearn.datasets import load_digits, load_sample_images  # takes half a second

    images: list[Image.Image] = []
    for photo in load_sample_images().images:
        image = Image.fromarray(photo)
        wide, high = image.width // 2, image.height // 2
        images.append(image)
        for left, top in ((0, 0), (wide, 0), (0, high), (wide, high), (wide // 2, high // 2)):
            images.append(image.crop((left, top, left + wide, top + high)))
    for digit in load_digits().images[:4]:
        images.append(Image.fromarray(np.rint(digit * (255 / 16)).astype(np.uint8)))
    pixels = np.stack([to_pixels(image, preprocessing) for image in images])
    return pixels, "parts of scikit-learn's two photos, and its digits"


def given_pixels(
    where: str | Path | Sequence[str | Path], preprocessing: Preprocessing, progress: Progress
) -> tuple[NDArray[np.uint8], str]:
    """Read 16 evenly spaced images, or all if fewer.

    Args:
        where: files, folders and archives of any images, or data that ``open_source`` knows.
        preprocessing: of the network.
        progress: listener.

    Returns:
        ``M x H x W x C`` uint8, and which these are, in words.

    Raises:
        DataError: none can be read.
    """
    paths = [where] if isinstance(where, str | Path) else list(where)
    if all(Path(one).exists() and Path(one).suffix not in (".csv", ".jsonl") for one in paths):
        items = list(find_images(paths))
        name, number = ", ".join(map(str, paths)), len(items)

        def read(index: int) -> NDArray[np.uint8] | None:
            return prepare(items[index], preprocessing).pixels
    else:
        source = open_source(where if isinstance(where, str | Path) else paths, progress=progress)
        name, number = source.name, len(source)

        def read(index: int) -> NDArray[np.uint8] | None:
            try:
                return to_pixels(fetch_pixels(source, index, decode_side_px(preprocessing)), preprocessing)
            except BrokenImageError:
                return None

    if not number:
        raise DataError(f"no images in {name}: expected files such as .jpg or .png")
    chosen = np.unique(np.linspace(0, number - 1, _NUM_IMAGES).astype(int)).tolist()
    found = [pixels for index in chosen if (pixels := read(index)) is not None]
    if not found:
        raise DataError(f"{name}: none of {len(chosen)} images can be decoded: name others by `check`")
    return np.stack(found), name
