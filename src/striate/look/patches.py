"""What a unit saw in its strongest images: the patch of its receptive field, and its projection to pixels."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from striate.anatomy.field import Axis, Field
from striate.core.choices import Rule
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.look.layers import device_of, field_of
from striate.look.map_panels import scale_end
from striate.look.picture import Box, Panel, signed_colours, tiles
from striate.look.signals import project
from striate.look.stream import ImageStream, fetch
from striate.look.strongest import Strongest

_IMAGES_AT_ONCE = 256
_GAP = 0.85  # light grey between tiles: neither the white of patches nor the grey of zero


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPatches:
    """The strongest images of one unit, cut to its receptive field.

    Attributes:
        unit: number of the map, or of the feature.
        values: activations, falling; at most k.
        numbers: of the images in the data set.
        names: of the images.
        places: row and column of the unit in its map.
        boxes: first row, first column, last row, last column in pixels of each patch; may lie outside the
            image.
        patches: ``k x height x width x 3`` in 0..1, mid grey outside the image.
        projections: ``k x C x height x width``, the signal that the rule sends back to the pixels; 0 outside.
        extensions: rules of the projection that the paper does not define.
    """

    unit: int
    values: tuple[float, ...]
    numbers: tuple[int, ...]
    names: tuple[str, ...]
    places: tuple[tuple[int, int], ...]
    boxes: tuple[Box, ...]
    patches: NDArray[np.float32]
    projections: NDArray[np.float32]
    extensions: tuple[str, ...] = ()


def patch_box(field: Field | None, row: int, column: int, input_shape: tuple[int, int, int]) -> Box:
    """Return the pixels that a patch shows: first row, first column, last row, last column.

    It is the receptive field of the unit, padding included, so that all patches of a layer have one size.
    Along an axis where the field is larger than the image, or where there is no one field, it is the image.
    """
    _, height, width = input_shape
    top, bottom = _ends(None if field is None else field.rows, row, height)
    left, right = _ends(None if field is None else field.columns, column, width)
    return top, left, bottom, right


def _ends(axis: Axis | None, unit: int, input_px: int) -> tuple[int, int]:
    return (0, input_px - 1) if axis is None or axis.size_px > input_px else axis.box(unit)


def cut(image: NDArray[np.float32], box: Box, fill: float) -> NDArray[np.float32]:
    """Cut a box, which may lie partly or wholly outside, out of ``H x W x ...`` pixels."""
    top, left, bottom, right = box
    out = np.full((bottom - top + 1, right - left + 1, *image.shape[2:]), fill, np.float32)
    inner_top, inner_left = max(top, 0), max(left, 0)
    inner = image[inner_top : max(bottom + 1, 0), inner_left : max(right + 1, 0)]
    if inner.size:
        row, column = inner_top - top, inner_left - left
        out[row : row + inner.shape[0], column : column + inner.shape[1]] = inner
    return out


def strongest_patches(
    net: nn.Module,
    images: ImageStream,
    strongest: Strongest,
    *,
    units: Sequence[int] | None = None,
    rule: Rule = "deconvnet",
    progress: Progress = silent,
) -> Iterator[UnitPatches]:
    """Cut out what units saw in their strongest images, and project each of these activations to pixels.

    The images are read again, at most 256 at a time.

    Args:
        net: the network.
        images: the data set of the pass.
        strongest: what ``find_strongest`` found for a layer.
        units: which units; None takes all.
        rule: of the projection: ``deconvnet``, ``guided`` or ``gradient``.
        progress: listener: units done.

    Yields:
        One value for each unit, in the order of ``units``.

    Raises:
        UsageError: no such unit, or a part of the network that the rule does not know.
        DataError: the data set changed since the pass.

    Paper: Zeiler and Fergus 2013, section 4 and Fig. 2: the patch beside the projection of the top 9.
    Departures: the paper does not say what a patch shows beyond the image's border; here it is mid grey.
    """
    count, k = strongest.values.shape
    chosen = list(range(count)) if units is None else list(units)
    if wrong := [unit for unit in chosen if not 0 <= unit < count]:
        raise UsageError(f"expected units 0 to {count - 1} of {strongest.layer}, got {wrong[0]}")
    device = device_of(net)
    step = max(1, _IMAGES_AT_ONCE // k)
    field: Field | None = None
    shape: tuple[int, int, int] | None = None
    for start in range(0, len(chosen), step):
        group = chosen[start : start + step]
        found = fetch(images, strongest.numbers[group].flatten().tolist())
        if shape is None:
            channels, height, width = next(iter(found.values())).shape
            shape = channels, height, width
            field = field_of(net, shape, strongest.layer) if strongest.map_size != (1, 1) else None
        for done, unit in enumerate(group, start + 1):
            numbers = strongest.numbers[unit].tolist()
            places = list(zip(strongest.rows[unit].tolist(), strongest.columns[unit].tolist(), strict=True))
            batch = torch.stack([found[n] for n in numbers])
            found_at = None if strongest.map_size == (1, 1) else places
            sent = project(net, batch.to(device), strongest.layer, channel=unit, at=found_at, rule=rule)
            maps = sent.maps.cpu().permute(0, 2, 3, 1).numpy()
            boxes = tuple(patch_box(field, row, column, shape) for row, column in places)
            shown = images.shown(batch)
            yield UnitPatches(
                unit=unit,
                values=tuple(strongest.values[unit].tolist()),
                numbers=tuple(numbers),
                names=tuple(strongest.names[n] for n in numbers),
                places=tuple(places),
                boxes=boxes,
                patches=np.stack([cut(one, box, 0.5) for one, box in zip(shown, boxes, strict=True)]),
                projections=np.stack(
                    [cut(one, box, 0.0).transpose(2, 0, 1) for one, box in zip(maps, boxes, strict=True)]
                ),
                extensions=sent.extensions,
            )
            progress("projections", done, len(chosen))


def patch_sheets(found: UnitPatches, *, tile_px: int = 90) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lay the projections and the patches of a unit out in two squares, as in the paper's Fig. 2.

    Each projection is on its own scale: zero is mid grey, and the scale ends where the largest 0.5 % of the
    magnitudes begin, so that a few strong pixels do not hide the rest.

    Args:
        found: of one unit.
        tile_px: longest side of a tile; larger patches are shrunk, the pixels of smaller ones enlarged by
            whole numbers.

    Returns:
        ``H x W x 3`` in 0..1, twice: projections, patches.
    """
    columns = math.ceil(math.sqrt(len(found.values)))
    small = _fitted(found.projections.transpose(0, 2, 3, 1), tile_px)
    ends = [scale_end(np.abs(one)) for one in small]
    signals = np.stack(
        [signed_colours(one.clip(-end, end))[..., :3] for one, end in zip(small, ends, strict=True)]
    )
    pixels = _fitted(found.patches, tile_px)
    gap = max(1, round(0.03 * max(pixels.shape[1:3])))
    return tiles(signals, columns, gap=gap, fill=_GAP), tiles(pixels, columns, gap=gap, fill=_GAP)


