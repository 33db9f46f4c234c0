"""The picture of filters: tiles in colour or grey, or one row a filter and one column a channel."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.core.errors import UsageError
from striate.look.filters import ColourOrder, Filters, colours_of, read_filters
from striate.look.inputs import as_list, network_name, title_of
from striate.look.picture import Panel, Picture, file_name, tiles
from striate.weights.open import OpenNetwork

MOST_IMAGE_FILTERS = 128
MOST_FILTERS = 16
MOST_CHANNELS = 24
_TILE_PX = 13
_DOTS_PER_MM = 150 / 25.4


def show_filters(
    opened: OpenNetwork,
    *,
    layer: str | None = None,
    unit: int | Sequence[int] | None = None,
    top: int | None = None,
    channels: int = MOST_CHANNELS,
    shared: bool = False,
) -> Picture:
    """Show the filters of a layer: of the first one in colour, of deeper ones channel by channel.

    Args:
        opened: the network.
        layer: path of a convolution, or of a fully connected layer on the image; None takes the first.
        unit: numbers of filters; None takes those of the largest norm.
        top: how many; None: 128 tiles, or 16 rows.
        channels: how many input channels of deeper layers, at least 1.
        shared: one scale for all filters of the layer; otherwise each has its own.

    Returns:
        A picture with the numbers of ``draw_filters``.

    Raises:
        UsageError: no such layer or filter, or a number below 1.
    """
    return draw_filters(
        read_filters(opened.net, layer, input_shape=opened.input_shape),
        network=title_of(opened),
        name=network_name(opened),
        only=as_list(unit),
        most_filters=top,
        most_channels=channels,
        shared=shared,
        order=opened.preprocessing.colour_order,
    )


def draw_filters(
    filters: Filters,
    *,
    network: str,
    name: str = "",
    only: Sequence[int] = (),
    most_filters: int | None = None,
    most_channels: int = MOST_CHANNELS,
    shared: bool = False,
    order: ColourOrder = "RGB",
) -> Picture:
    """Draw filters.

    Filters that see an image of three channels are tiles in colour; filters that read one channel are grey
    tiles. Of others, each filter is a row and each channel that it reads a tile; blank where there is no
    link. Where not all can be drawn, the filters of the largest norm are, and the channels that weigh most in
    them.

    Arguments as ``show_filters``; ``network`` is for the caption, ``name`` for the title ("": ``network``),
    ``order`` that of the colours that the network takes.

    Returns:
        A picture with the numbers ``weights`` and ``linked`` of the drawn ``filters`` and ``channels``,
        ``largest`` (the magnitude that each filter is divided by) and ``norms`` of all filters.

    Raises:
        UsageError: no such filter, or a number below 1.
    """
    by_tile = filters.sees_image and filters.weights.shape[1] in (1, 3)
    by_tile = by_tile or int(filters.linked.sum(1).max()) == 1
    limit = most_filters if most_filters is not None else MOST_IMAGE_FILTERS if by_tile else MOST_FILTERS
    if min(limit, most_channels) < 1:
        raise UsageError(f"expected at least 1 filter and 1 channel, got {limit} and {most_channels}")
    shown = _choose(filters, only, limit)
    largest = filters.weights.abs().amax().expand(len(filters.weights)) if shared else None
    if largest is None:
        largest = filters.weights.abs().amax((1, 2, 3))
    if by_tile:
        panel, channels = _tiles(filters, shown, largest, shared, order, whole=not only), None
    else:
        channels = _choose_channels(filters, shown, most_channels)
        panel = _matrix(filters, shown, channels, largest, shared)
    caption = _caption(filters, network, shown, channels, only, shared, order)
    tile = panel.pixels.shape[1]
    dots = max(1, round(_page_dots(panel) / tile)) * tile
    name = name or network
    kept = torch.arange(filters.weights.shape[1]) if channels is None else channels
    return Picture(
        name=file_name("filters", name, filters.layer),
        rows=[[panel]],
        title=f"Filters of {filters.layer}, {name}",
        caption=caption,
        numbers={
            "weights": filters.weights[shown][:, kept].numpy(),
            "linked": filters.linked[shown][:, kept].numpy(),
            "filters": shown.numpy(),
            "channels": kept.numpy(),
            "largest": largest[shown].numpy(),
            "norms": filters.norms.numpy(),
        },
        panel_mm=dots / _DOTS_PER_MM,
    )


def _choose(filters: Filters, only: Sequence[int], limit: int) -> Tensor:
    count = len(filters.weights)
    if only:
        wrong = [number for number in only if not 0 <= number < count]
        if wrong:
            raise UsageError(f"expected filters 0 to {count - 1} of {filters.layer}, got {wrong[0]}")
        return torch.tensor(list(only))
    if count <= limit:
        return torch.arange(count)
    strongest = filters.norms.argsort(descending=True, stable=True)[:limit]
    first_link = filters.linked.float().argmax(1)[strongest]
    return strongest[first_link.argsort(stable=True)] if len(first_link.unique()) < limit else strongest


def _choose_channels(filters: Filters, shown: Tensor, limit: int) -> Tensor:
    """Take the channels that weigh most in the shown filters, in the order of their numbers."""
    read = filters.linked[shown].any(0).nonzero()[:, 0]
    weight = filters.weights[shown].square().sum((0, 2, 3))[read]
    return read[weight.argsort(descending=True, stable=True)[:limit]].sort().values


def _columns(count: int) -> int:
    """Return how many tiles go in a row: a divisor of the count for which the picture is wider than high."""
    if count <= 8:
        return count
    wish = (1.5 * count) ** 0.5
    near = [
        columns
        for columns in range(4, count + 1)
        if count % columns == 0 and wish / 2 <= columns <= 1.5 * wish
    ]
    return min(near, key=lambda columns: abs(columns - wish)) if near else round(wish)


def _page_dots(panel: Panel) -> float:
    """Return a good width of a panel in dots: tiles of 11 mm or more, on a page of 200 x 180 mm."""
    height, width = panel.pixels.shape[:2]
    return min(max(11 * width / _TILE_PX, 90), 200, 180 * width / height) * _DOTS_PER_MM


def _enlarged(maps: NDArray[Any]) -> NDArray[Any]:
    """Repeat the pixels of ``N x H x W ...`` tiles so that a gap of one pixel between them is thin."""
    factor = max(1, round(_TILE_PX / max(maps.shape[1:3])))
    return maps.repeat(factor, axis=1).repeat(factor, axis=2)


def _tiles(
    filters: Filters, shown: Tensor, largest: Tensor, shared: bool, order: ColourOrder, *, whole: bool
) -> Panel:
    """Draw one tile for each filter; the towers one above the other."""
    if filters.sees_image and filters.weights.shape[1] == 3:
        drawn = colours_of(filters.weights, shared=shared, order=order)[shown.numpy()]
        fill = 1.0
    else:
        source = filters.linked[shown].float().argmax(1)
        weights = filters.weights[shown, source]
        drawn = (weights if shared else weights / _safe(largest[shown])[:, None, None]).numpy()
        fill = np.nan
    drawn = _enlarged(drawn)
    count, height = drawn.shape[:2]
    towers = filters.towers if whole and count == len(filters.weights) and count % filters.towers == 0 else 1
    columns = min(_columns(count), count // towers)
    parts: list[NDArray[Any]] = []
    named: dict[float, str] = {}
    top = 0
    for tower in range(towers):
        if parts:
            gap = np.full((max(3, height // 2), *parts[0].shape[1:]), fill, drawn.dtype)
            parts.append(gap)
            top += len(gap)
        first = tower * count // towers
        part = tiles(drawn[first : first + count // towers], columns, fill=fill)
        for number, row in enumerate(range(0, len(part), height + 1)):
            named[top + row + (height - 1) / 2] = f"#{int(shown[first + number * columns])}"
        parts.append(part)
        top += len(part)
    pixels = np.concatenate(parts)
    if pixels.ndim == 3:
        return Panel(pixels=pixels, rows_named=named)
    return _grey(pixels, largest, shared, named, {})


def _matrix(filters: Filters, shown: Tensor, channels: Tensor, largest: Tensor, shared: bool) -> Panel:
    """Draw one row a filter and one column a channel."""
    weights = filters.weights[shown][:, channels]
    if not shared:
        weights = weights / _safe(largest[shown])[:, None, None, None]
    blank = ~filters.linked[shown][:, channels]
    weights = weights.masked_fill(blank[:, :, None, None], torch.nan)
    drawn = _enlarged(weights.flatten(0, 1).numpy())
    height, width = drawn.shape[1:]
    pixels = tiles(drawn, len(channels), fill=np.nan)
    rows = {k * (height + 1) + (height - 1) / 2: f"#{int(number)}" for k, number in enumerate(shown)}
    columns = {k * (width + 1) + (width - 1) / 2: f"#{int(number)}" for k, number in enumerate(channels)}
    return _grey(pixels, largest, shared, rows, columns)


def _grey(
    pixels: NDArray[Any], largest: Tensor, shared: bool, rows: dict[float, str], columns: dict[float, str]
) -> Panel:
    end = float(largest[0]) if shared else 1.0
    return Panel(
        pixels=pixels,
        colours="gray",
        limits=(-end, end) if end > 0 else (-1.0, 1.0),
        scale="weight" if shared else "weight / largest",
        rows_named=rows,
        columns_named=columns,
    )


def _safe(largest: Tensor) -> Tensor:
    return largest.clamp_min(torch.finfo(largest.dtype).tiny)


def _caption(
    filters: Filters,
    network: str,
    shown: Tensor,
    channels: Tensor | None,
    only: Sequence[int],
    shared: bool,
    order: ColourOrder,
) -> str:
    count, all_channels = filters.linked.shape
    said = [f"{network}. Layer {filters.layer}: {count} filters of {filters.size}."]
    if only:
        said.append(f"{len(shown)} of them, as asked.")
    elif len(shown) < count:
        grouped = channels is not None and len(filters.linked[shown].float().argmax(1).unique()) > 1
        where = "in each group of links the largest first" if grouped else "the largest first"
        said.append(f"Shown: the {len(shown)} of the largest Euclidean norm, {where}.")
    else:
        said.append("All are shown, in order.")
    if channels is None:
        if filters.sees_image and all_channels == 3:
            said.append("In colour: how each filter weighs red, green and blue.")
            if order == "BGR":
                said.append("The network takes blue first; red is drawn as red.")
        said.append("Row names are the number of the first filter in the row.")
        if filters.towers > 1 and len(shown) == count and not only:
            said.append(
                f"The {filters.towers} blocks are the towers: {filters.next_layer} reads their maps apart."
            )
    else:
        said.append("One row a filter, one column a channel that it reads:")
        reads = int(filters.linked[shown].any(0).sum())
        if len(channels) < reads:
            said.append(f"the {len(channels)} of {reads} channels that weigh most in these filters.")
        else:
            said.append("all channels.")
        if not bool(filters.linked[shown][:, channels].all()):
            said.append("Blank: no link.")
    said.append(
        "Mid grey is zero, white positive."
        if channels is not None or all_channels == 1
        else "Mid grey is zero."
    )
    said.append(
        f"One scale for all filters of the layer, to {float(filters.weights.abs().max()):.3g}."
        if shared
        else "Each filter has its own scale: it is divided by its largest magnitude."
    )
    return " ".join(said)
