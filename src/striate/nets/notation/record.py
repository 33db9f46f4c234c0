"""The network as a value: layers, frozen and checked, and what each does to a volume, in arithmetic alone."""

import keyword
import math
import re
from dataclasses import dataclass, field, replace
from typing import Literal

from striate.core.arithmetic import output_size
from striate.core.errors import InputSizeError, UsageError
from striate.nets.modules import Chain

MAX_LAYERS = 1_000
MAX_SIZE = 100_000
"""Largest height, width, window, stride or padding."""
MAX_UNITS = 1_000_000
"""Largest number of filters, channels or neurons of one layer."""
MAX_PARAMETERS = 10**10
MAX_LABEL = 64
MAX_NORM_SIZE = 999
_EXACT = 2**53

Pair = tuple[int, int]
"""Height, then width."""

PoolKind = Literal["max", "avg"]
ActivationKind = Literal["relu", "leaky relu", "elu", "tanh", "sigmoid", "scaled tanh"]

PREFIXES: dict[str, str] = {
    "relu": "relu",
    "leaky relu": "relu",
    "elu": "elu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "scaled tanh": "squash",
}
"""What the label of an activation starts with; the keys are all kinds of activations."""

DEFAULT_CONSTANTS: dict[str, float] = {"leaky relu": 0.01, "elu": 1.0}
"""Activations that have a constant: the slope below zero, and the depth at minus infinity."""

