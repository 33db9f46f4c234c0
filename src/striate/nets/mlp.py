"""Perceptrons of one, two and three layers, as lectured: the network before the convolutional network.

Layer names: flatten, then fc1, act1, fc2, act2, fc3. A network of n layers has n - 1 hidden layers.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from striate.core.errors import UsageError
from striate.nets.entry import NetEntry
from striate.nets.modules import Chain

LEAKY_RELU_SLOPE = 0.1
"""Slope of the leaky ReLU for negative sums, as lectured: ``max(0.1 x, x)``."""

ELU_ALPHA = 1.0
"""Limit of the ELU for very negative sums, with the sign changed; the lecture leaves it a letter."""

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, LEAKY_RELU_SLOPE),
    "elu": partial(nn.ELU, ELU_ALPHA),
}


def mlp1(num_classes: int = 10, *, input_px: int = 28, channels: int = 1) -> Chain:
    """Build the 1-layer network: every score is a weighted sum of the pixels, ``f = W x + b``.

    Args:
        num_classes: number of output units.
        input_px: side of the square images in pixels, at least 1.
        channels: channels of the images, at least 1.

    Returns:
        A network from ``N x channels x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: a number is out of range.

    Paper: none; lectures. With softmax and cross-entropy it is logistic regression.
    Departures: choices where the lectures are silent, see ``ENTRIES``.
    """
    _check("mlp1", {"input_px": input_px, "channels": channels})
    net = Chain(
        "mlp1",
        (channels, input_px, input_px),
        {
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(channels * input_px**2, num_classes),
        },
    )
    _draw(net, "sigmoid")
    return net


def mlp2(
    num_classes: int = 10,
    *,
    input_px: int = 28,
    channels: int = 1,
    hidden_units: int = 100,
    activation: str = "sigmoid",
) -> Chain:
    """Build the 2-layer network: one hidden layer, ``f = W2 g(W1 x + b1) + b2``.

    Args:
        num_classes: number of output units.
        input_px: side of the square images in pixels, at least 1.
        channels: channels of the images, at least 1.
        hidden_units: units of the hidden layer, at least 1.
        activation: the function g: ``sigmoid``, ``tanh``, ``relu``, ``leaky_relu`` (slope 0.1) or ``elu``
            (alpha 1).

    Returns:
        A network from ``N x channels x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: a number is out of range, or no such activation.

    Paper: none; lectures, after Rumelhart, Hinton, Williams 1986.
    Departures: choices where the lectures are silent, see ``ENTRIES``.
    """
    _check("mlp2", {"input_px": input_px, "channels": channels, "hidden_units": hidden_units}, activation)
    net = Chain(
        "mlp2",
        (channels, input_px, input_px),
        {
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(channels * input_px**2, hidden_units),
            "act1": _ACTIVATIONS[activation](),
            "fc2": nn.Linear(hidden_units, num_classes),
        },
    )
    _draw(net, activation)
    return net


def mlp3(
    num_classes: int = 10,
    *,
    input_px: int = 28,
    channels: int = 1,
    hidden_units: int = 100,
    activation: str = "sigmoid",
) -> Chain:
    """Build the 3-layer network: two hidden layers of the same size.

    Args:
        num_classes: number of output units.
        input_px: side of the square images in pixels, at least 1.
        channels: channels of the images, at least 1.
        hidden_units: units of each hidden layer, at least 1.
        activation: as ``mlp2``.

    Returns:
        A network from ``N x channels x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: a number is out of range, or no such activation.

    Paper: none; lectures, after Rumelhart, Hinton, Williams 1986.
    Departures: choices where the lectures are silent, see ``ENTRIES``.
    """
    _check("mlp3", {"input_px": input_px, "channels": channels, "hidden_units": hidden_units}, activation)
    net = Chain(
        "mlp3",
        (channels, input_px, input_px),
        {
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(channels * input_px**2, hidden_units),
            "act1": _ACTIVATIONS[activation](),
            "fc2": nn.Linear(hidden_units, hidden_units),
            "act2": _ACTIVATIONS[activation](),
            "fc3": nn.Linear(hidden_units, num_classes),
        },
    )
    _draw(net, activation)
    return net


def _check(name: str, sizes: dict[str, int], activation: str = "sigmoid") -> None:
    defaults = {"input_px": 28, "channels": 1, "hidden_units": 100}
    for key, value in sizes.items():
        if value < 1:
            raise UsageError(
                f"{name} expects {key} to be at least 1, got {value}: use {defaults[key]}, the default"
            )
    if activation not in _ACTIVATIONS:
        raise UsageError(
            f"{name} expects activation to be one of {', '.join(_ACTIVATIONS)}, got {activation!r}:"
            " use sigmoid, the lectures'"
        )


def _draw(net: Chain, activation: str) -> None:
    """Draw weights that keep the size of the signal: Glorot's, but He's where half of a signal is cut off."""
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    for layer in layers:
        if layer is layers[-1] or activation in ("sigmoid", "tanh"):
            nn.init.xavier_uniform_(layer.weight)
        else:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)


_PAPER_1 = "none: as lectured; a linear classifier trained by gradient descent"
_PAPER = (
    "Rumelhart, Hinton, Williams: Learning representations by back-propagating errors."
    " Nature 323, 1986 (in the form of today's lectures)"
)
_LOSS = (
    "The output gives logits for softmax and cross-entropy; the lectures derive a squared error on sigmoid"
    " outputs too, which is not built in."
)
_BIAS = (
    "The lectures print no way to start: weights come from Glorot's uniform distribution, biases are zero."
)
_HIDDEN_CHOICES = (
    "The lectures print no sizes: 100 units a hidden layer and 28x28 grey images are the defaults.",
    "The lectures' formula has max(0, x) between the layers and their derivatives have the sigmoid; the"
    " default here is the sigmoid.",
    "The leaky ReLU has the lectures' slope of 0.1; the ELU's alpha, a letter in the lectures, is 1.",
    "The lectures print no way to start: weights come from Glorot's uniform distribution, but hidden layers"
    " followed by ReLU, leaky ReLU or ELU from He's normal distribution, and biases are zero.",
)
_NOT_PUBLISHED = "not published: an example of lectures, in no paper"
_PAGE = "docs/nets/mlp.md"


ENTRIES = (
    NetEntry(
        name="mlp1",
        title="1-layer perceptron (no hidden layer)",
        year=1986,
        paper=_PAPER_1,
        input_shape=(1, 28, 28),
        num_classes=10,
        build=mlp1,
        recipe="lenet5",
        published_error=_NOT_PUBLISHED,
        departures=(_LOSS, _BIAS),
        page=_PAGE,
    ),
    NetEntry(
        name="mlp2",
        title="2-layer perceptron (one hidden layer)",
        year=1986,
        paper=_PAPER,
        input_shape=(1, 28, 28),
        num_classes=10,
        build=mlp2,
        recipe="lenet5",
        published_error=_NOT_PUBLISHED,
        departures=(_LOSS, *_HIDDEN_CHOICES),
        page=_PAGE,
    ),
    NetEntry(
        name="mlp3",
        title="3-layer perceptron (two hidden layers)",
        year=1986,
        paper=_PAPER,
        input_shape=(1, 28, 28),
        num_classes=10,
        build=mlp3,
        recipe="lenet5",
        published_error=_NOT_PUBLISHED,
        departures=(_LOSS, *_HIDDEN_CHOICES),
        page=_PAGE,
    ),
)
