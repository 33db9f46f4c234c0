"""Pictures of feature maps: the strongest of one layer, or of each main layer of a network."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.core.choices import MapStrength
from striate.core.compute import Compute
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.look.inputs import ImageChoice, Images, network_name, read_image, title_of
from striate.look.layers import on_device
from striate.look.maps import LayerMaps, maps_of_image
from striate.look.picture import Box, Panel, Picture, file_name
from striate.look.signals import Place
from striate.weights.open import OpenNetwork

PER_ROW = 8
MOST_MAPS = 24
_PANEL_MM = 22.0


def show_activations(
    opened: OpenNetwork,
    image: ImageChoice,
    *,
    layer: str | Sequence[str] | None = None,
    unit: int | None = None,
    at: Place | None = None,
    by: MapStrength = "max",
    top: int | None = None,
    own_scale: bool = False,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Picture:
    """Show the feature maps that an image gives, the strongest first, and what a unit sees of the image.

    Args:
        opened: the network.
        image: one image, see ``inputs.read_images``.
        layer: path of a layer, drawn in detail; several paths: a row each; None: the main layers.
        unit: number of a map of the one layer; None takes the strongest.
        at: row and column of a unit in this map; None: where the map is largest.
        by: what makes a map strong: its largest value (``max``) or its mean (``mean``).
        top: how many maps, at least 1; None: 24 of one layer, 8 a row.
        own_scale: each map on its own scale; otherwise the maps of a layer have one.
        compute: where; the numbers are fp32.
        progress: listener.

    Returns:
        A picture with the numbers, of one layer, ``maps``, ``strengths``, ``order``, ``unit`` (channel, row,
        column) and ``box``; of several, ``maps.LAYER``, ``channels.LAYER``, ``unit.LAYER`` and ``box.LAYER``
        of the maps that are drawn. A box of -1 sees padding only.

    Raises:
        UsageError: no such layer, map or unit, or a layer without maps.
    """
    layers = [layer] if isinstance(layer, str) else list(layer or ())
    if unit is not None and len(layers) != 1:
        raise UsageError("expected one `layer` with `unit`: units are numbered within a layer")
    found = read_image(image, opened.preprocessing)
    device = compute.torch_device
    with on_device(opened.net, device) as net:
        maps = maps_of_image(net, found.normed.to(device), layers or None, by=by, progress=progress)
    place = "" if unit is None else f"{unit}:{at[0]},{at[1]}" if at else str(unit)
    name = file_name("activations", network_name(opened), *layers, place, found.stem)
    if len(layers) == 1:
        chosen = maps[0].unit(unit, *(at or ()))
        return _of_layer(opened, found, maps[0], chosen, MOST_MAPS if top is None else top, own_scale, name)
    return _of_layers(opened, found, maps, PER_ROW if top is None else top, own_scale, name)


def _of_layer(
    opened: OpenNetwork,
    image: Images,
    found: LayerMaps,
    unit: tuple[int, int, int],
    most: int,
    own_scale: bool,
    file: str,
) -> Picture:
    """Draw the strongest maps of a layer, with one unit and the pixels that it sees."""
    if most < 1:
        raise UsageError(f"expected at least 1 map to draw, got {most}")
    channel, row, column = unit
    shown = image.shown[0]
    box = found.box(row, column)
    values = found.maps[channel].numpy()
    name = f"#{channel} at {row},{column}"
    top: list[Panel] = [
        Panel(
            pixels=shown,
            title=f"{image.names[0]}\nwhat unit {name} sees",
            boxes=() if box is None else [box],
            width=2,
        )
    ]
    if box is not None and not _is_all(box, found.input_shape):
        patch = shown[box[0] : box[2] + 1, box[1] : box[3] + 1]
        if max(patch.shape[:2]) > 4 * min(patch.shape[:2]):
            patch = shown
        else:
            size = f"{patch.shape[0]}x{patch.shape[1]} px"
            width = 2 * min(1.0, shown.shape[0] * patch.shape[1] / patch.shape[0] / shown.shape[1])
            top.append(Panel(pixels=patch, title=f"the same pixels\n{size}", width=width))
    frame = [(row, column, row, column)] if values.size > 1 else ()
    top.append(
        Panel(
            pixels=values,
            title=f"map #{channel}\nunit {row},{column}: {values[row, column]:.3g}",
            boxes=frame,
            width=2,
            scale="value",
            **_scale(values),
        )
    )
    chosen = [int(number) for number in found.order[:most]]
    small = _panels(found, chosen, own_scale=own_scale)
    rows = [top, *(small[start : start + PER_ROW] for start in range(0, len(small), PER_ROW))]
    rows[1][-1] = _with_scale(rows[1][-1], own_scale)
    return Picture(
        name=file,
        rows=rows,
        title=f"Feature maps of {found.layer}, {network_name(opened)}",
        caption=_layer_caption(found, _subject(opened, image), name, box, len(chosen), own_scale),
        numbers={
            "maps": found.maps.numpy(),
            "strengths": found.strengths.numpy(),
            "order": found.order.numpy(),
            "unit": np.array([channel, row, column]),
            "box": np.array([-1, -1, -1, -1] if box is None else box),
        },
        panel_mm=_PANEL_MM,
    )


def _of_layers(
    opened: OpenNetwork, image: Images, layers: Sequence[LayerMaps], most: int, own_scale: bool, file: str
) -> Picture:
    """Draw a row for each layer: the image with what its strongest unit sees, then its strongest maps."""
    if most < 1:
        raise UsageError(f"expected at least 1 map to draw, got {most}")
    rows: list[list[Panel]] = []
    arrays: dict[str, NDArray[Any]] = {}
    for found in layers:
        channel, row, column = found.unit()
        box = found.box(row, column)
        count, height, width = found.maps.shape
        chosen = [int(number) for number in found.order[:most]]
        maps = _panels(found, chosen, own_scale=own_scale)
        maps[-1] = _with_scale(maps[-1], own_scale)
        title = f"{found.layer}\n{count} maps, {height}x{width}"
        first = Panel(pixels=image.shown[0], title=title, boxes=() if box is None else [box])
        rows.append([first, *maps])
        arrays[f"maps.{found.layer}"] = found.maps[chosen].numpy()
        arrays[f"channels.{found.layer}"] = np.array(chosen)
        arrays[f"unit.{found.layer}"] = np.array([channel, row, column])
        arrays[f"box.{found.layer}"] = np.array([-1, -1, -1, -1] if box is None else box)
    return Picture(
        name=file,
        rows=rows,
        title=f"Feature maps of {network_name(opened)}",
        caption=_overview_caption(layers, _subject(opened, image), most, own_scale),
        numbers=arrays,
        panel_mm=_PANEL_MM,
    )


def _subject(opened: OpenNetwork, image: Images) -> str:
    return f"{title_of(opened)}; image {image.names[0]}."


def _scale(values: NDArray[Any]) -> dict[str, Any]:
    """Return colours and the ends of the scale: symmetric about 0 for signed values, from 0 for amounts.

    Amounts that are all far from 0, by a third of the largest, have a scale that starts at the smallest.
    """
    low, high = float(values.min()), float(values.max())
    if low < 0:
        end = max(-low, high)
        return {"colours": "RdBu_r", "limits": (-end, end)}
    start = low if high / 3 < low < high else 0.0
    return {"colours": "magma", "limits": (start, high if high > 0 else 1.0)}


def _panels(found: LayerMaps, chosen: Sequence[int], *, own_scale: bool) -> list[Panel]:
    together = _scale(found.maps[list(chosen)].numpy())
    panels = []
    for channel in chosen:
        values = found.maps[channel].numpy()
        own = _scale(values)
        if own["colours"] != together["colours"]:  # a map without negative values in a layer that has some
            own = {"colours": together["colours"], "limits": (-own["limits"][1], own["limits"][1])}
        panels.append(
            Panel(
                pixels=values,
                title=f"#{channel}   {float(found.strengths[channel]):.3g}",
                **(own if own_scale else together),
            )
        )
    return panels


def _with_scale(panel: Panel, own_scale: bool) -> Panel:
    """Put the row's scale beside its last map."""
    return panel if own_scale else replace(panel, scale="value")


