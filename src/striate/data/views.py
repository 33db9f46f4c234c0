"""Several views of one image, as published evaluation protocols cut them: pure geometry on *u8* pixels.

What the views are averaged for is in ``score.protocol``. Every function takes a decoded image and the
``Preprocessing`` of a network; pixels keep RGB order and are not normalised.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import UsageError
from striate.data.pixels import ImageOrPixels
from striate.data.preprocess import (
    Preprocessing,
    centre,
    in_channels,
    resize,
    resize_shorter,
    to_pixels,
)

Pixels = NDArray[np.uint8]

SMALL_PX = 64
"""Crops for networks up to this size come from a border around the image, not from a larger scale."""

_CROP_PX, _CANVAS_PX = 224, 256  # Krizhevsky 2012, section 2: 224 px crops of 256 px images
_MANY_SCALES_PX = (256, 288, 320, 352)  # Szegedy 2014, section 7, for crops of 224 px


@dataclass(frozen=True, slots=True)
class Canvas:
    """What crops are cut from.

    Attributes:
        side_px: the shorter side is resized to it and the central square kept; None: what the network sees
            in a single crop.
        pad_px: border on each side, 0 for none.
    """

    side_px: int | None
    pad_px: int = 0


def input_side_px(preprocessing: Preprocessing) -> int:
    """Return the longer side of the network's input."""
    return max(preprocessing.height_px, preprocessing.width_px)


def in_proportion(px: int, preprocessing: Preprocessing) -> int:
    """Scale a length that a paper gives for crops of 224 px to this network's crop."""
    return round(px * input_side_px(preprocessing) / _CROP_PX)


def choose_canvas(
    preprocessing: Preprocessing, *, side_px: int | None = None, pad_px: int | None = None
) -> Canvas:
    """Choose what ten crops are cut from.

    A bundle that resizes images to more than its crop (256 for 224) gives that size. Otherwise networks of at
    most 64 px get a border of 1/8 of their input (4 px at 32), and larger ones 256/224 of it.

    Args:
        preprocessing: of the network.
        side_px: the user's own shorter side, at least the network's input.
        pad_px: the user's own border in pixels, at least 1.

    Raises:
        UsageError: both are given, or they leave no room for a crop.

    Paper: Krizhevsky et al. 2012, sections 2 and 4.1 (256 px for crops of 224); the border is that of He et
        al. 2015, section 4.2, where it serves training.
    Departures: other sizes in proportion; no paper gives ten crops for images of 32 px.
    """
    crop = input_side_px(preprocessing)
    if side_px is not None and pad_px is not None:
        raise UsageError("expected `canvas` or `pad`, got both: one resizes, the other adds a border")
    if pad_px is not None:
        if pad_px < 1:
            raise UsageError(f"expected `pad` of at least 1 px, got {pad_px}: He et al. take 4 at 32 px")
        return Canvas(None, pad_px)
    if side_px is not None:
        if side_px < crop:
            raise UsageError(
                f"expected `canvas` of at least {crop} px, the network's input, got {side_px}:"
                f" {in_proportion(_CANVAS_PX, preprocessing)} is usual"
            )
        return Canvas(side_px)
    if preprocessing.resize_px is not None and preprocessing.resize_px > crop:
        return Canvas(preprocessing.resize_px)
    if crop <= SMALL_PX:
        return Canvas(None, max(1, round(crop / 8)))
    return Canvas(in_proportion(_CANVAS_PX, preprocessing))


def many_scales(preprocessing: Preprocessing) -> tuple[int, ...]:
    """Return the shorter sides of the 144 crops: 256, 288, 320, 352 px for 224 px, else in proportion."""
    return tuple(in_proportion(px, preprocessing) for px in _MANY_SCALES_PX)


def mirrored(views: Pixels) -> Pixels:
    """Append the mirror image of every view: ``V x H x W x C`` to ``2V x H x W x C``."""
    return np.concatenate([views, views[:, :, ::-1]])


def single_crop(image: ImageOrPixels, preprocessing: Preprocessing) -> Pixels:
    """Return the one view that training validates and prediction uses: ``1 x H x W x C``."""
    return to_pixels(image, preprocessing)[None]


