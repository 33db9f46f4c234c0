"""The deconvnet's picture: the image, the patch that a unit sees, and its projection by each rule."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from striate.core.compute import Compute
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.look.deconvnet import UnitView, compare_rules, strongest_channels
from striate.look.gradcam import last_maps
from striate.look.inputs import ImageChoice, as_list, network_name, read_image, title_of
from striate.look.layers import on_device
from striate.look.map_panels import SHARE, scale_end
from striate.look.picture import Box, Panel, Picture, file_name, signed_colours
from striate.look.signals import Place
from striate.weights.open import OpenNetwork

_LONG = 1.5  # the longest a drawn patch may be, as a multiple of its width
_MOST = 24


def show_deconvnet(
    opened: OpenNetwork,
    image: ImageChoice,
    *,
    layer: str | None = None,
    unit: int | Sequence[int] | None = None,
    at: Place | None = None,
    top: int = 4,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Picture:
    """Show what in an image made units fire, by the deconvnet, guided backpropagation and the gradient.

    Args:
        opened: the network.
        image: one image, see ``inputs.read_images``.
        layer: path of a convolution, ReLU, pool, block or fully connected layer; None takes the last maps.
        unit: numbers of maps or features, at most 24; None takes the strongest in this image.
        at: row and column of the unit in its map; None: where the map is largest.
        top: how many of the strongest units, 1 to 24.
        compute: where; the numbers are fp32.
        progress: listener.

    Returns:
        A picture with the numbers ``deconvnet``, ``guided``, ``gradient`` (units x C x H x W), ``channels``,
        ``values``, ``places`` (row, column) and ``boxes``.

    Raises:
        UsageError: no such layer, unit or place, or a step that a rule does not cover.
    """
    asked = as_list(unit)
    if len(asked) > _MOST:
        raise UsageError(f"expected at most {_MOST} units on a picture, got {len(asked)}: pass fewer `unit`")
    if not 1 <= top <= _MOST:
        raise UsageError(f"expected 1 to {_MOST} units on a picture, got `top={top}`")
    found = read_image(image, opened.preprocessing)
    name = layer or last_maps(opened.net, opened.input_shape)
    device = compute.torch_device
    with on_device(opened.net, device) as net:
        normed = found.normed.to(device)
        channels = asked or strongest_channels(net, normed, name, top)
        views = compare_rules(
            net, normed, name, channels=channels, at=at, batch_images=compute.batch(16), progress=progress
        )
    chosen = "as asked for" if asked else "the strongest in this image, strongest first"
    where = "the place asked for" if at else "where each is largest"
    caption = (
        f"{title_of(opened)}; {found.names[0]}. One unit in each row: {chosen}; {where}. Its activation is"
        " sent back to the pixels; a ReLU with input x passes the signal R on where R > 0 (deconvnet), where"
        " x > 0 and R > 0 (guided), where x > 0 (gradient). A frame marks what the unit can"
        f" see by arithmetic; {SHARE:.1%} of the values lie inside each scale."
    )
    if extensions := sorted({extension for view in views for extension in view.extensions}):
        caption += f"\nNot defined by the deconvnet's paper: {'; '.join(extensions)}."
    return Picture(
        name=file_name("deconv", opened.name, layer or "", found.stem),
        rows=unit_rows(views, 0, shown=found.shown[0], colour_order=opened.preprocessing.colour_order),
        title=f"What makes units of {name} fire: {network_name(opened)}",
        caption=caption,
        numbers={
            **{
                rule: np.stack([view.projections[rule].maps[0].cpu().numpy() for view in views])
                for rule in views[0].projections
            },
            "channels": np.array([view.channel for view in views]),
            "values": np.array([float(view.values[0]) for view in views], np.float32),
            "places": np.array([view.places[0] or (0, 0) for view in views]),
            "boxes": np.array([view.boxes[0] for view in views]),
        },
    )


def unit_rows(
    views: Sequence[UnitView], number: int, *, shown: NDArray[np.float32], colour_order: str
) -> list[list[Panel]]:
    """Return a row of panels for each unit: the image, the patch that the unit sees, and the projections.

    The patch is left out where every unit sees the whole image.

    ``number`` is one of the images, ``shown`` that image in 0..1, ``H x W x 3``.
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
            maps = projection.maps[number].cpu().numpy().transpose(1, 2, 0)
            if colour_order == "BGR":
                maps = maps[:, :, ::-1]
            colours, limit = projection_colours(maps[top : bottom + 1, left : right + 1])
            scale = f"grey 0, scale \u00b1{limit:.2g}" if limit > 0 else "nothing: no signal arrives"
            row.append(Panel(pixels=colours, title=f"{rule}\n{scale}"))
        rows.append(row)
    return rows


def projection_colours(maps: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Turn a signed map into colours, zero as mid grey, on a scale that a few extreme values don't set.

    Args:
        maps: ``H x W x C``, RGB or one channel.

    Returns:
        Colours in 0..1, ``H x W x 3``, and the value at the end of the scale.
    """
    limit = scale_end(np.abs(maps))
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
