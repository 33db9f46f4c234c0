"""From a decoded image to what a network takes: the same value drives training and serving."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from striate.core.errors import UsageError
from striate.data.pixels import ImageOrPixels, as_image, as_pixels

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
ColourOrder = Literal["RGB", "BGR"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's colours as torchvision gives them: RGB, on the 0..1 scale."""

# Longer images lose their ends before they are resized: the centre is cut out anyway, and an image of
# 1 x 300,000 pixels would grow to gigabytes.
_LONGEST = 16

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """How a decoded image becomes a network's input.

    In this order: grey or colour; the shorter side resized; the centre cropped (or padded with ``fill``) to
    ``height_px x width_px``; divided by 255; ``mean`` subtracted, divided by ``std``; channels reordered.

    Attributes:
        channels: 1 (grey, by ITU-R 601 luma) or 3.
        height_px: input height of the network.
        width_px: input width of the network.
        resize_px: length that the shorter side is resized to before cropping. None: images that fit into the
            crop keep their size, and larger ones have their shorter side resized to the crop's.
        interpolation: resampling filter, antialiased when it shrinks.
        fill: level 0..255 of the border where the resized image is smaller than the crop.
        mean: one value per channel, in RGB order, on the 0..1 scale.
        std: one value per channel, in RGB order, on the 0..1 scale.
        colour_order: order of the channels that the network takes.
    """

    channels: int
    height_px: int
    width_px: int
    resize_px: int | None
    interpolation: Interpolation = "bilinear"
    fill: int = 0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    colour_order: ColourOrder = "RGB"

    def __post_init__(self) -> None:
        """Refuse values that do not go together."""
        for name in ("channels", "height_px", "width_px", "resize_px", "fill"):
            value = getattr(self, name)
            if not (name == "resize_px" and value is None) and (
                not isinstance(value, int) or value < (name != "fill")
            ):
                raise UsageError(f"preprocessing {name}: expected a whole number of pixels, got {value!r}")
        if self.channels not in (1, 3):
            raise UsageError(f"preprocessing takes 1 or 3 channels, got {self.channels}")
        if self.interpolation not in _RESAMPLING:
            raise UsageError(f"interpolation is one of {', '.join(_RESAMPLING)}, got {self.interpolation!r}")
        if len(self.mean) != self.channels or len(self.std) != self.channels or min(self.std) <= 0:
            raise UsageError(
                f"preprocessing takes {self.channels} means and {self.channels} positive standard deviations,"
                f" got {self.mean} and {self.std}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict; ``from_json`` reads it back to an equal value."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Preprocessing":
        """Read what ``to_json`` wrote.

        Raises:
            UsageError: a field is missing or unknown.
        """
        known = {f.name for f in fields(cls)}
        if unknown := set(record) - known:
            raise UsageError(f"preprocessing has unknown fields: {', '.join(sorted(unknown))}")
        try:
            values = {**record, "mean": tuple(record["mean"]), "std": tuple(record["std"])}
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise UsageError(f"preprocessing is incomplete: {error}") from None


def decode_side_px(preprocessing: Preprocessing) -> int | None:
    """Say how small a JPEG may be decoded (shorter side) so that resizing still sees twice what it needs.

    Returns:
        Pixels of the shorter side, or None when the image is not resized and must be decoded whole.
    """
    return None if preprocessing.resize_px is None else 2 * preprocessing.resize_px


def in_channels(image: ImageOrPixels, channels: int) -> NDArray[np.uint8]:
    """Return the pixels of a decoded image as ``H x W x channels`` uint8, grey by ITU-R 601 luma."""
    if isinstance(image, np.ndarray):
        if image.shape[2] == channels:
            return image
        image = as_image(image)
    mode = "L" if channels == 1 else "RGB"
    return as_pixels(image if image.mode == mode else image.convert(mode))


def resize_shorter(
    pixels: NDArray[np.uint8], side_px: int, interpolation: Interpolation
) -> NDArray[np.uint8]:
    """Resize so that the shorter side is ``side_px``; the longer side is rounded to the nearest pixel.

    Of an image more than 16 times as long as wide only the middle is kept.

    Args:
        pixels: ``H x W x C``.
        side_px: pixels.
        interpolation: see ``resize``.

    Returns:
        ``H' x W' x C``, the smaller of H' and W' being ``side_px``.
    """
    height, width = pixels.shape[:2]
    if max(width, height) > _LONGEST * min(width, height):
        half = _LONGEST * min(width, height) // 2
        rows = slice(max(0, height // 2 - half), height // 2 + half)
        columns = slice(max(0, width // 2 - half), width // 2 + half)
        pixels = pixels[rows, columns]
        height, width = pixels.shape[:2]
    scale = side_px / min(width, height)
    size = (max(side_px, round(height * scale)), max(side_px, round(width * scale)))
    return pixels if min(width, height) == side_px else resize(pixels, *size, interpolation)


def resize(
    pixels: NDArray[np.uint8], height_px: int, width_px: int, interpolation: Interpolation
) -> NDArray[np.uint8]:
    """Resize to ``height_px x width_px``, the filter widened when it shrinks, so that nothing aliases.

    Bilinear and bicubic are Pillow's filters, computed by torch several times as fast: less than
    one level in 200 of photographs differs, more of noise, by 1 or 2. The other two are Pillow's own.

    Args:
        pixels: ``H x W x C`` uint8.
        height_px: at least 1.
        width_px: at least 1.
        interpolation: resampling filter.

    Returns:
        ``height_px x width_px x C`` uint8; ``pixels`` itself where it has that size.
    """
    height, width, channels = pixels.shape
    if (height, width) == (height_px, width_px):
        return pixels
    if interpolation not in ("bilinear", "bicubic"):
        return as_pixels(as_image(pixels).resize((width_px, height_px), _RESAMPLING[interpolation]))
    whole = torch.from_numpy(np.require(pixels, requirements=("C", "W")))
    # As one image in the channels_last order, which torch knows by the strides alone.
    strides = (whole.numel(), 1, width * channels, channels)
    image = whole.as_strided((1, channels, height, width), strides)
    sized = functional.interpolate(image, (height_px, width_px), mode=interpolation, antialias=True)
    found: NDArray[np.uint8] = np.ascontiguousarray(sized[0].permute(1, 2, 0).numpy())
    return found


def centre(pixels: NDArray[np.uint8], height_px: int, width_px: int, fill: int) -> NDArray[np.uint8]:
    """Cut the centre out of ``H x W x C`` pixels, or put a border of level ``fill`` around them."""
    height, width, channels = pixels.shape
    if (height, width) == (height_px, width_px):
        return pixels
    top, left = (height - height_px) // 2, (width - width_px) // 2
    inner = pixels[max(top, 0) : max(top, 0) + height_px, max(left, 0) : max(left, 0) + width_px]
    if inner.shape[:2] == (height_px, width_px):
        return inner
    out = np.full((height_px, width_px, channels), fill, np.uint8)
    row, column = max(-top, 0), max(-left, 0)
    out[row : row + inner.shape[0], column : column + inner.shape[1]] = inner
    return out


def to_pixels(image: ImageOrPixels, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Apply everything up to the division by 255: the *u8* state.

    Args:
        image: a decoded 8-bit image.
        preprocessing: what to do.

    Returns:
        ``height_px x width_px x channels`` uint8, channels in RGB order.
    """
    pixels = in_channels(image, preprocessing.channels)
    side = preprocessing.resize_px
    if side is None and (
        pixels.shape[0] > preprocessing.height_px or pixels.shape[1] > preprocessing.width_px
    ):
        side = min(preprocessing.height_px, preprocessing.width_px)
    if side is not None:
        pixels = resize_shorter(pixels, side, preprocessing.interpolation)
    return centre(pixels, preprocessing.height_px, preprocessing.width_px, preprocessing.fill)


def normalise(pixels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Turn *u8* or *unit* images into *normed* ones.

    Args:
        pixels: ``N x H x W x C``, RGB order; uint8 (0..255) or float32 (0..1).
        preprocessing: gives mean, std and colour order.

    Returns:
        ``N x C x H x W`` float32 in the channels_last memory format.
    """
    mean = torch.tensor(preprocessing.mean, dtype=torch.float32, device=pixels.device)
    std = torch.tensor(preprocessing.std, dtype=torch.float32, device=pixels.device)
    if pixels.dtype == torch.uint8:
        normed = pixels.to(torch.float32).sub_(mean * 255.0).mul_(1.0 / (std * 255.0))
    else:
        normed = (pixels - mean) / std
    if preprocessing.colour_order == "BGR":
        normed = normed.flip(-1)
    return normed.permute(0, 3, 1, 2)