def on_canvas(image: ImageOrPixels, preprocessing: Preprocessing, canvas: Canvas) -> Pixels:
    """Bring an image to the canvas: ``S x S x C``, or the padded single crop.

    The border continues at the level ``fill`` where the image already has one (it is smaller than the
    network's input), else at ``mean``, which is zero to the network, as in training.
    """
    if canvas.side_px is not None:
        resized = resize_shorter(
            in_channels(image, preprocessing.channels), canvas.side_px, preprocessing.interpolation
        )
        return centre(resized, canvas.side_px, canvas.side_px, preprocessing.fill)
    decoded = in_channels(image, preprocessing.channels)
    pixels = to_pixels(decoded, preprocessing)
    if not canvas.pad_px:
        return pixels
    height, width, channels = pixels.shape
    smaller = decoded.shape[0] < height or decoded.shape[1] < width
    bordered = preprocessing.resize_px is None and smaller
    level = (
        np.full(channels, preprocessing.fill, np.uint8)
        if bordered
        else np.clip(np.rint(np.array(preprocessing.mean) * 255.0), 0, 255).astype(np.uint8)
    )
    out = np.empty((height + 2 * canvas.pad_px, width + 2 * canvas.pad_px, channels), np.uint8)
    out[:] = level
    out[canvas.pad_px : canvas.pad_px + height, canvas.pad_px : canvas.pad_px + width] = pixels
    return out


def five_crops(square: Pixels, height_px: int, width_px: int) -> Pixels:
    """Cut the four corners and the centre: top left, top right, bottom left, bottom right, centre.

    Args:
        square: ``S x T x C``, at least as large as the crop.
        height_px: height of a crop.
        width_px: width of a crop.

    Returns:
        ``5 x height_px x width_px x C``. Where the room is odd the centre is nearer to the top left.
    """
    down, across = square.shape[0] - height_px, square.shape[1] - width_px
    corners = ((0, 0), (0, across), (down, 0), (down, across), (down // 2, across // 2))
    return np.stack([square[top : top + height_px, left : left + width_px] for top, left in corners])


def ten_crops(image: ImageOrPixels, preprocessing: Preprocessing, canvas: Canvas) -> Pixels:
    """Cut the four corners and the centre out of the canvas, and their mirror images.

    Returns:
        ``10 x H x W x C``: the five, then their mirrors in the same order.

    Paper: Krizhevsky et al. 2012, section 4.1.
    Departures: ``choose_canvas`` for networks of other sizes.
    """
    square = on_canvas(image, preprocessing, canvas)
    return mirrored(five_crops(square, preprocessing.height_px, preprocessing.width_px))


def many_crops(image: ImageOrPixels, preprocessing: Preprocessing, scales_px: Sequence[int]) -> Pixels:
    """Cut Szegedy's crops: at each scale three squares, of each six views, and all mirrors.

    The squares are the first, the middle and the last along the longer side, as wide as the shorter side is.
    The six views of a square are its corners, its centre, and the whole square resized to the crop. Four
    scales give 144.

    Args:
        image: decoded.
        preprocessing: of the network.
        scales_px: shorter sides, each at least the network's input.

    Returns:
        ``36 len(scales_px) x H x W x C``: by scale, then plain and mirrored, then by square, then the six.

    Paper: Szegedy et al. 2014, section 7.
    Departures: ``many_scales`` for crops of other sizes; for a network whose input is no square the whole
        square is resized to the input's shape.
    """
    pre = preprocessing
    decoded = in_channels(image, pre.channels)
    height, width = pre.height_px, pre.width_px
    found = []
    for side in scales_px:
        scaled = resize_shorter(decoded, side, pre.interpolation)
        room = (scaled.shape[0] - side, scaled.shape[1] - side)  # one of them is 0
        views = []
        for top, left in ((0, 0), (room[0] // 2, room[1] // 2), room):
            square = scaled[top : top + side, left : left + side]
            views.append(five_crops(square, height, width))
            views.append(resize(square, height, width, pre.interpolation)[None])
        found.append(mirrored(np.concatenate(views)))
    return np.concatenate(found)


def whole_image(image: ImageOrPixels, preprocessing: Preprocessing, canvas: Canvas) -> Pixels:
    """Return the whole image and its mirror for dense evaluation.

    Args:
        image: decoded.
        preprocessing: of the network.
        canvas: ``side_px`` is what the shorter side is resized to; nothing is cut off the longer side (of an
            image more than 16 times as long as wide only the middle is kept). Without it the padded single
            crop is taken.

    Returns:
        ``2 x H' x W' x C``.

    Paper: Simonyan and Zisserman 2015, section 3.2: the shorter side becomes Q; Q is ``side_px``.
    Departures: the limit on the longer side.
    """
    if canvas.side_px is None:
        return mirrored(on_canvas(image, preprocessing, canvas)[None])
    decoded = in_channels(image, preprocessing.channels)
    return mirrored(resize_shorter(decoded, canvas.side_px, preprocessing.interpolation)[None])
