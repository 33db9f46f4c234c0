"""The picture of segments: what a unit fires on, as a mask over each image."""

from collections.abc import Sequence

import numpy as np

from striate.core.choices import Split
from striate.core.compute import Compute
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.look import inputs
from striate.look.inputs import DataChoice, ImageChoice
from striate.look.layers import on_device
from striate.look.picture import Panel, Picture, file_name
from striate.look.segment import activation_quantile, segment
from striate.weights.open import OpenNetwork

_MOST = 24
_ORANGE = np.array([1.0, 0.5, 0.05], np.float32)


def show_segment(
    opened: OpenNetwork,
    images: ImageChoice | Sequence[ImageChoice],
    *,
    layer: str,
    unit: int,
    share: float = 0.5,
    data: DataChoice | None = None,
    quantile: float = 0.005,
    split: Split = "auto",
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Picture:
    """Mark what a unit fires on.

    Args:
        opened: the network.
        images: at most 24, see ``inputs.read_images``.
        layer: path of a layer with maps.
        unit: number of the map.
        share: the threshold, as a share of the strongest activation in the same image; between 0 and 1.
        data: a data set that gives the threshold instead, see ``inputs.open_data``.
        quantile: with ``data``: share of the unit's activations above the threshold; between 0 and 1.
        split: of the data.
        compute: where; the numbers are fp32.
        progress: listener.

    Returns:
        A picture with the numbers ``masks`` and ``maps`` (N x H x W), ``activations`` (N x h x w),
        ``thresholds`` and ``names``.

    Raises:
        UsageError: no such layer, unit, data set or split, no maps, a share out of range, or too many images.
        DataError: no image can be read.
    """
    found = inputs.read_images(images, opened.preprocessing)
    if len(found.names) > _MOST:
        raise UsageError(f"expected at most {_MOST} images on a picture, got {len(found.names)}: name fewer")
    threshold = None
    rule = f"{share:.0%} of the strongest activation in the same image"
    device, batch = compute.torch_device, compute.batch(32)
    with on_device(opened.net, device) as net:
        if data is not None:
            source = inputs.open_data(data, opened.preprocessing, split=split, batch_images=batch)
            threshold = activation_quantile(
                net, source.images, layer, unit=unit, top=quantile, progress=progress
            )
            rule = f"{threshold:.3g}, which {quantile:.2%} of its activations over {source.title} exceed"
        segments = segment(
            net,
            found.normed.to(device),
            layer,
            unit=unit,
            share=share,
            threshold=threshold,
            batch_images=batch,
        )
    maps, masks = segments.maps.numpy(), segments.masks.numpy()
    low, high = min(0.0, float(np.nanmin(maps))), float(np.nanmax(maps))
    limits = (low, high if high > low else low + 1)
    panels = []
    for pixels, name, one, mask, cut in zip(
        found.shown, found.names, maps, masks, segments.thresholds.tolist(), strict=True
    ):
        marked = np.where(
            mask[..., None], 0.5 * pixels + 0.5 * _ORANGE, 0.75 * pixels.mean(-1, keepdims=True)
        )
        covered = f"{mask.mean():.1%} of the image" if mask.any() else "nowhere above it"
        panels.append(
            [
                Panel(pixels=pixels, title=f"{inputs.shortened(name)}\n "),
                Panel(pixels=one, title=f"unit {unit} of {layer}\n ", limits=limits, scale="activation"),
                Panel(pixels=marked, title=f"above {cut:.3g}:\n{covered}"),
            ]
        )
    if len(panels) > 4:  # two images in a row
        half = -(-len(panels) // 2)
        panels = [one + other for one, other in zip(panels[:half], [*panels[half:], []], strict=False)]
    anchor = "on the centre of its receptive field" if segments.anchored else "evenly over the image"
    height, width = segments.activations.shape[1:]
    caption = (
        f"Unit {unit} of {layer}, its map of {height} x {width} brought to the image's size bilinearly, each"
        f" value {anchor}. Threshold: {rule}. Orange: above it."
    )
    if np.isnan(maps).any():
        caption += " White: no unit is there."
    first = found.stem if len(found.names) == 1 else f"{len(found.names)}_images"
    return Picture(
        name=file_name("segment", inputs.network_name(opened), layer, unit, first),
        rows=panels,
        title=f"{inputs.title_of(opened)}: where unit {unit} of {layer} fires",
        caption=caption,
        numbers={
            "masks": masks,
            "maps": maps,
            "activations": segments.activations.numpy(),
            "thresholds": segments.thresholds.numpy(),
            "names": np.array(found.names),
        },
    )
