"""Panels of maps: on a scale that a few extreme values don't set, and the image shaded by a map."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.look.picture import Panel

SHARE = 0.995
"""Of a map's values, those inside its scale."""

_DARK = 0.12  # what is left of the image where a map is zero


def scale_end(magnitudes: NDArray[Any]) -> float:
    """Return where a map's scale ends: ``SHARE`` of the magnitudes lie below; 0 for a map of zeros."""
    return float(np.quantile(magnitudes, SHARE)) or float(magnitudes.max())


def map_panel(amounts: NDArray[np.float32], *, title: str, scale: str) -> Panel:
    """Draw a map of amounts, from zero.

    ``amounts`` are ``H x W``, at least 0; ``scale`` says what they are.
    """
    limits = (0.0, scale_end(amounts) or 1.0)
    return Panel(pixels=amounts, title=title, colours="magma", limits=limits, scale=scale)


def shaded_panel(image: NDArray[np.float32], amounts: NDArray[np.float32], *, title: str) -> Panel:
    """Show an image, dark where a map is low.

    The image is ``H x W x 3`` in 0..1, the amounts are ``H x W``, at least 0.
    """
    light = np.clip(amounts / (scale_end(amounts) or 1.0), 0, 1)
    return Panel(pixels=image * (_DARK + (1 - _DARK) * light)[:, :, None], title=title)
