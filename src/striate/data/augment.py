"""Random changes to training images, the same for (seed, epoch, image) whatever the number of threads.

Geometry (crop, flip) happens on uint8 pixels, colour on the 0..1 scale. Which numbers are drawn is a pure
function of the counters (seed, epoch, image index), see ``core.random``.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.random import normal, uniform
from striate.data.pixels import ImageOrPixels
from striate.data.preprocess import Preprocessing, in_channels, resize

CropFill = Literal["mean", "edge"]

# One stream of random numbers for each kind of change, so that switching one on does not move the others.
_CROP, _FLIP, _AREA, _COLOUR, _JITTER = range(5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """What may happen to a training image; the defaults change nothing.

    Attributes:
        crop_pad_px: border added on each side of the canvas before a random crop of the network's size is
            cut.
        crop_fill: level of that border: ``mean`` (the training mean, zero after normalisation, as He et al.
            2015 pad their mean-subtracted images) or ``edge`` (the nearest pixel is repeated).
        flip: mirror left to right with probability 1/2.
        resized_crop_area: smallest and largest fraction of the image's area for a random resized crop
            (Szegedy et al. 2014, sec. 6), or None for none.
        colour_pca_std: standard deviation of the multipliers in AlexNet's colour shift (2012, sec. 4.1), 0
            for none.
        brightness: multiply all levels by a factor from [1 - b, 1 + b].
        contrast: the same about the image's mean grey.
        saturation: the same about each pixel's grey.
    """

    crop_pad_px: int = 0
    crop_fill: CropFill = "mean"
    flip: bool = False
    resized_crop_area: tuple[float, float] | None = None
    colour_pca_std: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0


def random_crop(
    canvas: NDArray[np.uint8],
    size: tuple[int, int],
    augmentation: Augmentation,
    fill: NDArray[np.uint8],
    seed: int,
    epoch: int,
    indices: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Cut a random window out of each padded canvas and mirror half of them.

    Args:
        canvas: ``N x H x W x C`` uint8.
        size: height and width to cut, at most the padded canvas.
        augmentation: ``crop_pad_px``, ``crop_fill`` and ``flip`` are used.
        fill: C levels for the border when ``crop_fill`` is ``mean``.
        seed: of the run.
        epoch: counted from 0.
        indices: ``N`` image indices.

    Returns:
        ``N x height x width x C`` uint8.
    """
    pad = augmentation.crop_pad_px
    num, height, width, channels = canvas.shape
    if pad and augmentation.crop_fill == "edge":
        canvas = np.pad(canvas, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    elif pad:
        padded = np.empty((num, height + 2 * pad, width + 2 * pad, channels), np.uint8)
        padded[:] = fill
        padded[:, pad : pad + height, pad : pad + width] = canvas
        canvas = padded
    free_rows, free_columns = canvas.shape[1] - size[0], canvas.shape[2] - size[1]
    top = (uniform(seed, _CROP, epoch, indices, 0) * (free_rows + 1)).astype(np.int64).tolist()
    left = (uniform(seed, _CROP, epoch, indices, 1) * (free_columns + 1)).astype(np.int64).tolist()
    mirrored = (flips(seed, epoch, indices) if augmentation.flip else np.zeros(num, bool)).tolist()
    out = np.empty((num, *size, channels), np.uint8)
    for i in range(num):
        window = canvas[i, top[i] : top[i] + size[0], left[i] : left[i] + size[1]]
        out[i] = window[:, ::-1] if mirrored[i] else window
    return out


def flips(seed: int, epoch: int, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which images are mirrored in an epoch."""
    return uniform(seed, _FLIP, epoch, indices) < 0.5


@dataclass(frozen=True, slots=True)
class RandomArea:
    """A random resized crop before the image's size is known: tries of (area, aspect ratio, place)."""

    draws: NDArray[np.float64]

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return left, top, right, bottom in pixels of the first try that fits, else the central square."""
        for area, aspect, across, down in self.draws:
            box_width = round((width * height * area * aspect) ** 0.5)
            box_height = round((width * height * area / aspect) ** 0.5)
            if 0 < box_width <= width and 0 < box_height <= height:
                left = int(across * (width - box_width + 1))
                top = int(down * (height - box_height + 1))
                return left, top, left + box_width, top + box_height
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side


def draw_area(area: tuple[float, float], seed: int, epoch: int, index: int) -> RandomArea:
    """Draw ten tries of an area fraction from ``area`` and an aspect ratio from [3/4, 4/3] (log-uniform).

    Paper: Szegedy et al. 2014, "Going deeper with convolutions", sec. 6: 8 % to 100 % of the image area,
        aspect ratio between 3/4 and 4/3.
    Departures: the paper gives neither the distributions nor what happens when a try does not fit; both are
        as in common practice (uniform area, log-uniform ratio, ten tries, then the central square).
    """
    u = uniform(seed, _AREA, epoch, index, np.arange(40, dtype=np.int64)).reshape(10, 4)
    u[:, 0] = area[0] + u[:, 0] * (area[1] - area[0])
    u[:, 1] = (3 / 4) * (16 / 9) ** u[:, 1]
    return RandomArea(u)


def resized_crop(
    image: ImageOrPixels, area: RandomArea, preprocessing: Preprocessing, mirrored: bool
) -> NDArray[np.uint8]:
    """Cut the drawn area out of an image and resize it to the network's input; ``H x W x C`` uint8."""
    pixels = in_channels(image, preprocessing.channels)
    left, top, right, bottom = area.box(pixels.shape[1], pixels.shape[0])
    size = (preprocessing.height_px, preprocessing.width_px)
    cut = resize(pixels[top:bottom, left:right], *size, preprocessing.interpolation)
    return cut[:, ::-1] if mirrored else cut


def shift_colours(
    unit: torch.Tensor,
    augmentation: Augmentation,
    principal: NDArray[np.float64] | None,
    seed: int,
    epoch: int,
    indices: NDArray[np.int64],
) -> torch.Tensor:
    """Apply the photometric changes, in the order brightness, contrast, saturation, PCA shift.

    Args:
        unit: ``N x H x W x C`` float32 on the 0..1 scale; may be overwritten.
        augmentation: which changes, how strong.
        principal: ``C x C``; column i is the i-th principal direction of the training set's RGB values times
            its standard deviation (0..1 scale). Needed when ``colour_pca_std`` is positive and C is 3.
        seed: of the run.
        epoch: counted from 0.
        indices: ``N`` image indices.

    Returns:
        ``N x H x W x C`` float32, clipped to 0..1 after jitter (not after the PCA shift, as in the paper).

    Paper: Krizhevsky et al. 2012, sec. 4.1: add [p1 p2 p3][a1 l1, a2 l2, a3 l3]^T with a ~ N(0, 0.1), drawn
        once per use of an image.
    Departures: l is the standard deviation along p, as in the author's code (``pca_stdevs``), not the
        eigenvalue of the covariance: an eigenvalue changes with the square of the pixel scale, so the literal
        reading has no scale-free meaning. The order of the jitter is fixed.
    """

    def factors(stream: int, strength: float) -> torch.Tensor:
        u = uniform(seed, _JITTER, epoch, indices, stream)
        factor = torch.from_numpy((1.0 + strength * (2.0 * u - 1.0)).astype(np.float32))
        return factor.to(unit.device).view(-1, 1, 1, 1)

    def grey(images: torch.Tensor) -> torch.Tensor:
        if images.shape[-1] == 1:
            return images
        weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)
        return (images * weights).sum(-1, keepdim=True)

    if augmentation.brightness:
        unit = unit * factors(0, augmentation.brightness)
    if augmentation.contrast:
        middle = grey(unit).mean((1, 2, 3), keepdim=True)
        unit = torch.lerp(middle, unit, factors(1, augmentation.contrast))
    if augmentation.saturation and unit.shape[-1] == 3:
        unit = torch.lerp(grey(unit), unit, factors(2, augmentation.saturation))
    if augmentation.brightness or augmentation.contrast or augmentation.saturation:
        unit = unit.clamp(0.0, 1.0)
    if augmentation.colour_pca_std and principal is not None and unit.shape[-1] == 3:
        counters = np.arange(3, dtype=np.int64)[None, :]
        alpha = augmentation.colour_pca_std * normal(seed, _COLOUR, epoch, indices[:, None], counters)
        shift = torch.from_numpy((alpha @ principal.T).astype(np.float32)).to(unit.device)
        unit = unit + shift.view(-1, 1, 1, 3)
    return unit


def changes_colour(augmentation: Augmentation) -> bool:
    """Say whether any photometric change is on."""
    a = augmentation
    return bool(a.colour_pca_std or a.brightness or a.contrast or a.saturation)
