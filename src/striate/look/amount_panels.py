"""Panels of amounts over an image: heat maps, and the image lit where they are high."""

import numpy as np
from numpy.typing import NDArray

from striate.look.picture import Panel

SHARE = 0.995
"""Of a heat map's values, those inside its scale."""

_DARK = 0.12  # what is left of the image where a map is zero


def heat_panel(amounts: NDArray[np.float32], *, title: str, scale: str) -> Panel:
    """Draw amounts, from zero to a value that a few extreme ones don't set.

    Args:
        amounts: ``H x W``, at least 0.
        title: above the panel.
        scale: what the amounts are.
    """
    return Panel(
        pixels=amounts, title=title, colours="magma", limits=(0.0, _end(amounts) or 1.0), scale=scale
    )


def lit_panel(image: NDArray[np.float32], amounts: NDArray[np.float32], *, title: str) -> Panel:
    """Show an image as bright as a map is high.

    Args:
        image: in 0..1, ``H x W x 3``.
        amounts: ``H x W``, at least 0.
        title: above the panel.
    """
    light = np.clip(amounts / (_end(amounts) or 1.0), 0, 1)
    return Panel(pixels=image * (_DARK + (1 - _DARK) * light)[:, :, None], title=title)


def _end(amounts: NDArray[np.float32]) -> float:
    return float(np.quantile(amounts, SHARE)) or float(amounts.max())
