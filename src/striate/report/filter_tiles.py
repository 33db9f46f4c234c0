"""The first layer's filters as one picture of tiles."""

import math

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import DataError
from striate.report.svg import png

MAX_FILTERS = 256
TILE_PX = 44


def first_layer_tiles(filters: NDArray[np.floating]) -> bytes:
    """Draw the first layer's filters side by side, enlarged without smoothing.

    All filters share one scale that is symmetric about zero: mid-grey is 0, white (or full colour) is
    ``filter_scale(filters)``, black is its negative, and what lies beyond is clipped. So a dead filter looks
    dead, and strong and weak ones can be told apart. Filters with 3 inputs are shown in colour; with any
    other number, each input gets a grey tile of its own.

    Args:
        filters: weights, ``out x in x k x k``.

    Returns:
        PNG with transparent gaps; 8 tiles in a row up to 64 tiles, 12 beyond, at most 256 tiles.

    Raises:
        DataError: the weights are not ``out x in x k x k`` or are empty.
    """
    tiles = tiles_of(filters)[:MAX_FILTERS]
    shades = 0.5 + 0.5 * np.clip(np.nan_to_num(tiles) / (filter_scale(filters) or 1.0), -1.0, 1.0)
    num, side, gap = len(tiles), tiles.shape[-1], 4
    enlarge = max(1, round(TILE_PX / side))
    pixels = np.round(255 * shades).astype(np.uint8).transpose(0, 2, 3, 1)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3)).repeat(enlarge, axis=1).repeat(enlarge, axis=2)
    num_columns = min(num, 8 if num <= 64 else 12)
    num_rows = math.ceil(num / num_columns)
    pitch = side * enlarge + gap
    sheet = np.zeros((num_rows * pitch - gap, num_columns * pitch - gap, 4), np.uint8)
    for i, tile in enumerate(pixels):
        top, left = pitch * (i // num_columns), pitch * (i % num_columns)
        sheet[top : top + pitch - gap, left : left + pitch - gap] = np.dstack(
            [tile, np.full(tile.shape[:2], 255, np.uint8)]
        )
    return png(sheet)


def filter_scale(filters: NDArray[np.floating]) -> float:
    """Return the weight that is drawn as white: the 99.5th percentile of the finite weights' sizes."""
    sizes = np.abs(filters[np.isfinite(filters)])
    return float(np.percentile(sizes, 99.5)) if sizes.size else 0.0


def tiles_of(filters: NDArray[np.floating]) -> NDArray[np.floating]:
    """Split weights into the tiles that are drawn: whole colour filters, else one tile for each input."""
    if filters.ndim != 4 or filters.size == 0:
        raise DataError(
            f"expected first-layer weights of shape out x in x k x k, got {filters.shape}:"
            " pass the weight of a convolution, or None"
        )
    if filters.shape[1] == 3:
        return filters
    return filters.reshape(-1, 1, *filters.shape[2:])
