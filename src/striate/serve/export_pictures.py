"""Real pictures to check an exported network with, where the user names none."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.data.preprocess import Preprocessing, to_pixels

PICTURES = "parts of scikit-learn's two photos, and its digits"
"""What ``check_pictures`` gives, in words."""


def check_pictures(preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return 16 real pictures as a network takes them.

    Six of each of scikit-learn's two photos (all of it, its corners, its middle) and four handwritten digits.

    Args:
        preprocessing: of the network.

    Returns:
        ``16 x H x W x C`` uint8.
    """
    from sklearn.datasets import load_digits, load_sample_images  # takes half a second

    pictures: list[Image.Image] = []
    for photo in load_sample_images().images:
        image = Image.fromarray(photo)
        wide, high = image.width // 2, image.height // 2
        pictures.append(image)
        for left, top in ((0, 0), (wide, 0), (0, high), (wide, high), (wide // 2, high // 2)):
            pictures.append(image.crop((left, top, left + wide, top + high)))
    for digit in load_digits().images[:4]:
        pictures.append(Image.fromarray(np.rint(digit * (255 / 16)).astype(np.uint8)))
    return np.stack([to_pixels(picture, preprocessing) for picture in pictures])
