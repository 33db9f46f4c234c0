"""Empirical receptive fields: where small occluders change a unit, averaged over its strongest images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from striate.anatomy.field import Axis, Field
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.look.layers import field_of
from striate.look.occlusion import grid_of
from striate.look.running import map_of, reading
from striate.look.signals import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class EmpiricalField:
    """What changes a unit, measured, beside what can change it, by arithmetic.

    Attributes:
        layer: path of the module.
        unit: number of the map.
        mean: ``(2 r + 1) x (2 c + 1)``, the mean discrepancy at each pixel around the centre of the unit's
            theoretical field, which is the middle; NaN where no image has pixels.
        maps: ``N x H x W``, the discrepancy of each image, at its own pixels: how much the activation changes
            when an occluder is centred there; NaN where no occluder can be centred.
        values: ``N`` activations without an occluder.
        places: row and column of the unit in its map, for each image.
        centres: row and column in pixels of the centre of its field, for each image; halves are possible.
        theoretical: first row, first column, last row, last column of the theoretical field in ``mean``; may
            reach over its edges. None where there is no one field.
        occluder_px: side of the occluders.
        stride_px: between their places.
    """

    layer: str
    unit: int
    mean: Tensor
    maps: Tensor
    values: Tensor
    places: tuple[Place, ...]
    centres: tuple[tuple[float, float], ...]
    theoretical: tuple[int, int, int, int] | None
    occluder_px: int
    stride_px: int

    def inside(self, share: float = 0.5) -> Tensor:
        """Return the pixels of ``mean`` that count: those above ``share`` of its maximum, bool."""
        if not 0 < share < 1:
            raise UsageError(f"expected a share of the maximum between 0 and 1, got {share}")
        known = self.mean.nan_to_num(0)
        return known > share * known.max()

    def size_px(self, share: float = 0.5) -> float:
        """Return the side of the square whose area is that of ``inside(share)``.

        Raises:
            UsageError: ``share`` is not between 0 and 1.
        """
        return math.sqrt(int(self.inside(share).sum()))


def empirical_field(
    net: nn.Module,
    images: Tensor,
    layer: str,
    *,
    unit: int,
    generator: torch.Generator,
    at: Sequence[Place] | None = None,
    occluder_px: int = 11,
    stride_px: int = 3,
    low: Tensor | None = None,
    high: Tensor | None = None,
    everywhere: bool = False,
    batch_images: int = 64,
    progress: Progress = silent,
) -> EmpiricalField:
    """Measure the receptive field of a unit by covering its strongest images, one small square at a time.

    A square of random pixels is put at every place of a dense grid. The discrepancy is how far
    the activation of the unit, at its own place in the map, moves from that of the whole image. The maps are
    laid over each other so that the centres of the unit's theoretical fields meet, and averaged, each pixel
    over the images that have it.

    Args:
        net: the network.
        images: ``N x C x H x W``, normed: the images that excite the unit most (``find_strongest``).
        layer: path of a module that gives maps.
        unit: number of the map.
        generator: draws the occluders, on the CPU; the same whatever the batch size.
        at: row and column of the unit in each image; None takes where its map is largest.
        occluder_px: side of the occluders.
        stride_px: pixels between two places.
        low: ``C`` values, the smallest of each channel's random pixels; None takes the images' own smallest.
        high: ``C`` values, the largest.
        everywhere: also run the occluders that don't touch the unit's theoretical field. They change nothing
            (they are there for a check), and by default they are not run.
        batch_images: occluded images in a forward pass; it changes memory, not results.
        progress: listener: occluders done.

    Raises:
        UsageError: no such layer or unit, no maps, or an occluder that does not fit into the image.

    Paper: Zhou, Khosla, Lapedriza, Oliva, Torralba 2015 (arXiv 1412.6856), section 3.2: random occluders of
        11 x 11 at stride 3, about 5,000 an image of 224 x 224.
    Departures: the paper does not say how pixels between two places get their value (here: bilinear), what
        becomes of pixels that not all images have (here: the mean over those that do), or what makes the area
        that it measures (here: ``inside``).
    """
    count, channels, height, width = images.shape
    if not 1 <= occluder_px <= min(height, width) or stride_px < 1:
        raise UsageError(
            f"expected occluders of 1 to {min(height, width)} px at a stride of at least 1,"
            f" got {occluder_px} px at {stride_px}"
        )
    if not count:
        raise UsageError("expected at least one image, got none")
    shape = (channels, height, width)
    field = field_of(net, shape, layer)
    grid = grid_of(height, width, occluder_px, stride_px)
    tops, lefts = grid.tops, grid.lefts
    low = images.amin((0, 2, 3)) if low is None else low.to(images)
    high = images.amax((0, 2, 3)) if high is None else high.to(images)
    maps, values, places = [], [], []
    with reading(net, [layer], images[:1]) as run:
        for number, image in enumerate(images):
            reader = _Reader(layer, unit, None if at is None else at[number])
            run(image[None], reader.take)
            assert reader.place is not None
            value, place = reader.values[0], reader.place
            noise = torch.rand(
                len(tops) * len(lefts), channels, occluder_px, occluder_px, generator=generator
            )
            changed = torch.zeros(len(tops), len(lefts), dtype=torch.float64)
            wanted = [
                (row, column)
                for row in range(len(tops))
                for column in range(len(lefts))
                if everywhere or _meets(field, place, tops[row], lefts[column], occluder_px)
            ]
            for start in range(0, len(wanted), batch_images):
                group = wanted[start : start + batch_images]
                occluded = image.repeat(len(group), 1, 1, 1)
                for copy, (row, column) in zip(occluded, group, strict=True):
                    top, left = tops[row], lefts[column]
                    square = noise[row * len(lefts) + column].to(images)
                    copy[:, top : top + occluder_px, left : left + occluder_px] = (
                        low[:, None, None] + (high - low)[:, None, None] * square
                    )
                reader.values = torch.zeros(0)
                run(occluded, reader.take)
                rows, columns = zip(*group, strict=True)
                changed[list(rows), list(columns)] = (reader.values - value).abs().double().cpu()
                progress("occluders", number * len(wanted) + start + len(group), count * len(wanted))
            maps.append(_to_pixels(changed, tops, lefts, occluder_px, (height, width)))
            values.append(value)
            places.append(place)
    centres = tuple(_centre(field, place, height, width) for place in places)
    mean, theoretical = _laid_over(maps, centres, field, (height, width), occluder_px)
    return EmpiricalField(
        layer=layer,
        unit=unit,
        mean=mean,
        maps=torch.stack(maps),
        values=torch.stack(values).cpu(),
        places=tuple(places),
        centres=centres,
        theoretical=theoretical,
        occluder_px=occluder_px,
        stride_px=stride_px,
    )


class _Reader:
    """Reads one unit at one place; the first image decides the place."""

    def __init__(self, layer: str, unit: int, place: Place | None) -> None:
        self.layer, self.unit, self.place = layer, unit, place
        self.values = torch.zeros(0)

    def take(self, layer: str, maps: Tensor) -> None:
        chosen = map_of(layer, maps, self.unit)
        rows, columns = chosen.shape[1:]
        if self.place is None:
            self.place = divmod(int(chosen[0].argmax()), columns)
        row, column = self.place
        if not (0 <= row < rows and 0 <= column < columns):
            raise UsageError(f"expected a place in maps of {rows} x {columns} of {layer}, got {row},{column}")
        self.values = chosen[:, row, column].clone()


def _meets(field: Field | None, place: Place, top: int, left: int, occluder_px: int) -> bool:
    """Tell whether an occluder covers a pixel of the unit's theoretical field."""
    if field is None:
        return True
    first_row, last_row = field.rows.box(place[0])
    first_column, last_column = field.columns.box(place[1])
    return (
        top <= last_row
        and top + occluder_px > first_row
        and left <= last_column
        and left + occluder_px > first_column
    )


