"""Panels of projections: the image, the patch that a unit sees, and what each rule says of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.look.deconvnet import UnitView
from striate.look.picture import Box, Panel, signed_colours

SHARE = 0.995
"""Of a projection's values, those inside the scale of its picture."""

_LONG = 1.5  # the longest a drawn patch may be, as a multiple of its width


def unit_rows(
    views: Sequence[UnitView], number: int, *, shown: NDArray[np.float32], colour_order: str
) -> list[list[Panel]]:
    """Return a row of panels for each unit: the image, the patch that the unit sees, what each rule says.

    The patch is left out where every unit sees the whole image.

    Args:
        views: the units.
        number: which of their images.
        shown: that image in 0..1, ``H x W x 3``.
        colour_order: of the normed channels, ``RGB`` or ``BGR``.
    """
    size = (shown.shape[0], shown.shape[1])
    whole = (0, 0, size[0] - 1, size[1] - 1)
    boxes = [drawn_box(view.boxes[number], size) for view in views]
    with_patch = any(box != whole for box in boxes)
    rows = []
    for view, box in zip(views, boxes, strict=True):
        top, left, bottom, right = box
        place = view.places[number]
        where = "" if place is None else f" at row {place[0]}, col. {place[1]}"
        row = [
            Panel(
                pixels=shown,
                title=f"unit {view.channel}{where}\nactivation {float(view.values[number]):.3g}",
                boxes=() if box == whole else (box,),
            )
        ]
        if with_patch:
            patch = shown[top : bottom + 1, left : right + 1]
            row.append(Panel(pixels=patch, title=f"what it sees\n{bottom - top + 1} x {right - left + 1} px"))
        for rule, projection in view.projections.items():
            maps = projection.maps[number].numpy().transpose(1, 2, 0)
            if colour_order == "BGR":
                maps = maps[:, :, ::-1]
            colours, limit = projection_colours(maps[top : bottom + 1, left : right + 1])
            said = f"grey 0, scale \u00b1{limit:.2g}" if limit > 0 else "nothing: no signal arrives"
            row.append(Panel(pixels=colours, title=f"{rule}\n{said}"))
        rows.append(row)
    return rows


def projection_colours(maps: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Turn a signed map into colours, zero as mid grey, on a scale that a few extreme values don't set.

    Args:
        maps: ``H x W x C``, RGB or one channel.

    Returns:
        Colours in 0..1, ``H x W x 3``, and the value that the ends of the scale stand for.
    """
    sizes = np.abs(maps)
    limit = float(np.quantile(sizes, SHARE)) or float(sizes.max())
    if limit == 0:
        return np.full((*maps.shape[:2], 3), 0.5, np.float32), 0.0
    return signed_colours(np.clip(maps / limit, -1, 1)), limit


def drawn_box(box: Box, size: tuple[int, int]) -> Box:
    """Return the box to cut out: never empty, and the whole image where it is nearly all of it."""
    top, left, bottom, right = box
    height, width = size
    if bottom < top or right < left or (bottom - top + 1) * (right - left + 1) > 0.95 * height * width:
        return 0, 0, height - 1, width - 1
    rows, columns = bottom - top + 1, right - left + 1
    if rows > _LONG * columns:  # cut by the image's border: keep the picture in shape
        left, right = _widen(left, right, round(rows / _LONG), width)
    elif columns > 2 * _LONG * rows:
        top, bottom = _widen(top, bottom, round(columns / (2 * _LONG)), height)
    return top, left, bottom, right


def _widen(first: int, last: int, wanted: int, size: int) -> tuple[int, int]:
    """Make a span longer inside the image."""
    first = max(0, min(first, size - wanted))
    return first, min(size - 1, max(last, first + wanted - 1))


def projection_arrays(views: Sequence[UnitView], number: int) -> dict[str, NDArray[Any]]:
    """Return the numbers of a picture, units first, for the file beside it."""
    arrays: dict[str, NDArray[Any]] = {
        str(rule): np.stack([view.projections[rule].maps[number].numpy() for view in views])
        for rule in views[0].projections
    }
    places = [view.places[number] or (0, 0) for view in views]
    return {
        **arrays,
        "channels": np.array([view.channel for view in views]),
        "values": np.array([float(view.values[number]) for view in views], np.float32),
        "places": np.array(places),
        "boxes": np.array([view.boxes[number] for view in views]),
    }
