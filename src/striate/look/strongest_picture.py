"""The picture of strongest images: patches of units beside the projection of each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from striate.core.choices import Rule, Split
from striate.core.compute import Compute
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.data.source import counted
from striate.look.inputs import DataChoice, as_list, network_name, open_data, title_of
from striate.look.layers import on_device
from striate.look.patches import patch_panels, strongest_patches
from striate.look.picture import Picture, file_name
from striate.look.strongest import find_strongest
from striate.weights.open import OpenNetwork

DRAWN = 12
"""Units on a picture where none is named."""

_MOST = 120


def show_strongest(
    opened: OpenNetwork,
    data: DataChoice,
    *,
    layer: str,
    unit: int | Sequence[int] | None = None,
    top: int = 9,
    rule: Rule = "deconvnet",
    split: Split = "auto",
    state: Path | None = None,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Picture:
    """Show what excites units: the patches of their strongest images beside the projection of each.

    One pass over the data in constant memory.

    Args:
        opened: the network.
        data: a data set, see ``inputs.open_data``.
        layer: path of a ReLU, convolution, block or fully connected layer.
        unit: numbers of units to draw, at most 120; None takes 12, evenly spaced.
        top: images for each unit, at least 1.
        rule: of the projections.
        split: see ``inputs.open_data``.
        state: file that keeps an interrupted pass, see ``strongest.find_strongest``.
        compute: where; the numbers are fp32.
        progress: listener.

    Returns:
        A picture with the numbers of all units of the layer, ``values``, ``numbers``, ``rows``, ``columns``,
        ``names`` (units x top), and of those that are drawn, ``units``, ``boxes``, ``patches`` and
        ``projections``; its notes name images that can't be read.

    Raises:
        UsageError: no such layer, unit, data set or split, or a step that the rule does not cover.
        DataError: no image can be read.
        CheckpointError: ``state`` belongs to another pass.
    """
    asked = as_list(unit)
    if len(asked) > _MOST:
        raise UsageError(f"expected at most {_MOST} units on a picture, got {len(asked)}: pass fewer `unit`")
    source = open_data(data, opened.preprocessing, split=split, batch_images=compute.batch(32))
    with on_device(opened.net, compute.torch_device) as net:
        found = find_strongest(net, source.images, [layer], k=top, state=state, progress=progress)[layer]
        count = len(found.values)
        chosen = asked or sorted({int(place) for place in np.linspace(0, count - 1, min(DRAWN, count))})
        patches = list(
            strongest_patches(net, source.images, found, units=chosen, rule=rule, progress=progress)
        )
    how = f"{len(chosen)} of {count} units, {'as asked for' if asked else 'evenly spaced'}"
    if not asked and len(chosen) == count:
        how = f"all {count} units"
    height, width = patches[0].patches.shape[1:3]
    caption = (
        f"Layer {layer}, {how}. For each, its {found.values.shape[1]} strongest of"
        f" {found.num_images:,} images, from {source.title}. Right: the patch of {height} x {width} px that"
        " the unit sees at its strongest place in the image, grey beyond the border, with the activations of"
        " the strongest and the weakest of them. Left: the activation sent back to the pixels by the"
        f" {rule} rule, each on its own scale (99.5 % of its values lie inside it), 0 is grey."
    )
    if silent_units := int((found.values[:, 0] <= 0).sum()):
        caption += f" {silent_units} of {count} units are never above 0."
    notes = []
    if found.num_broken:
        unread = counted(found.num_broken, "image")
        caption += f" {unread} could not be read."
        notes.append(f"{unread} could not be read, first {': '.join(found.broken[0])}")
    if extensions := sorted({name for one in patches for name in one.extensions}):
        caption += f"\nNot defined by the paper: {'; '.join(extensions)}."
    return Picture(
        name=file_name("strongest", network_name(opened), layer),
        rows=patch_panels(patches),
        title=f"{title_of(opened)}: strongest images of {layer}",
        caption=caption,
        numbers={
            "values": found.values.numpy(),
            "numbers": found.numbers.numpy(),
            "rows": found.rows.numpy(),
            "columns": found.columns.numpy(),
            "names": np.array([[found.names.get(n, "") for n in row] for row in found.numbers.tolist()]),
            "units": np.array(chosen),
            "boxes": np.array([one.boxes for one in patches]),
            "patches": np.stack([(one.patches * 255).round().astype(np.uint8) for one in patches]),
            "projections": np.stack([one.projections for one in patches]),
        },
        notes=notes,
    )