def _to_pixels(
    changed: Tensor, tops: Sequence[int], lefts: Sequence[int], occluder_px: int, size: tuple[int, int]
) -> Tensor:
    """Give each pixel the discrepancy of the occluder centred on it, by bilinear interpolation."""
    middle = (occluder_px - 1) / 2
    rows = interpolation([top + middle for top in tops], size[0])
    columns = interpolation([left + middle for left in lefts], size[1])
    inside = rows @ changed @ columns.T
    out = torch.full(size, torch.nan, dtype=torch.float64)
    first_row, last_row = math.ceil(tops[0] + middle), math.floor(tops[-1] + middle)
    first_column, last_column = math.ceil(lefts[0] + middle), math.floor(lefts[-1] + middle)
    covered = slice(first_row, last_row + 1), slice(first_column, last_column + 1)
    out[covered] = inside[covered]
    return out.float()


def interpolation(places: Sequence[float], pixels: int) -> Tensor:
    """Return the matrix that takes numbers at some places to all pixels, linearly, the ends held.

    Args:
        places: rising.
        pixels: how many; pixel i is at place i.

    Returns:
        ``pixels x places``, float64; every row sums to 1.
    """
    at = np.arange(pixels)
    columns = [np.interp(at, places, one) for one in np.eye(len(places))]
    return torch.from_numpy(np.stack(columns, axis=1))


