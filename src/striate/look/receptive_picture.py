"""The picture of an empirical receptive field, beside the theoretical one."""

from pathlib import Path

import numpy as np
import torch

from striate.core.choices import Split
from striate.core.compute import Compute
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.data.source import counted
from striate.look.inputs import DataChoice, network_name, open_data, shortened, title_of
from striate.look.layers import field_of, on_device
from striate.look.patches import patch_box
from striate.look.picture import Box, Panel, Picture, file_name
from striate.look.receptive import empirical_field
from striate.look.stream import black_and_white, fetch
from striate.look.strongest import find_strongest
from striate.weights.open import OpenNetwork

_SHOWN = 5  # images with their own discrepancy maps
_SMALL_PX = 100  # images smaller than this get occluders of 3 px at every pixel
_INSIDE, _OUTSIDE = np.array([0.13, 0.29, 0.53]), np.array([0.95, 0.95, 0.95])


def show_receptive(
    opened: OpenNetwork,
    data: DataChoice,
    *,
    layer: str,
    unit: int,
    top: int = 10,
    size_px: int | None = None,
    stride_px: int | None = None,
    above: float = 0.5,
    split: Split = "auto",
    seed: int = 0,
    state: Path | None = None,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Picture:
    """Measure the receptive field of a unit with random occluders, beside the theoretical one.

    Args:
        opened: the network.
        data: a data set, see ``inputs.open_data``.
        layer: path of a layer with maps.
        unit: number of the map.
        top: how many of its strongest images, at least 1.
        size_px: side of the occluders; None: 11, for images below 100 px 3.
        stride_px: between them; None: 3, for images below 100 px 1.
        above: share of the maximum that counts as inside, between 0 and 1.
        split: see ``inputs.open_data``.
        seed: of the occluders' pixels.
        state: file that keeps an interrupted pass, see ``strongest.find_strongest``.
        compute: where; the numbers are fp32.
        progress: listener.

    Returns:
        A picture with the numbers ``mean``, ``inside``, ``maps``, ``values``, ``places``, ``centres``,
        ``theoretical``, ``size_px`` and ``names``, see ``receptive.EmpiricalField``; its note has both sizes.

    Raises:
        UsageError: no such layer, unit, data set or split, no maps, or an occluder that does not fit.
        DataError: no image can be read.
    """
    if not 0 < above < 1:
        raise UsageError(f"expected `above` between 0 and 1, got {above}")
    pre = opened.preprocessing
    source = open_data(data, pre, split=split, batch_images=compute.batch(32))
    small = min(opened.input_shape[1:]) < _SMALL_PX
    side, step = size_px or (3 if small else 11), stride_px or (1 if small else 3)
    black, white = black_and_white(pre)
    device = compute.torch_device
    with on_device(opened.net, device) as net:
        found = find_strongest(net, source.images, [layer], k=top, state=state, progress=progress)[layer]
        if found.map_size == (1, 1):
            raise UsageError(f"expected a layer with maps larger than 1 x 1, got {layer}")
        if not 0 <= unit < len(found.values):
            raise UsageError(f"expected `unit` 0 to {len(found.values) - 1} of {layer}, got {unit}")
        numbers = found.numbers[unit].tolist()
        read = fetch(source.images, numbers)
        images = torch.stack([read[number] for number in numbers])
        places = list(zip(found.rows[unit].tolist(), found.columns[unit].tolist(), strict=True))
        field = empirical_field(
            net,
            images.to(device),
            layer,
            unit=unit,
            at=places,
            generator=torch.Generator().manual_seed(seed),
            occluder_px=side,
            stride_px=step,
            low=black,
            high=white,
            batch_images=compute.batch(32),
            progress=progress,
        )
        arithmetic = field_of(net, opened.input_shape, layer)
    theory = "no one size"
    if arithmetic is not None:
        theory = f"{arithmetic.rows.size_px} x {arithmetic.columns.size_px} px"
    measured, inside = field.size_px(above), field.inside(above).numpy()
    mean, maps = field.mean.numpy(), field.maps.numpy()
    limits = (0.0, float(np.nanmax(maps[:_SHOWN])) or 1.0)
    frames = () if field.theoretical is None else (field.theoretical,)
    rows = [
        [
            Panel(
                pixels=mean,
                title=f"mean of {counted(len(images), 'image')}\nframe: theory, {theory}",
                limits=(0.0, float(np.nanmax(mean)) or 1.0),
                scale="change of activation",
                boxes=frames,
                width=1.5,
            ),
            Panel(
                pixels=np.where(inside[..., None], _INSIDE, _OUTSIDE),
                title=f"above {above:.0%} of its maximum\n{inside.sum():,} px, a square of {measured:.1f} px",
                width=1.5,
                boxes=frames,
            ),
        ],
        [
            Panel(
                pixels=pixels,
                title=f"{shortened(found.names[number])}\nactivation {float(value):.3g}",
                boxes=[_clipped(patch_box(arithmetic, row, column, opened.input_shape), pixels.shape)],
            )
            for pixels, number, value, (row, column) in zip(
                source.images.shown(images[:_SHOWN]), numbers, field.values, places, strict=False
            )
        ],
        [
            Panel(pixels=one, title="change by an occluder here", limits=limits, scale="change")
            for one in maps[:_SHOWN]
        ],
    ]
    between = ", interpolated between squares" if step > 1 else ""
    caption = (
        f"Unit {unit} of {layer}. Its {len(images)} strongest of {found.num_images:,} images, from"
        f" {source.title}, covered by squares of {side} x {side} random pixels at stride {step}, one"
        f" at a time (seed {seed}). Each pixel shows how far the activation at the unit's place moves when a"
        f" square is centred there{between}. The mean is taken around the centre of the theoretical field."
        " White: no square can be centred there."
    )
    return Picture(
        name=file_name("receptive", network_name(opened), layer, unit),
        rows=rows,
        title=f"{title_of(opened)}: what changes unit {unit} of {layer}",
        caption=caption,
        numbers={
            "mean": mean,
            "inside": inside,
            "maps": maps,
            "values": field.values.numpy(),
            "places": np.array(field.places),
            "centres": np.array(field.centres),
            "theoretical": np.array(field.theoretical or ()),
            "size_px": np.array(measured),
            "names": np.array([found.names[number] for number in numbers]),
        },
        notes=[
            f"theory {theory}, measured {measured:.1f} px (side of the square of its area, above {above:.0%})"
        ],
    )


def _clipped(box: Box, shape: tuple[int, ...]) -> Box:
    top, left, bottom, right = box
    return max(top, 0), max(left, 0), min(bottom, shape[0] - 1), min(right, shape[1] - 1)
