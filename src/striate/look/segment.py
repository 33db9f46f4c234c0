"""What a unit fires on: its map brought to the size of the image and cut at a threshold."""

from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.anatomy.field import Axis
from striate.core.errors import DataError, UsageError
from striate.core.progress import Progress, silent
from striate.look.layers import device_of, field_of
from striate.look.receptive import interpolation
from striate.look.running import map_of, reading
from striate.look.stream import ImageStream

_DIGITS = 10  # binary digits of a float's fraction that a threshold keeps: 1 part in 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Where a unit fires in each image.

    Attributes:
        masks: ``N x H x W``, bool: the pixels where ``maps`` is above the image's threshold, and above 0.
        maps: ``N x H x W``, the unit's map at the size of the image; NaN at its border where no unit is.
        activations: ``N x h x w``, the map itself.
        thresholds: ``N``.
        layer: path of the module.
        unit: number of the map.
        anchored: whether each value is put on the centre of its receptive field; else the map is spread
            evenly over the image.
    """

    masks: Tensor
    maps: Tensor
    activations: Tensor
    thresholds: Tensor
    layer: str
    unit: int
    anchored: bool


def segment(
    net: nn.Module,
    images: Tensor,
    layer: str,
    *,
    unit: int,
    share: float = 0.5,
    threshold: float | None = None,
    batch_images: int = 32,
) -> Segments:
    """Mark the pixels that a unit fires on.

    Each activation is put on the centre of its receptive field, and pixels between are interpolated
    bilinearly. Pixels further outside than half a step from the outermost centres belong to no unit; they are
    not in the mask.

    Args:
        net: the network.
        images: ``N x C x H x W``, normed.
        layer: path of a module that gives maps.
        unit: number of the map.
        share: of the strongest activation in the same image; the threshold where ``threshold`` is None. An
            image where the unit is nowhere above 0 has an empty mask.
        threshold: the same for all images, from ``activation_quantile``.
        batch_images: images in a forward pass; it changes memory, not results.

    Raises:
        UsageError: no such layer or unit, no maps, or a share that is not between 0 and 1.

    Paper: Bau, Zhou, Khosla, Oliva, Torralba 2017 (arXiv 1704.05796), section 2.2: bilinear, anchored at the
        centres of the receptive fields, cut at the top 0.5 % of the unit's activations over the data. Zhou et
        al. 2015 (arXiv 1412.6856), section 3.3, cut a unit's map in its strongest images.
    Departures: none with ``threshold``. ``share`` needs no data set and is striate's.
    """
    if not 0 < share < 1:
        raise UsageError(f"expected a share of the maximum between 0 and 1, got {share}")
    if not len(images):
        raise UsageError("expected at least one image, got none")
    channels, height, width = images.shape[1:]
    found: list[Tensor] = []
    with reading(net, [layer], images[:1]) as run:
        for batch in images.split(batch_images):
            run(batch, lambda name, maps: found.append(map_of(name, maps, unit).clone()))
    activations = torch.cat(found).float().cpu()
    field = field_of(net, (channels, height, width), layer)
    axes = (None, None) if field is None else (field.rows, field.columns)
    rows, columns = (
        _onto_pixels(axis, units, side)
        for axis, units, side in zip(axes, activations.shape[1:], (height, width), strict=True)
    )
    maps = (rows @ activations.double() @ columns.T).float()
    if threshold is None:
        thresholds = share * activations.amax((1, 2))
    else:
        thresholds = torch.full((len(images),), threshold)
    above = (maps > thresholds[:, None, None]) & (maps > 0)
    return Segments(
        masks=above,
        maps=maps,
        activations=activations,
        thresholds=thresholds,
        layer=layer,
        unit=unit,
        anchored=field is not None,
    )


def _onto_pixels(axis: Axis | None, units: int, side_px: int) -> Tensor:
    """Return the matrix that brings a map's rows (or columns) to pixels; NaN for pixels without a unit."""
    if axis is None or axis.jump_px is None:
        return interpolation([(unit + 0.5) * side_px / units - 0.5 for unit in range(units)], side_px)
    centres = [sum(axis.box(unit)) / 2 for unit in range(units)]
    matrix = interpolation(centres, side_px)
    pixels = torch.arange(side_px)
    margin = axis.jump_px / 2
    matrix[(pixels < centres[0] - margin) | (pixels > centres[-1] + margin)] = torch.nan
    return matrix


def activation_quantile(
    net: nn.Module,
    images: ImageStream,
    layer: str,
    *,
    unit: int,
    top: float = 0.005,
    progress: Progress = silent,
) -> float:
    """Return the activation that a share ``top`` of a unit's activations exceed, over a whole data set.

    One pass over all places of all images, in constant memory: values are counted in bins that follow the
    digits of a float, and the threshold is the upper end of a bin, at most 1 part in 1024 above the exact
    quantile. Neither the order of the images nor the batch size changes it.

    Args:
        net: the network.
        images: the data set.
        layer: path of a module that gives maps.
        unit: number of the map.
        top: share of the activations above the threshold, at most.
        progress: listener: images done.

    Raises:
        UsageError: no such layer or unit, or a share that is not between 0 and 1.
        DataError: no image can be read.

    Paper: Bau et al. 2017, section 2.2: P(a > T) = 0.005.
    Departures: none beyond the bins.
    """
    if not 0 < top < 1:
        raise UsageError(f"expected a share of the activations between 0 and 1, got {top}")
    counts = torch.zeros(2 ** (9 + _DIGITS), dtype=torch.int64)

    def count(layer: str, maps: Tensor) -> None:
        counts.add_(torch.bincount(_bins(map_of(layer, maps, unit)), minlength=len(counts)))

    device = device_of(net)
    with ExitStack() as stack:
        run = None
        for batch in images.batches():
            if len(batch.images):
                inputs = batch.images.to(device)
                if run is None:
                    run = stack.enter_context(reading(net, [layer], inputs[:1]))
                run(inputs, count)
            progress("quantile", batch.end, images.total)
    if run is None:
        raise DataError("expected images, got none that can be read")
    above = counts.flip(0).cumsum(0).flip(0)  # values in this bin and in those above
    allowed = top * int(above[0])
    last = int((above > allowed).nonzero()[-1, 0])
    return _upper_end(last)


def _bins(values: Tensor) -> Tensor:
    """Number floats in their own order, by sign, exponent and the first digits of the fraction."""
    bits = values.detach().float().cpu().contiguous().view(torch.int32).flatten().long()
    ordered = torch.where(bits < 0, ~bits, bits | 2**31) & (2**32 - 1)
    return ordered >> (23 - _DIGITS)


def _upper_end(number: int) -> float:
    """Return the largest float in a bin."""
    ordered = ((number + 1) << (23 - _DIGITS)) - 1
    bits = ordered & (2**31 - 1) if ordered >= 2**31 else ~ordered & (2**32 - 1)
    signed = bits - 2**32 if bits >= 2**31 else bits
    return float(torch.tensor([signed], dtype=torch.int32).view(torch.float32)[0])