def _centre(field: Field | None, place: Place, height: int, width: int) -> tuple[float, float]:
    if field is None:
        return (height - 1) / 2, (width - 1) / 2
    return _middle(field.rows, place[0]), _middle(field.columns, place[1])


def _middle(axis: Axis, unit: int) -> float:
    first, last = axis.box(unit)
    return (first + last) / 2


def _laid_over(
    maps: Sequence[Tensor],
    centres: Sequence[tuple[float, float]],
    field: Field | None,
    size: tuple[int, int],
    occluder_px: int,
) -> tuple[Tensor, tuple[int, int, int, int] | None]:
    """Average maps around their centres; a centre between two pixels is taken at the lower one."""
    axes = (None, None) if field is None else (field.rows, field.columns)
    reaches = [
        side - 1 if axis is None else min(side - 1, axis.size_px // 2 + occluder_px)
        for axis, side in zip(axes, size, strict=True)
    ]
    total = torch.zeros(2 * reaches[0] + 1, 2 * reaches[1] + 1, dtype=torch.float64)
    seen = torch.zeros_like(total)
    for one, (row, column) in zip(maps, centres, strict=True):
        (to_rows, from_rows), (to_columns, from_columns) = (
            _overlap(math.floor(centre), reach, side)
            for centre, reach, side in zip((row, column), reaches, size, strict=True)
        )
        piece = one[from_rows, from_columns].double()
        total[to_rows, to_columns] += piece.nan_to_num(0)
        seen[to_rows, to_columns] += ~piece.isnan()
    mean = torch.where(seen > 0, total / seen, torch.nan).float()
    if field is None:
        return mean, None
    ends = []
    for axis, reach, centre in zip((field.rows, field.columns), reaches, centres[0], strict=True):
        first = math.floor(reach + (centre - math.floor(centre)) - (axis.size_px - 1) / 2)
        ends.append((first, first + axis.size_px - 1))
    (top, bottom), (left, right) = ends
    return mean, (top, left, bottom, right)


def _overlap(centre: int, reach: int, side: int) -> tuple[slice, slice]:
    """Return where ``centre - reach .. centre + reach`` lies in the sum, and in an image of this side."""
    first, last = max(0, centre - reach), min(side - 1, centre + reach)
    if last < first:
        return slice(0, 0), slice(0, 0)
    return slice(first - centre + reach, last - centre + reach + 1), slice(first, last + 1)
