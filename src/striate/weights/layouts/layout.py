"""What a layout is: how one kind of file names and shapes the tensors of one network."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from striate.core.errors import BundleError
from striate.data.preprocess import Preprocessing

Format = Literal["striate", "torchvision", "timm", "cifar", "caffe", "matconvnet"]
MeanRgb = tuple[float, float, float]

WEIGHT_BIAS = ("weight", "bias")
BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _unchanged(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(tensors)


def _unknown(input_px: int, mean_rgb: MeanRgb | None) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a kind of file stores a network.

    Attributes:
        format: the kind of file.
        net: the name of striate's network.
        keys: from the file's name of each tensor to striate's, in the file's order.
        prepare: gives the tensors, still under the file's names, the shape and meaning that striate's have;
            it may merge some into others.
        preprocessing: ``(input side in pixels, the file's own mean in RGB, 0 to 255, or None)`` -> what the
            weights expect, or None where the format does not say.
        notes: what a user of these weights in this network should know, a sentence each.
    """

    format: Format
    net: str
    keys: Mapping[str, str]
    prepare: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = _unchanged
    preprocessing: Callable[[int, MeanRgb | None], Preprocessing | None] = _unknown
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A file's tensors under striate's names.

    Attributes:
        state: striate's name -> tensor in striate's shape.
        origin: striate's name -> the file's name.
        unknown: the file's names that the layout does not have, with their tensors.
    """

    state: dict[str, Tensor]
    origin: dict[str, str]
    unknown: dict[str, Tensor]


def tensors_of(places: Iterable[tuple[str, str]], parts: Iterable[str] = WEIGHT_BIAS) -> dict[str, str]:
    """Spell out the tensors of layers.

    Args:
        places: the file's name and striate's name of each layer.
        parts: the tensors that each of them has; both sides call them the same.

    Returns:
        The file's key -> striate's key.
    """
    parts = tuple(parts)
    return {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in places for part in parts}


def translate(layout: Layout, tensors: Mapping[str, Tensor]) -> Translation:
    """Give a file's tensors striate's names and shapes; nothing is checked against a network here.

    Args:
        layout: how the file stores the network.
        tensors: by the file's own names.

    Returns:
        The tensors, sorted into known and unknown. Most share memory with those given.

    Raises:
        BundleError: tensors that belong together contradict each other.
    """
    state: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    unknown: dict[str, Tensor] = {}
    for key, tensor in layout.prepare(tensors).items():
        if key in layout.keys:
            state[layout.keys[key]] = tensor
            origin[layout.keys[key]] = key
        else:
            unknown[key] = tensor
    return Translation(state=state, origin=origin, unknown=unknown)


def flat_rows(weight: Tensor) -> Tensor:
    """Bring the weight of a fully connected layer to ``out x in``.

    Takes the form of a convolution over the whole map, ``out x channels x height x width`` (the order in
    which a flattened map is read), and Caffe's old ``1 x 1 x out x in``; another form is left alone.
    """
    if weight.ndim != 4:
        return weight
    return weight[0, 0] if weight.shape[:2] == (1, 1) else weight.flatten(1)


def scaled_resize_px(resize_px: int, crop_px: int, input_px: int) -> int:
    """Scale a published resize to another input side, so that the same part of the image is seen."""
    return round(resize_px * input_px / crop_px)


def no_such_net(format_name: str, net: str, nets: Iterable[str]) -> BundleError:
    """Make the error for a network that a kind of file is not known for."""
    return BundleError(
        f"expected a network that {format_name} files are known for ({', '.join(nets)}), got {net}:"
        " choose one of these"
    )
