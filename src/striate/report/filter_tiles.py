"""The first layer's filters as one image of tiles."""

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.errors import DataError
from striate.look.filters import colours_of
from striate.look.picture import enlarged, tiles
from striate.report.images import InlineImage, inline

MAX_FILTERS = 256
_TILE_PX = 44


def first_layer_tiles(filters: NDArray[np.floating]) -> InlineImage:
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
    scale = filter_scale(filters)
    weights = torch.from_numpy(np.nan_to_num(tiles_of(filters)).clip(-scale, scale))
    colours = colours_of(weights, shared=True)[:MAX_FILTERS]
    opaque = np.ones((*colours.shape[:3], 4))
    opaque[..., :3] = colours
    columns = min(len(opaque), 8 if len(opaque) <= 64 else 12)
    return inline(tiles(enlarged(opaque, _TILE_PX), columns, gap=4, fill=0.0), sharp=True)


def filter_scale(filters: NDArray[np.floating]) -> float:
    """Return the weight that is drawn as white: the 99.5th percentile of the finite weights' magnitudes."""
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
