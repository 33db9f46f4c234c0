"""The layers that the notation can say: frozen records, equal by value, that refuse values out of range."""

import keyword
import math
import re
from dataclasses import dataclass
from typing import Literal

from striate.core.errors import UsageError
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
    """Refuse a label that can't name a module, or that the notation would read as another one.

    Raises:
        UsageError: the label, and what to write instead.
    """
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