def _fitted(images: NDArray[np.float32], tile_px: int) -> NDArray[np.float32]:
    longest = max(images.shape[1:3])
    if longest <= tile_px:
        times = tile_px // longest
        return images.repeat(times, axis=1).repeat(times, axis=2)
    height, width = (max(1, round(side * tile_px / longest)) for side in images.shape[1:3])
    small = functional.interpolate(
        torch.from_numpy(images).permute(0, 3, 1, 2), (height, width), mode="bilinear", antialias=True
    )
    return small.permute(0, 2, 3, 1).numpy()


def patch_panels(found: Sequence[UnitPatches], *, pairs_in_row: int = 3) -> list[list[Panel]]:
    """Make panels of projections beside patches, a pair for each unit, for ``save_picture``."""
    panels: list[Panel] = []
    for one in found:
        signals, pixels = patch_sheets(one)
        first, last = one.values[0], one.values[-1]
        span = f"{first:.3g}" if len(one.values) == 1 else f"{first:.3g} to {last:.3g}"
        panels += [
            Panel(pixels=signals, title=f"unit {one.unit}: projections"),
            Panel(pixels=pixels, title=f"patches: {span}"),
        ]
    step = 2 * pairs_in_row
    return [panels[start : start + step] for start in range(0, len(panels), step)]
