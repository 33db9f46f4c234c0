"""Pictures of feature maps: the strongest of one layer, or of each main layer of a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import UsageError
from striate.look.maps import LayerMaps
from striate.look.picture import Box, Panel, save_maps, save_picture

PER_ROW = 8
MOST_MAPS = 24
_PANEL_MM = 22.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a picture is of.

    Attributes:
        network: what to call the network in the caption.
        image: what to call the image.
        shown: the image as people see it, ``H x W x 3`` in 0..1, pixel by pixel what the network got.
    """

    network: str
    image: str
    shown: NDArray[Any]


def draw_layer(
    found: LayerMaps,
    subject: Subject,
    path: str | Path,
    *,
    unit: tuple[int, int, int] | None = None,
    most: int = MOST_MAPS,
    own_scale: bool = False,
) -> str:
    """Draw the strongest maps of a layer, with one unit and the pixels that it sees; write the ``.npz``.

    Args:
        found: of ``maps_of_image``.
        subject: the network and the image.
        path: the picture: .png, .svg or .pdf.
        unit: channel, row and column; None takes the strongest unit of the strongest map.
        most: maps to draw.
        own_scale: each map on its own scale; otherwise all small maps have one.

    Returns:
        The caption.

    Raises:
        UsageError: ``most`` below 1.
    """
    if most < 1:
        raise UsageError(f"expected at least 1 map to draw, got {most}")
    channel, row, column = found.unit() if unit is None else unit
    box = found.box(row, column)
    values = found.maps[channel].numpy()
    name = f"#{channel} at {row},{column}"
    top: list[Panel] = [
        Panel(
            pixels=subject.shown,
            title=f"{subject.image}\nwhat unit {name} sees",
            boxes=() if box is None else [box],
            width=2,
        )
    ]
    if box is not None and not _is_all(box, found.input_shape):
        patch = subject.shown[box[0] : box[2] + 1, box[1] : box[3] + 1]
        if max(patch.shape[:2]) > 4 * min(patch.shape[:2]):
            patch = subject.shown
        else:
            size = f"{patch.shape[0]}x{patch.shape[1]} px"
            width = 2 * min(
                1.0, subject.shown.shape[0] * patch.shape[1] / patch.shape[0] / subject.shown.shape[1]
            )
            top.append(Panel(pixels=patch, title=f"the same pixels\n{size}", width=width))
    frame = [(row, column, row, column)] if values.size > 1 else ()
    top.append(
        Panel(
            pixels=values,
            title=f"map #{channel}\nunit {row},{column}: {values[row, column]:.3g}",
            boxes=frame,
            width=2,
            scale="value",
            **_look(values),
        )
    )
    chosen = [int(number) for number in found.order[:most]]
    small = _panels(found, chosen, own_scale=own_scale)
    rows = [top, *(small[start : start + PER_ROW] for start in range(0, len(small), PER_ROW))]
    rows[1][-1] = _with_scale(rows[1][-1], own_scale)
    caption = _layer_caption(found, subject, name, box, len(chosen), own_scale)
    short = subject.network.partition(",")[0]
    save_picture(
        rows, path, title=f"Feature maps of {found.layer}, {short}", caption=caption, panel_mm=_PANEL_MM
    )
    save_maps(
        Path(path).with_suffix(".npz"),
        maps=found.maps.numpy(),
        strengths=found.strengths.numpy(),
        order=found.order.numpy(),
        unit=np.array([channel, row, column]),
        box=np.array([-1, -1, -1, -1] if box is None else box),
    )
    return caption


def draw_overview(
    layers: Sequence[LayerMaps],
    subject: Subject,
    path: str | Path,
    *,
    most: int = PER_ROW,
    own_scale: bool = False,
) -> str:
    """Draw a row a layer: the image with what its strongest unit sees, then its strongest maps.

    Args:
        layers: of ``maps_of_image``.
        subject: the network and the image.
        path: the picture: .png, .svg or .pdf; the ``.npz`` beside it holds the maps that are drawn.
        most: maps of each layer.
        own_scale: each map on its own scale; otherwise those of a layer have one.

    Returns:
        The caption.

    Raises:
        UsageError: no layer, or ``most`` below 1.
    """
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
        image = Panel(pixels=subject.shown, title=title, boxes=() if box is None else [box])
        rows.append([image, *maps])
        arrays[f"maps.{found.layer}"] = found.maps[chosen].numpy()
        arrays[f"channels.{found.layer}"] = np.array(chosen)
        arrays[f"unit.{found.layer}"] = np.array([channel, row, column])
        arrays[f"box.{found.layer}"] = np.array([-1, -1, -1, -1] if box is None else box)
    caption = _overview_caption(layers, subject, most, own_scale)
    short = subject.network.partition(",")[0]
    save_picture(rows, path, title=f"Feature maps of {short}", caption=caption, panel_mm=_PANEL_MM)
    save_maps(Path(path).with_suffix(".npz"), **arrays)
    return caption


def _look(values: NDArray[Any]) -> dict[str, Any]:
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
    together = _look(found.maps[list(chosen)].numpy())
    panels = []
    for channel in chosen:
        values = found.maps[channel].numpy()
        own = _look(values)
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
    if own_scale:
        return panel
    return Panel(
        pixels=panel.pixels, title=panel.title, colours=panel.colours, limits=panel.limits, scale="value"
    )


def _is_all(box: Box, input_shape: tuple[int, int, int]) -> bool:
    return box == (0, 0, input_shape[1] - 1, input_shape[2] - 1)


def _layer_caption(
    found: LayerMaps, subject: Subject, unit: str, box: Box | None, drawn: int, own_scale: bool
) -> str:
    count, height, width = found.maps.shape
    said = [
        f"{subject.network}; image {subject.image}. Layer {found.layer}: {count} maps of {height}x{width}."
    ]
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


def _overview_caption(layers: Sequence[LayerMaps], subject: Subject, most: int, own_scale: bool) -> str:
    most_there = max(len(found.maps) for found in layers)
    said = [f"{subject.network}; image {subject.image}. One row a layer."]
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
