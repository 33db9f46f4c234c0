"""The filters of a layer: its weights, and what their channels are. ``filter_picture.py`` draws them."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.anatomy import Anatomy, Layer, trace
from striate.core.errors import UsageError
from striate.look.layers import find_layer
from striate.nets.modules import PartialConv2d

ColourOrder = Literal["RGB", "BGR"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The filters of one layer, as a convolution between all channels.

    Attributes:
        layer: its path.
        weights: ``filters x channels x height x width``, on the CPU; zero where there is no link.
        linked: ``filters x channels``: whether the filter reads the channel. In grouped convolutions, and in
            LeNet-5's C3, filters read some channels only.
        sees_image: whether the channels are the image's own.
        towers: the next convolution reads the filters' maps in so many groups: AlexNet's two halves.
        next_layer: the convolution that does, or "".
    """

    layer: str
    weights: Tensor
    linked: Tensor
    sees_image: bool
    towers: int = 1
    next_layer: str = ""

    @property
    def norms(self) -> Tensor:
        """Euclidean norm of each filter."""
        return self.weights.flatten(1).norm(dim=1)

    @property
    def size(self) -> str:
        """Sizes of one filter: height x width x channels that it reads."""
        _, _, height, width = self.weights.shape
        read = self.linked.sum(1)
        low, high = int(read.min()), int(read.max())
        return f"{height}x{width}x{low if low == high else f'{low} to {high}'}"


def read_filters(
    net: nn.Module, layer: str | None = None, *, input_shape: tuple[int, int, int] | None = None
) -> Filters:
    """Read the filters of a layer: a 2-D convolution, or a fully connected layer that sees the image.

    The weights of a fully connected layer on the image are one filter a unit, as large as the image.

    Args:
        net: the network, which is not touched.
        layer: path of the layer; None takes the first that has filters.
        input_shape: channels, height and width in pixels; None takes ``net.input_shape``.

    Returns:
        A copy of the weights, with what their channels are.

    Raises:
        UsageError: no such layer, or it has no filters, with those that do.
    """
    anatomy = trace(net, input_shape)
    if layer is None:
        layer = next((name for name in _rows(anatomy) if _has_filters(net, anatomy, name)), None)
        if layer is None:
            raise UsageError(f"expected a network with convolutions, got {anatomy.name}, which has none")
    module = find_layer(net, layer)
    if not _has_filters(net, anatomy, layer):
        _refuse(net, anatomy, layer, module)
    weights, linked = _dense(module, anatomy.input_shape)
    row = _row_of(anatomy, layer, module)
    towers, reader = _towers(anatomy, row) if row is not None else (1, "")
    return Filters(
        layer=layer,
        weights=weights,
        linked=linked,
        sees_image=row is not None and _sees_image(anatomy, row, weights.shape[1]),
        towers=towers,
        next_layer=reader,
    )


def colours_of(weights: Tensor, *, shared: bool = False, order: ColourOrder = "RGB") -> NDArray[Any]:
    """Turn filters into numbers between 0 and 1: zero is 0.5, the largest magnitude 0 or 1.

    Args:
        weights: ``filters x channels x height x width``.
        shared: one scale for all filters; otherwise each is divided by its own largest magnitude.
        order: of the channels, where there are three.

    Returns:
        ``filters x height x width x channels``, red first. A filter of zeros is 0.5 everywhere.
    """
    largest = weights.abs().amax() if shared else weights.abs().amax((1, 2, 3), keepdim=True)
    scaled = 0.5 + 0.5 * weights / largest.clamp_min(torch.finfo(weights.dtype).tiny)
    if order == "BGR" and weights.shape[1] == 3:
        scaled = scaled.flip(1)
    return scaled.permute(0, 2, 3, 1).numpy()


def _rows(anatomy: Anatomy) -> dict[str, Layer]:
    return {row.name: row for row in anatomy}


def _row_of(anatomy: Anatomy, name: str, module: nn.Module) -> Layer | None:
    """Return the row of a module's first use; an operation outside of modules may have its name."""
    own = (row for row in anatomy if row.name.partition("#")[0] == name and row.kind == type(module).__name__)
    return next(own, None)


def _has_filters(net: nn.Module, anatomy: Anatomy, name: str) -> bool:
    module = dict(net.named_modules()).get(name)
    if isinstance(module, nn.Linear):
        row = _row_of(anatomy, name, module)
        channels, height, width = anatomy.input_shape
        whole = module.in_features == channels * height * width
        return whole and row is not None and _sees_image(anatomy, row, channels)
    return isinstance(module, nn.Conv2d | PartialConv2d)


def _refuse(net: nn.Module, anatomy: Anatomy, name: str, module: nn.Module) -> None:
    inside = [
        path for path in _rows(anatomy) if path.startswith(f"{name}.") and _has_filters(net, anatomy, path)
    ]
    if not inside:
        inside = [path for path in _rows(anatomy) if _has_filters(net, anatomy, path)]
    if not inside:
        raise UsageError(f"expected a layer with filters, got {name}: {anatomy.name} has no 2-D convolution")
    hint = ", ".join(inside[:6]) + (", ..." if len(inside) > 6 else "")
    why = "reads no image" if isinstance(module, nn.Linear) else "has no filters of its own"
    raise UsageError(
        f"expected a layer with filters, got {name} ({type(module).__name__}), which {why}: try {hint}"
    )


def _dense(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return the weights between all channels, and which of them exist."""
    with torch.no_grad():
        if isinstance(module, PartialConv2d):
            weights = module.dense_weight().detach().float().cpu()
            linked = torch.zeros(weights.shape[:2], dtype=torch.bool)
            for number, inputs in enumerate(module.links):
                linked[number, list(inputs)] = True
            return weights, linked
        assert isinstance(module, nn.Conv2d | nn.Linear)
        own = module.weight.detach().float().cpu()
        if isinstance(module, nn.Linear):
            weights = own.reshape(-1, *input_shape).clone()
            return weights, torch.ones(weights.shape[:2], dtype=torch.bool)
        count, read = own.shape[:2]
        weights = own.new_zeros(count, module.in_channels, *own.shape[2:])
        linked = torch.zeros(count, module.in_channels, dtype=torch.bool)
        per_group = count // module.groups
        for group in range(module.groups):
            rows, columns = (
                slice(group * per_group, (group + 1) * per_group),
                slice(group * read, (group + 1) * read),
            )
            weights[rows, columns] = own[rows]
            linked[rows, columns] = True
        return weights, linked


def _sees_image(anatomy: Anatomy, row: Layer, channels: int) -> bool:
    """Tell whether nothing that mixes channels lies between the input and a row."""
    rows = _rows(anatomy)
    waiting = list(row.inputs)
    while waiting:
        above = rows[waiting.pop()]
        if above.role in ("conv", "fc", "join"):
            return False
        waiting += above.inputs
    return channels == anatomy.input_shape[0]


def _towers(anatomy: Anatomy, row: Layer) -> tuple[int, str]:
    """Return in how many groups the next convolution reads a row's maps, and which convolution it is."""
    reach = {row.name}
    for below in anatomy:
        if not reach.intersection(below.inputs):
            continue
        if below.role in ("conv", "fc"):
            groups = below.window.groups if below.window is not None else 1
            return (groups, below.name) if 1 < groups < row.output[0] else (1, "")
        if below.output[:1] == row.output[:1]:
            reach.add(below.name)
    return 1, ""