_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
SLIDE_LABEL = re.compile(
    r"(conv|pool|norm|bn|relu|tanh|sigmoid|elu|squash|drop|fc)(\d+(?:_\d+)*)?", re.ASCII | re.IGNORECASE
)
"""Labels that slides print in capitals: written as CONV1, they name the module conv1."""
_RESERVED = {"name", "input_shape", "training", "flatten", "input", "activation", "total"} | {
    "memory",
    "params",
    "parameters",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """A convolution: ``filters`` filters of ``kernel`` px over all maps, or over those of its group."""

    label: str
    filters: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1
    bias: bool = True

    def __post_init__(self) -> None:
        check_label(self.label)
        _check_whole("filters", self.filters, 1, MAX_UNITS)
        _check_window(self.kernel, self.stride, self.padding)
        _check_whole("groups", self.groups, 1, MAX_UNITS)
        _check_flag("bias", self.bias)
        if self.filters % self.groups:
            raise UsageError(
                f"expected a number of filters that {self.groups} groups can share, got {self.filters}:"
                f" use a multiple of {self.groups}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Maximum or average of each window; ``ceil`` rounds sizes up, as Caffe does."""

    label: str
    kind: PoolKind
    kernel: Pair = (2, 2)
    stride: Pair = (2, 2)
    padding: Pair = (0, 0)
    ceil: bool = False

    def __post_init__(self) -> None:
        check_label(self.label)
        _check_choice("kind", self.kind, ("max", "avg"))
        _check_window(self.kernel, self.stride, self.padding)
        _check_flag("ceil", self.ceil)
        for kernel, padding in zip(self.kernel, self.padding, strict=True):
            if padding > kernel // 2:
                raise UsageError(
                    f"expected a pad of at most half the window, {kernel // 2}, got {padding}:"
                    " a pool must not read a window of padding alone"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAvgPool:
    """The average of each whole map."""

    label: str

    def __post_init__(self) -> None:
        check_label(self.label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """Local response normalisation, ``parts.LocalResponseNorm``; the constants are AlexNet's."""

    label: str
    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0
    towers: int = 1

    def __post_init__(self) -> None:
        check_label(self.label)
        _check_whole("size", self.size, 1, MAX_NORM_SIZE)
        if self.size % 2 == 0:
            raise UsageError(
                f"expected an odd size of the normalisation, got {self.size}: use 5, the paper's"
            )
        _check_real("alpha", self.alpha, 0.0)
        _check_real("beta", self.beta, 0.0)
        _check_real("k", self.k, 0.0)
        if self.k == 0:
            raise UsageError("expected k above 0, got 0: use 2, the paper's")
        _check_whole("towers", self.towers, 1, MAX_UNITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm:
    """Batch normalisation with PyTorch's eps 1e-5 and momentum 0.1, with scale and shift."""

    label: str

    def __post_init__(self) -> None:
        check_label(self.label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A non-linearity; ``constant`` is that of a leaky ReLU (slope) or an ELU (depth), else ``None``."""

    label: str
    kind: ActivationKind = "relu"
    constant: float | None = None

    def __post_init__(self) -> None:
        check_label(self.label)
        _check_choice("kind", self.kind, tuple(PREFIXES))
        if self.kind in DEFAULT_CONSTANTS:
            _check_real(f"the constant of {self.kind}", self.constant, 0.0)
        elif self.constant is not None:
            raise UsageError(f"expected no constant for {self.kind}, got {self.constant}: leave it out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout:
    """Zero a fraction ``p`` of the values in training."""

    label: str
    p: float = 0.5

    def __post_init__(self) -> None:
        check_label(self.label)
        _check_real("the fraction of a dropout", self.p, 0.0)
        if self.p >= 1:
            raise UsageError(f"expected a fraction in [0, 1) for a dropout, got {self.p}: use 0.5")


@dataclass(frozen=True, slots=True, kw_only=True)
class FullyConnected:
    """A fully connected layer of ``units`` neurons; maps are flattened before it."""

    label: str
    units: int
    bias: bool = True

    def __post_init__(self) -> None:
        check_label(self.label)
        _check_whole("units", self.units, 1, MAX_UNITS)
        _check_flag("bias", self.bias)


Layer = Conv | Pool | GlobalAvgPool | Norm | BatchNorm | Activation | Dropout | FullyConnected


def check_label(label: str) -> None:
    """Refuse a label that can't name a module, or that the notation would read as another one."""
    if not isinstance(label, str) or len(label) > MAX_LABEL or not _LABEL.fullmatch(label):
        raise UsageError(
            f"expected a label of at most {MAX_LABEL} letters, digits and _ that starts with a letter,"
            f" got {shorten(label)}: rename the layer"
        )
    if label.lower() in _RESERVED or keyword.iskeyword(label) or hasattr(Chain, label):
        raise UsageError(f"expected a label that is free, got {label}: the word is taken, choose another")
    if SLIDE_LABEL.fullmatch(label) and label != label.lower():
        raise UsageError(
            f"expected the label {label.lower()}, got {label}: module names are in small letters"
        )


def shorten(value: object) -> str:
    """Quote what was got, on one line and not longer than a line."""
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:40] + "...")
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    text = repr(value)
    return text if len(text) <= 60 and text.isprintable() else f"a {type(value).__name__}"


def _check_window(kernel: Pair, stride: Pair, padding: Pair) -> None:
    for what, pair, low in (("kernel", kernel, 1), ("stride", stride, 1), ("padding", padding, 0)):
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise UsageError(f"expected height and width as the {what}, got {shorten(pair)}: pass a pair")
        for number in pair:
            _check_whole(what, number, low, MAX_SIZE)


def _check_whole(what: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise UsageError(
            f"expected a whole number from {low} to {high:,} as {what}, got {shorten(value)}:"
            " correct the number"
        )


def _check_real(what: str, value: float | None, low: float) -> None:
    known = type(value) is float or (type(value) is int and abs(value) <= _EXACT)
    if not known or value is None or not math.isfinite(value) or value < low:
        raise UsageError(
            f"expected {what} to be a number of at least {low:g}, got {shorten(value)}: correct it"
        )


def _check_flag(what: str, value: bool) -> None:
    if type(value) is not bool:
        raise UsageError(f"expected {what} to be True or False, got {shorten(value)}: correct it")


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"expected {what} to be {' or '.join(choices)}, got {shorten(value)}: correct it")


Volume = tuple[int, ...]
"""Channels, height and width of maps; or one number, the neurons of a fully connected layer."""

_AXES = ((0, "height"), (1, "width"))
_MAX_TRIED = 64


def after(layer: Layer, volume: Volume) -> Volume:
    """Return the volume behind a layer; sizes that don't fit are rounded as the layer says.

    Args:
        layer: any record of ``layers``.
        volume: what it reads.
    """
    match layer:
        case FullyConnected():
            return (layer.units,)
        case Conv() | Pool() | GlobalAvgPool() | Norm() if len(volume) == 1:
            what = type(layer).__name__
            raise UsageError(
                f"expected maps before a {what}, got the {volume[0]} numbers of a fully connected layer:"
                f" put the {what} before the first FC"
            )
        case Conv():
            _check_share("groups", layer.groups, volume)
            return (layer.filters, *_slide(layer, volume))
        case Pool():
            return (volume[0], *_slide(layer, volume))
        case GlobalAvgPool():
            return (volume[0], 1, 1)
        case Norm():
            _check_share("towers", layer.towers, volume)
    return volume


def num_weights(layer: Layer, volume: Volume) -> int:
    """Count the weights of a layer that reads ``volume``, biases left out, as the lectures do."""
    match layer:
        case Conv():
            return layer.filters * (volume[0] // layer.groups) * layer.kernel[0] * layer.kernel[1]
        case FullyConnected():
            return layer.units * num_values(volume)
        case BatchNorm():
            return 2 * volume[0]
    return 0


def num_biases(layer: Layer) -> int:
    """Count the biases of a layer."""
    match layer:
        case Conv():
            return layer.filters if layer.bias else 0
        case FullyConnected():
            return layer.units if layer.bias else 0
    return 0


def num_values(volume: Volume) -> int:
    """Multiply the sizes of a volume."""
    values = 1
    for size in volume:
        values *= size
    return values


def show(volume: Volume) -> str:
    """Write a volume as the lectures do: ``[55x55x96]``, height first."""
    return f"[{volume[0]}]" if len(volume) == 1 else f"[{volume[1]}x{volume[2]}x{volume[0]}]"


def by(pair: Pair) -> str:
    """Write height and width, ``3x3``."""
    return f"{pair[0]}x{pair[1]}"


def arithmetic(layer: Layer, volume: Volume) -> str:
    """Write how the lectures compute the height behind a convolution or pool: ``(227 - 11)/4 + 1 = 55``.

    Returns:
        The line for the first axis that doesn't fit, or else for the height; empty for other layers.
    """
    if not isinstance(layer, Conv | Pool):
        return ""
    axis = next((axis for axis, _ in _AXES if _remainder(layer, volume, axis)), 0)
    return _arithmetic(layer, volume, axis)


def misfit(layer: Layer, volume: Volume) -> str | None:
    """Say why windows don't fit a volume, with the arithmetic and with what would fit.

    Returns:
        One line, or ``None`` where they fit or where the layer rounds up.
    """
    if not isinstance(layer, Conv | Pool) or (isinstance(layer, Pool) and layer.ceil):
        return None
    if not any(_remainder(layer, volume, axis) for axis, _ in _AXES):
        return None
    rounded = f"floor (size {by(_slide(layer, volume))})"
    if isinstance(layer, Pool):
        rounded += f" or ceil (size {by(_slide(replace(layer, ceil=True), volume))})"
    fitting = [*_fitting_strides(layer, volume), *_fitting_pads(layer, volume)]
    remedy = f"use {' or '.join(fitting)}, or " if fitting else ""
    return (
        f"{arithmetic(layer, volume)}: {_window(layer)} at stride {side(layer.stride)} doesn't fit"
        f" {_a(by((volume[1], volume[2])))} input: {remedy}write {rounded} at the end of the line"
    )


def _slide(layer: Conv | Pool, volume: Volume) -> Pair:
    sizes = []
    for axis, name in _AXES:
        try:
            size = output_size(
                volume[axis + 1],
                layer.kernel[axis],
                stride=layer.stride[axis],
                padding=layer.padding[axis],
                ceil_mode=isinstance(layer, Pool) and layer.ceil,
            ).size
        except InputSizeError:
            span = volume[axis + 1] + 2 * layer.padding[axis]
            raise UsageError(
                f"expected {_a(by(layer.kernel))} window that fits the input, got a {name} of {span} px"
                f" with its padding, and {_span(layer, volume, axis)} is below 0:"
                " use a smaller window, more padding, larger images or fewer pools"
            ) from None
        if size > MAX_SIZE:
            raise UsageError(
                f"expected a {name} of at most {MAX_SIZE:,} px, got {size:,}:"
                " use less padding or larger strides"
            )
        sizes.append(size)
    return sizes[0], sizes[1]


def _check_share(what: str, count: int, volume: Volume) -> None:
    if volume[0] % count:
        raise UsageError(
            f"expected {what} that divide the {volume[0]} channels of the input, got {count}:"
            f" use a divisor of {volume[0]}"
        )


def _remainder(layer: Conv | Pool, volume: Volume, axis: int) -> int:
    """Pixels that no window reads, whichever way the layer rounds."""
    return (volume[axis + 1] + 2 * layer.padding[axis] - layer.kernel[axis]) % layer.stride[axis]


def _span(layer: Conv | Pool, volume: Volume, axis: int) -> str:
    padding = f" + 2*{layer.padding[axis]}" if layer.padding[axis] else ""
    return f"{volume[axis + 1]}{padding} - {layer.kernel[axis]}"


def _arithmetic(layer: Conv | Pool, volume: Volume, axis: int) -> str:
    span = volume[axis + 1] + 2 * layer.padding[axis] - layer.kernel[axis]
    steps, lost = divmod(span, layer.stride[axis])
    result = f"{steps + 1}"
    if lost:
        quotient = span / layer.stride[axis] + 1
        digits = 2
        while digits < 6 and round(quotient, digits).is_integer():
            digits += 1
        result = f"{quotient:.{digits}f}"
    return f"({_span(layer, volume, axis)})/{layer.stride[axis]} + 1 = {result}"


def _window(layer: Conv | Pool) -> str:
    return f"{_a(by(layer.kernel))} {'filter' if isinstance(layer, Conv) else 'pool'}"


def _a(words: str) -> str:
    first = words.split("x")[0]
    return f"{'an' if first[0] == '8' or first in ('11', '18') else 'a'} {words}"


def side(pair: Pair) -> str:
    """Write one number for equal sides, else ``3x1``."""
    return str(pair[0]) if pair[0] == pair[1] else by(pair)


def _fitting_strides(layer: Conv | Pool, volume: Volume) -> list[str]:
    now = layer.stride[0]
    nearest = sorted(range(1, min(max(layer.kernel), _MAX_TRIED) + 1), key=lambda stride: abs(stride - now))
    for stride in nearest:
        changed = replace(layer, stride=(stride, stride))
        if not any(_remainder(changed, volume, axis) for axis, _ in _AXES):
            return [f"stride {stride} (size {by(_slide(changed, volume))})"]
    return []


def _fitting_pads(layer: Conv | Pool, volume: Volume) -> list[str]:
    largest = min(layer.kernel) // 2 if isinstance(layer, Pool) else min(layer.kernel) - 1
    now = layer.padding[0]
    for padding in sorted(range(min(largest, _MAX_TRIED) + 1), key=lambda padding: abs(padding - now)):
        changed = replace(layer, padding=(padding, padding))
        if any(volume[axis + 1] + 2 * padding < layer.kernel[axis] for axis, _ in _AXES):
            continue
        if not any(_remainder(changed, volume, axis) for axis, _ in _AXES):
            return [f"pad {padding} (size {by(_slide(changed, volume))})"]
    return []


MAX_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Notation:
    """A network of one path, from an image to scores.

    Two of them are equal where their input and layers are; the name is not compared.

    Attributes:
        name: the network's name, at most 100 printable characters.
        input_shape: channels, height and width in pixels.
        layers: the layers in order, each with its own label.
    """

    name: str = field(default="net", compare=False)
    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        check_name(self.name)
        check_input_shape(self.input_shape)
        if not isinstance(self.layers, tuple) or not 1 <= len(self.layers) <= MAX_LAYERS:
            raise UsageError(
                f"expected 1 to {MAX_LAYERS:,} layers, got {shorten(self.layers)}: change the network"
            )
        labels: set[str] = set()
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise UsageError(f"expected records of layers, got {shorten(layer)}: see docs/notation.md")
            if layer.label in labels:
                raise UsageError(
                    f"expected each label once, got {layer.label} twice: rename one of the layers"
                )
            labels.add(layer.label)
        check_total(self.parameters)

    @property
    def volumes(self) -> tuple[Volume, ...]:
        """The volume behind each layer: ``(C, H, W)``, or ``(units,)`` from the first FC on."""
        volumes = []
        volume: Volume = self.input_shape
        for layer in self.layers:
            volume = after(layer, volume)
            volumes.append(volume)
        return tuple(volumes)

    @property
    def parameters(self) -> int:
        """All trainable parameters, biases and the scale and shift of batch normalisation included."""
        inputs = (self.input_shape, *self.volumes)
        return sum(
            num_weights(layer, volume) + num_biases(layer)
            for layer, volume in zip(self.layers, inputs, strict=False)
        )

    @property
    def num_classes(self) -> int:
        """Number of scores: the values behind the last layer, flattened."""
        values = 1
        for size in self.volumes[-1]:
            values *= size
        return values


def check_name(name: str) -> None:
    """Refuse a name that can't be part of a message."""
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise UsageError(
            f"expected a name of 1 to {MAX_NAME} printable characters, got {shorten(name)}: choose another"
        )


def check_input_shape(shape: tuple[int, int, int]) -> None:
    """Refuse an input that is not three whole numbers in range."""
    whole = isinstance(shape, tuple) and len(shape) == 3 and all(type(size) is int for size in shape)
    if not whole or not all(1 <= size <= MAX_SIZE for size in shape):
        raise UsageError(
            f"expected an input of three sizes (channels, height, width) from 1 to {MAX_SIZE:,},"
            f" got {shorten(shape)}: correct the input"
        )


def check_total(parameters: int) -> None:
    """Refuse a network that no machine could hold."""
    if parameters > MAX_PARAMETERS:
        raise UsageError(
            f"expected at most {MAX_PARAMETERS:,} parameters in all, got {parameters:,}:"
            " pool more before FC, or use fewer filters and neurons"
        )
