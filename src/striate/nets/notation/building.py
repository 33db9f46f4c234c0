"""From a ``Notation`` to an ordinary, trainable network."""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from striate.core.errors import UsageError
from striate.nets.modules import Chain, LocalResponseNorm, ScaledTanh
from striate.nets.notation.record import (
    Activation,
    ActivationKind,
    BatchNorm,
    Conv,
    Dropout,
    FullyConnected,
    GlobalAvgPool,
    Layer,
    Norm,
    Notation,
    Pool,
    Volume,
    num_values,
)

_ACTIVATIONS: dict[ActivationKind, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "leaky relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "scaled tanh": ScaledTanh,
}


def build(notation: Notation, num_classes: int | None = None) -> Chain:
    """Build the network, with fresh weights drawn from torch's global random numbers.

    Args:
        notation: the network as a value.
        num_classes: neurons of the last fully connected layer, or filters of the last convolution before a
            global average, at least 1; as written if ``None``.

    Returns:
        A network from ``N x C x H x W`` images of the written size to ``N x num_classes`` logits. Its modules
        have the labels of the layers; ``flatten`` is added before the first fully connected layer.

    Raises:
        UsageError: ``num_classes`` is out of range, or no layer decides classes, so that no width can change.

    Paper: none; weights start as in He et al. 2015, "Delving deep into rectifiers": normal, fan-in.
    Departures: biases start from zero.
    """
    if num_classes is not None and num_classes != notation.num_classes:
        notation = _with_classes(notation, num_classes)
    layers: dict[str, nn.Module] = {}
    volume: Volume = notation.input_shape
    for layer, behind in zip(notation.layers, notation.volumes, strict=True):
        if isinstance(layer, FullyConnected) and "flatten" not in layers:
            layers["flatten"] = nn.Flatten()
        layers[layer.label] = _module(layer, volume)
        volume = behind
    if "flatten" not in layers:
        layers["flatten"] = nn.Flatten()
    for module in layers.values():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return Chain(notation.name, notation.input_shape, layers)


def _with_classes(notation: Notation, num_classes: int) -> Notation:
    """Give the last layer with weights another width: FC, or the convolution before a global average."""
    layers = list(notation.layers)
    places = [i for i, layer in enumerate(layers) if isinstance(layer, FullyConnected | Conv)]
    last = layers[places[-1]] if places else None
    if isinstance(last, FullyConnected):
        layers[places[-1]] = replace(last, units=num_classes)
    elif isinstance(last, Conv) and last.filters == notation.num_classes:
        layers[places[-1]] = replace(last, filters=num_classes)
    else:
        raise UsageError(
            f"{notation.name} ends in {notation.num_classes:,} values and no layer that decides classes:"
            " end it with FC 10 or GLOBAL AVG POOL"
        )
    return replace(notation, layers=tuple(layers))


def _module(layer: Layer, volume: Volume) -> nn.Module:
    match layer:
        case Conv():
            return nn.Conv2d(
                volume[0],
                layer.filters,
                kernel_size=layer.kernel,
                stride=layer.stride,
                padding=layer.padding,
                groups=layer.groups,
                bias=layer.bias,
            )
        case Pool(kind="max"):
            return nn.MaxPool2d(layer.kernel, layer.stride, layer.padding, ceil_mode=layer.ceil)
        case Pool():
            return nn.AvgPool2d(layer.kernel, layer.stride, layer.padding, ceil_mode=layer.ceil)
        case GlobalAvgPool():
            return nn.AvgPool2d((volume[1], volume[2]))
        case Norm():
            return LocalResponseNorm(
                size=layer.size, alpha=layer.alpha, beta=layer.beta, k=layer.k, towers=layer.towers
            )
        case BatchNorm():
            return nn.BatchNorm2d(volume[0]) if len(volume) == 3 else nn.BatchNorm1d(volume[0])
        case Dropout():
            return nn.Dropout(layer.p)
        case FullyConnected():
            return nn.Linear(num_values(volume), layer.units, bias=layer.bias)
        case Activation():
            make = _ACTIVATIONS[layer.kind]
            return make() if layer.constant is None else make(layer.constant)
