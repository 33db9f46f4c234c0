"""A network's gallery: one page, complete in itself, of filters, strongest images and occlusion."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np
from torch import Tensor, nn

from striate.anatomy import Anatomy, Layer, trace
from striate.core.choices import Rule, Split
from striate.core.compute import Compute
from striate.core.errors import DataError, UsageError
from striate.core.progress import Progress, silent
from striate.core.version import __version__
from striate.look.filters import colours_of, read_filters
from striate.look.inputs import DataChoice, open_data, title_of
from striate.look.layers import on_device
from striate.look.occlusion import fill_of
from striate.look.patches import UnitPatches, patch_sheets, strongest_patches
from striate.look.picture import tiles
from striate.look.stream import ImageStream, black_and_white
from striate.look.strongest import Strongest, find_strongest
from striate.report.gallery_occlusion import OcclusionExample, occlusion_examples
from striate.report.inline import Figure, inline, rgb
from striate.weights.open import OpenNetwork

_KERNELS = 16  # input channels whose kernels a unit shows
_LARGEST_BYTES = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCard:
    """What the page shows of one unit."""

    unit: int
    strongest: float
    weakest: float
    kernels: Figure | None
    projections: Figure
    patches: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSection:
    """What the page shows of one convolution.

    Attributes:
        name: path of the convolution.
        read_at: module whose output counts: its ReLU, where there is one.
        about: filters, maps and receptive field, in words.
        filters: all filters, where they see the image; else None.
        cards: some of the units.
        num_units: how many there are.
        num_silent: units that are above 0 in no image.
        rule: of the projections.
        note: why the rule is another than the deconvnet, or "".
        extensions: rules of the projections that the paper does not define.
    """

    name: str
    read_at: str
    about: str
    filters: Figure | None
    cards: tuple[UnitCard, ...]
    num_units: int
    num_silent: int
    rule: str
    note: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """A network's gallery, ready to be written.

    Attributes:
        title: the network, in words.
        data: the data set, in words.
        num_images: that were run.
        k: strongest images of each unit.
        num_layers: convolutions that the network has.
        layers: those that are shown.
        occlusion: examples.
        occluder: size and stride in words.
        occlusion_layer: whose strongest map is summed.
        parameters: of the network.
        input_shape: channels, height and width in pixels.
    """

    title: str
    data: str
    num_images: int
    k: int
    num_layers: int
    layers: tuple[LayerSection, ...]
    occlusion: tuple[OcclusionExample, ...]
    occluder: str
    occlusion_layer: str
    parameters: int
    input_shape: tuple[int, int, int]


def make_gallery(
    net: nn.Module,
    images: ImageStream,
    *,
    input_shape: tuple[int, int, int],
    title: str,
    data: str,
    classes: Sequence[str] = (),
    multi_label: bool = False,
    temperature: float = 1.0,
    fill: Tensor | float = 0.0,
    layers: Sequence[str] | None = None,
    units: int = 4,
    k: int = 9,
    examples: int = 3,
    state: Path | None = None,
    progress: Progress = silent,
) -> Gallery:
    """Look through a whole network: every convolution, some of its units, and some images under an occluder.

    Args:
        net: the network.
        images: the data set; one pass, then the strongest images again.
        input_shape: channels, height and width in pixels.
        title: the network, in words.
        data: the data set, in words.
        classes: names in the order of the scores.
        multi_label: whether the scores are independent.
        temperature: what scores are divided by before they become probabilities, above 0: the bundle's.
        fill: what the occluder shows, as ``occlude``.
        layers: paths of convolutions; None takes all.
        units: units shown of each, evenly spaced among those that are ever above 0.
        k: strongest images of each unit.
        examples: images under the occluder; 0 leaves the section out.
        state: file that keeps an interrupted pass, as ``find_strongest``.
        progress: listener.

    Raises:
        UsageError: a layer that is no convolution, or a network without any.
        DataError: no image can be read.

    Paper: Zeiler and Fergus 2013, Figs. 2, 6 and 7.
    Departures: none.
    """
    anatomy = trace(net, input_shape)
    known = convolutions(net, anatomy)
    if not known:
        raise UsageError(f"expected a network with convolutions, got {anatomy.name}, which has none")
    if wrong := [name for name in layers or () if name not in known]:
        raise UsageError(f"expected convolutions out of {', '.join(known)}, got {wrong[0]}")
    chosen = list(known) if layers is None else list(layers)
    read_at = {name: known[name] for name in chosen}
    found = find_strongest(
        net, images, list(dict.fromkeys(read_at.values())), k=k, state=state, progress=progress
    )
    tile_px = 64 if len(chosen) * units <= 160 else 48
    sections = []
    for number, name in enumerate(chosen):
        top = found[read_at[name]]
        sections.append(_section(net, images, anatomy, name, top, units=units, tile_px=tile_px))
        progress("gallery", number + 1, len(chosen))
    last = found[read_at[chosen[-1]]]
    shown, occluder, summed = occlusion_examples(
        net, images, last, classes, fill, multi_label, temperature, examples, progress
    )
    return Gallery(
        title=title,
        data=data,
        num_images=last.num_images,
        k=last.values.shape[1],
        num_layers=len(known),
        layers=tuple(sections),
        occlusion=shown,
        occluder=occluder,
        occlusion_layer=summed,
        parameters=anatomy.parameters,
        input_shape=input_shape,
    )


def show_gallery(
    opened: OpenNetwork,
    data: DataChoice,
    *,
    layer: str | Sequence[str] | None = None,
    num_units: int = 4,
    top: int = 9,
    examples: int = 3,
    split: Split = "auto",
    state: Path | None = None,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Gallery:
    """Make the gallery of a network, as ``make_gallery``, from a data set that a word names.

    Args:
        opened: the network.
        data: a data set, see ``look.inputs.open_data``.
        layer: paths of convolutions; None takes all.
        num_units: units shown of each.
        top: strongest images of each unit.
        examples: images under the occluder; 0 leaves the section out.
        split: see ``look.inputs.open_data``.
        state: file that keeps an interrupted pass, as ``find_strongest``.
        compute: where; the numbers are fp32.
        progress: listener.

    Raises:
        UsageError: as ``make_gallery``, or no such data set or split.
        DataError: no image can be read.
    """
    pre = opened.preprocessing
    source = open_data(data, pre, split=split, batch_images=compute.batch(32))
    black, _ = black_and_white(pre)
    with on_device(opened.net, compute.torch_device) as net:
        return make_gallery(
            net,
            source.images,
            input_shape=opened.input_shape,
            title=title_of(opened),
            data=source.title,
            classes=opened.classes,
            multi_label=opened.bundle.multi_label,
            temperature=opened.bundle.temperature,
            fill=fill_of("grey", black[None, :, None, None], pre),
            layers=[layer] if isinstance(layer, str) else layer,
            units=num_units,
            k=top,
            examples=examples,
            state=state,
            progress=progress,
        )


def convolutions(net: nn.Module, anatomy: Anatomy) -> dict[str, str]:
    """Name the convolutions of a network, each with the module that ends it: batch norm, ReLU, or itself.

    A module that is used twice is not among them.
    """
    modules = dict(net.named_modules())
    readers: dict[str, list[Layer]] = {}
    for row in anatomy:
        for source in row.inputs:
            readers.setdefault(source, []).append(row)
    again = {row.name.partition("#")[0] for row in anatomy if "#" in row.name}
    ends = {}
    for row in anatomy:
        if row.role != "conv" or row.name not in modules or row.name in again:
            continue
        end = row
        while len(readers.get(end.name, ())) == 1:
            following = readers[end.name][0]
            fits = following.role in ("norm", "activation") and following.output == row.output
            if not fits or following.name not in modules or following.name in again:
                break
            if following.role == "norm" and "Batch" not in following.kind:
                break
            end = following
            if end.role == "activation":
                break
        ends[row.name] = end.name
    return ends


def _section(
    net: nn.Module,
    images: ImageStream,
    anatomy: Anatomy,
    name: str,
    top: Strongest,
    *,
    units: int,
    tile_px: int,
) -> LayerSection:
    alive = (top.values[:, 0] > 0).nonzero()[:, 0].tolist()
    pool = alive or list(range(len(top.values)))
    chosen = sorted({pool[int(place)] for place in np.linspace(0, len(pool) - 1, min(units, len(pool)))})
    rule: Rule = "deconvnet"
    note = ""
    try:
        patches = list(strongest_patches(net, images, top, units=chosen, rule=rule))
    except UsageError as error:
        rule, note = "gradient", str(error)
        patches = list(strongest_patches(net, images, top, units=chosen, rule=rule))
    row = anatomy[name]
    weights, linked, sheet = _filters(net, name, anatomy.input_shape)
    words = [f"{len(top.values)} filters"]
    if row.window is not None:
        height, width = row.window.kernel
        stride = row.window.stride[0]
        words = [
            f"{len(top.values)} filters of {height}x{width}" + (f", stride {stride}" if stride > 1 else "")
        ]
    words.append(f"maps of {top.map_size[0]}x{top.map_size[1]}")
    if row.field is not None:
        words.append(f"receptive field {row.field.rows.size_px} px")
    return LayerSection(
        name=name,
        read_at=top.layer,
        about=", ".join(words),
        filters=sheet,
        cards=tuple(
            _card(one, None if sheet else _kernels(weights, linked, one.unit), tile_px) for one in patches
        ),
        num_units=len(top.values),
        num_silent=len(top.values) - len(alive),
        rule=rule,
        note=note,
        extensions=tuple(sorted({each for one in patches for each in one.extensions})),
    )


def _filters(
    net: nn.Module, name: str, input_shape: tuple[int, int, int]
) -> tuple[Tensor | None, Tensor | None, Figure | None]:
    """Read the filters of a convolution; draw them all where they see the image."""
    try:
        found = read_filters(net, name, input_shape=input_shape)
    except UsageError:  # a convolution of a kind that has no filters to show
        return None, None, None
    if not found.sees_image or found.weights.shape[1] not in (1, 3):
        return found.weights, found.linked, None
    colours = colours_of(found.weights)
    columns = 8 * max(1, round((len(colours) * 1.5) ** 0.5 / 8)) if len(colours) > 8 else len(colours)
    return found.weights, found.linked, inline(tiles(rgb(colours), columns), pixels=True)


def _kernels(weights: Tensor | None, linked: Tensor | None, unit: int) -> Figure | None:
    """Draw a unit's kernels for the input channels that weigh most, on one scale."""
    if weights is None or linked is None or min(weights.shape[2:]) == 1:
        return None
    channels = linked[unit].nonzero()[:, 0]
    order = weights[unit, channels].flatten(1).norm(dim=1).argsort(descending=True)[:_KERNELS]
    kernels = weights[unit, channels[order]]
    colours = colours_of(kernels[:, None], shared=True)
    times = max(1, 27 // max(colours.shape[1:3]))
    large = rgb(colours).repeat(times, axis=1).repeat(times, axis=2)
    return inline(tiles(large, min(8, len(large)), gap=6, fill=0.95), pixels=True)


def _card(found: UnitPatches, kernels: Figure | None, tile_px: int) -> UnitCard:
    signals, patches = patch_sheets(found, tile_px=tile_px)
    small = max(found.patches.shape[1:3]) < tile_px
    return UnitCard(
        unit=found.unit,
        strongest=found.values[0],
        weakest=found.values[-1],
        kernels=kernels,
        projections=inline(signals, pixels=small),
        patches=inline(patches, pixels=small),
    )


def render(gallery: Gallery) -> str:
    """Write a gallery as one HTML page that loads nothing.

    Raises:
        DataError: the page would be larger than 10 MB.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: Mapping[str, Callable[..., str]] = {
        "amount": lambda number: f"{number:,}",
        "value": lambda number: f"{number:.3g}",
        "percent": lambda number: f"{number:.1%}",
        "probability": lambda number: f"{number:.5f}",
    }
    environment.filters.update(filters)
    template = environment.from_string(
        resources.files("striate.report").joinpath("gallery.html.j2").read_text(encoding="utf-8")
    )
    page = template.render(gallery=gallery, version=__version__)
    size = len(page.encode())
    if size > _LARGEST_BYTES:
        raise DataError(
            f"expected a page below {_LARGEST_BYTES / 1e6:.0f} MB, got {size / 1e6:.1f} MB: show fewer"
            " units a layer, or name the layers"
        )
    return page