def _is_all(box: Box, input_shape: tuple[int, int, int]) -> bool:
    return box == (0, 0, input_shape[1] - 1, input_shape[2] - 1)


def _layer_caption(
    found: LayerMaps, subject: str, unit: str, box: Box | None, drawn: int, own_scale: bool
) -> str:
    count, height, width = found.maps.shape
    said = [f"{subject} Layer {found.layer}: {count} maps of {height}x{width}."]
    said.append(_which(found, drawn, count))
    said.append(_scales(own_scale, "small maps"))
    if box is None:
        said.append(f"Unit {unit} sees nothing but padding.")
    elif found.field is None:
        said.append("No one size describes what its units see: the frame is the whole image.")
    elif _is_all(box, found.input_shape):
        said.append(f"Unit {unit} can see the whole image.")
    else:
        full = f"{found.field.rows.size_px}x{found.field.columns.size_px} px"
        said.append(
            f"Frame: the receptive field of unit {unit}, {full}, by arithmetic; in the image rows {box[0]}"
            f" to {box[2]}, columns {box[1]} to {box[3]}."
        )
    said += _notes([found])
    return " ".join(said)


def _overview_caption(layers: Sequence[LayerMaps], subject: str, most: int, own_scale: bool) -> str:
    most_there = max(len(found.maps) for found in layers)
    said = [f"{subject} One row a layer."]
    said.append(_which(layers[0], most, most_there))
    said.append(_scales(own_scale, "maps of a layer"))
    said.append(
        "Frame: what the strongest unit of the first map sees, by arithmetic; no frame: padding only."
    )
    said += _notes(layers)
    return " ".join(said)


def _which(found: LayerMaps, drawn: int, count: int) -> str:
    strong = "its largest value" if found.by == "max" else "the mean of its values"
    shown = f"the {drawn} strongest" if drawn < count else "all"
    return f"Shown: {shown}, sorted by strength, which is {strong} (behind its number)."


def _scales(own_scale: bool, which: str) -> str:
    return "Each map has its own scale." if own_scale else f"All {which} have one scale."


def _notes(layers: Sequence[LayerMaps]) -> list[str]:
    notes = []
    dead = [f"{found.num_dead} of {len(found.maps)} in {found.layer}" for found in layers if found.num_dead]
    notes.append(
        f"Zero everywhere for this image: {', '.join(dead)}." if dead else "No map is zero everywhere."
    )
    for found in layers:
        if found.num_uses > 1:
            notes.append(f"{found.layer} is used {found.num_uses} times: its last use is shown.")
    if any(bool((found.maps < 0).any()) for found in layers):
        notes.append("Where values have signs, red is positive and blue negative.")
    return notes
