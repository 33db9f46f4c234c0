"""The feature maps that an image gives, the strongest first, and what their units see.

``maps_picture.py`` draws them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.anatomy import Anatomy, Layer, trace
from striate.anatomy.field import Field
from striate.core.choices import MapStrength
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.look.layers import find_layer, pixel_box
from striate.look.picture import Box
from striate.look.running import reading

MOST_LAYERS = 9


def feature_maps(
    net: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    *,
    batch_images: int = 16,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """Return the feature maps that images give in some layers.

    Args:
        net: the network; it is left as it was.
        images: ``N x C x H x W``, normed, on the network's device.
        layers: paths of layers; of a module used several times, its last use counts.
        batch_images: images in a forward pass; the maps do not depend on it.
        progress: listener of the stage ``images``.

    Returns:
        For each layer ``N x channels x height x width``, as the layer gave them: a later operation that works
        in place does not change them.

    Raises:
        UsageError: no such layer; one that the images do not reach; one that gives no maps; or values that
            are not finite.
    """
    if images.ndim != 4 or not len(images):
        raise UsageError(f"expected images, N x C x H x W, got a tensor of {tuple(images.shape)}")
    kept: dict[str, list[Tensor]] = {layer: [] for layer in layers}

    def take(layer: str, output: Tensor) -> None:
        if output.ndim != 4:
            sizes = "x".join(map(str, output.shape[1:]))
            raise UsageError(
                f"expected a layer that gives maps, got {layer}, which gives {sizes} values an image without"
                " rows and columns: choose a convolution, a pool or a block"
            )
        kept[layer].append(output.detach().clone(memory_format=torch.contiguous_format))

    with reading(net, list(kept), images[:1]) as run:
        for start in range(0, len(images), batch_images):
            run(images[start : start + batch_images], take)
            progress("images", min(start + batch_images, len(images)), len(images))
    maps = {layer: torch.cat(parts) for layer, parts in kept.items()}
    for layer, values in maps.items():
        if not bool(values.isfinite().all()):
            raise UsageError(
                f"expected finite values, got NaN or infinity in {layer}: check the weights and the images"
            )
    return maps


def strengths(maps: Tensor, by: MapStrength = "max") -> Tensor:
    """Say how strong each map is: its largest value, or the mean of its values.

    Args:
        maps: ``... x height x width``.
        by: ``max`` or ``mean``, with their signs.

    Raises:
        UsageError: another word.
    """
    if by == "max":
        return maps.amax((-2, -1))
    if by == "mean":
        return maps.mean((-2, -1))
    raise UsageError(f"expected maps sorted by max or mean, got {by!r}")


def peak(one_map: Tensor) -> tuple[int, int]:
    """Return row and column of the largest value of a map; the first where several are equal."""
    place = int(one_map.flatten().argmax())
    return divmod(place, one_map.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMaps:
    """What one image gives in one layer.

    Attributes:
        layer: its path.
        maps: ``channels x height x width``.
        by: how ``order`` sorts.
        strengths: of each map.
        order: numbers of the maps, the strongest first; equal ones by number.
        num_dead: maps that are zero everywhere for this image.
        num_uses: how often the network uses the module; the maps are of the last use.
        field: the receptive fields of its units; None where no one size describes them.
        input_shape: channels, height and width of the image in pixels.
    """

    layer: str
    maps: Tensor
    by: MapStrength
    strengths: Tensor
    order: Tensor
    num_dead: int
    num_uses: int
    field: Field | None
    input_shape: tuple[int, int, int]

    def unit(
        self, channel: int | None = None, row: int | None = None, column: int | None = None
    ) -> tuple[int, int, int]:
        """Return channel, row and column of a unit; by default of the strongest of the strongest map.

        Raises:
            UsageError: there is no such unit.
        """
        count, height, width = self.maps.shape
        if channel is None:
            channel = int(self.order[0])
        if not 0 <= channel < count:
            raise UsageError(f"expected a map of {self.layer} from 0 to {count - 1}, got {channel}")
        if row is None or column is None:
            return channel, *peak(self.maps[channel])
        if not (0 <= row < height and 0 <= column < width):
            raise UsageError(
                f"expected a unit of {self.layer} in rows 0 to {height - 1} and columns 0 to {width - 1},"
                f" got {row},{column}"
            )
        return channel, row, column

    def box(self, row: int, column: int) -> Box | None:
        """Return the pixels that a unit sees, inside the image; None where it sees padding only."""
        top, left, bottom, right = pixel_box(self.field, row, column, self.input_shape)
        return (top, left, bottom, right) if top <= bottom and left <= right else None


def maps_of_image(
    net: nn.Module,
    image: Tensor,
    layers: Sequence[str] | None = None,
    *,
    by: MapStrength = "max",
    progress: Progress = silent,
) -> list[LayerMaps]:
    """Return the feature maps of one image, sorted, with the receptive fields of their units.

    Args:
        net: the network; it is left as it was.
        image: ``1 x C x H x W``, normed.
        layers: paths of layers; None takes ``main_layers``.
        by: what makes a map strong: its largest value (``max``) or its mean (``mean``).
        progress: listener.

    Returns:
        One value for each layer, on the CPU.

    Raises:
        UsageError: as ``feature_maps``; more than one image; a network without maps.
    """
    if image.ndim != 4 or len(image) != 1:
        raise UsageError(f"expected one image, 1 x C x H x W, got a tensor of {tuple(image.shape)}")
    _, channels, height, width = image.shape
    anatomy = trace(net, (channels, height, width))
    layers = main_layers(net, anatomy) if layers is None else list(layers)
    modules = {layer: find_layer(net, layer) for layer in layers}
    found = []
    for layer, maps in feature_maps(net, image, layers, progress=progress).items():
        own = maps[0].float().cpu()
        strong = strengths(own, by)
        rows = _rows_of(anatomy, layer, modules[layer])
        found.append(
            LayerMaps(
                layer=layer,
                maps=own,
                by=by,
                strengths=strong,
                order=strong.argsort(descending=True, stable=True),
                num_dead=int((own == 0).all((1, 2)).sum() if own.shape[1:].numel() else 0),
                num_uses=_num_uses(rows),
                field=rows[-1].field if rows else None,
                input_shape=(channels, height, width),
            )
        )
    return found


def main_layers(net: nn.Module, anatomy: Anatomy, *, most: int = MOST_LAYERS) -> list[str]:
    """Choose the layers that lectures show: after each convolution its activation, pools, and whole blocks.

    Layers whose maps are single values are left out. Of more than ``most``, the first and the last of each
    size of maps stay; if these are too many, the last of each size.

    Args:
        net: the network.
        anatomy: of it, by ``trace``.
        most: layers to return at most, at least 1.

    Raises:
        UsageError: no module of the network gives maps.
    """
    chosen = _ends_of_stages(_parts(net, anatomy))
    if not chosen:
        raise UsageError(f"expected a network whose layers give maps, got {anatomy.name}, which has none")
    if len(chosen) > most:
        sizes = [part.output[1:] for part in chosen]
        last = [k for k, size in enumerate(sizes) if size not in sizes[k + 1 :]]
        first = [k for k, size in enumerate(sizes) if size not in sizes[:k]]
        both = sorted({*first, *last})
        picked = both if len(both) <= most else last[-most:]
        chosen = [chosen[k] for k in picked]
    return [part.name for part in chosen]


@dataclass(frozen=True, slots=True)
class _Part:
    """A layer or block that may be shown: where in the computation it ends, what it is and what it gives."""

    name: str
    end: int
    role: str
    output: tuple[int, ...]


def _parts(net: nn.Module, anatomy: Anatomy) -> list[_Part]:
    """List layers and blocks in the order of computation; containers of layers are opened."""
    opened: list[tuple[str, nn.Module]] = []

    def add(prefix: str, module: nn.Module, whole: bool) -> None:
        for name, child in module.named_children():
            path = f"{prefix}{name}"
            is_list = isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict)
            if any(True for _ in child.children()) and (is_list or not whole):
                add(f"{path}.", child, whole)
            else:
                opened.append((path, child))

    def listed() -> list[_Part]:
        parts = []
        for path, module in opened:
            rows = _rows_of(anatomy, path, module)
            if not rows or len(rows[-1].output) != 3 or rows[-1].output[1:] == (1, 1):
                continue
            role = "block" if any(True for _ in module.children()) else rows[-1].role
            parts.append(_Part(path, places[rows[-1].name], role, rows[-1].output))
        return sorted(parts, key=lambda part: part.end)

    places = {row.name: number for number, row in enumerate(anatomy)}
    add("", net, True)
    parts = listed()
    if len(parts) < 2:
        opened.clear()
        add("", net, False)
        parts = listed()
    return parts


def _ends_of_stages(parts: Sequence[_Part]) -> list[_Part]:
    """Keep one part of each stage: a pool, a block, or a convolution with what follows it."""
    stages: list[list[_Part]] = []
    for part in parts:
        if part.role in ("conv", "pool", "block"):
            stages.append([part])
        elif stages:
            stages[-1].append(part)
    kept = []
    for stage in stages:
        active = [part for part in stage if part.role == "activation"]
        kept.append(active[-1] if active else stage[0])
    return kept


def _base(row: Layer) -> str:
    """Return the path of a row's module, without the number of its use."""
    return row.name.partition("#")[0]


def _rows_of(anatomy: Anatomy, layer: str, module: nn.Module) -> list[Layer]:
    """Return the rows of a module and of what is in it.

    An operation outside of modules may be called as a module is, ``relu``: its kind tells it apart.
    """
    if any(True for _ in module.children()):
        return [row for row in anatomy if row.name.startswith(f"{layer}.")]
    return [row for row in anatomy if _base(row) == layer and row.kind == type(module).__name__]


def _num_uses(rows: Sequence[Layer]) -> int:
    """Say how often a module is used: as often as that of its parts that is used the least."""
    counts = Counter(map(_base, rows))
    return min(counts.values(), default=1)
