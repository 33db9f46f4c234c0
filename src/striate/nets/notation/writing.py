"""Writing back: a network as a ``Notation``, and a ``Notation`` as its canonical text."""

import re
from collections.abc import Sequence

from torch import nn

from striate.core.errors import UsageError
from striate.nets.modules import Chain, LocalResponseNorm, PartialConv2d, RbfOutput, ScaledTanh, Subsampling
from striate.nets.notation.phrases import FORMS
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
    Pair,
    Pool,
    Volume,
    after,
    by,
    misfit,
    num_values,
    show,
    side,
)

_EPS = 1e-5
_MOMENTUM = 0.1
_PLAIN_ACTIVATIONS: dict[type[nn.Module], ActivationKind] = {
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    ScaledTanh: "scaled tanh",
}
_WHY_NOT: dict[type[nn.Module], str] = {
    PartialConv2d: "a convolution whose maps read a table of their own",
    Subsampling: "a pool with trainable coefficients",
    RbfOutput: "an output of radial basis functions",
    nn.Sequential: "a block of several layers",
    nn.ZeroPad2d: "zeros on chosen sides, which a pad of both sides is not",
}


def notation_of(net: nn.Module) -> Notation:
    """Say a network in the notation; its weights are not looked at.

    Args:
        net: a ``Chain`` of convolutions, pools, normalisations, activations, dropout and fully connected
            layers, for example ``nets.build("vgg16")``, on any device.

    Returns:
        The network as a value, with the names of its modules for labels. ``nn.Flatten`` has no record: it is
        implied before the first fully connected layer, or at the end.

    Raises:
        UsageError: a layer that the notation can't say, with its name and why.
    """
    if type(net) is not Chain:
        raise UsageError(
            f"expected a Chain, one path of named layers, got a {type(net).__name__}:"
            " the notation has no words for networks that branch"
        )
    volume: Volume = net.input_shape
    flat = False
    seen: set[int] = set()
    layers: list[Layer] = []
    for name, module in net._modules.items():
        assert module is not None
        if id(module) in seen:
            raise _refuse(
                net, name, "it is the same module as an earlier one, and the notation shares nothing"
            )
        seen.add(id(module))
        if type(module) is nn.Flatten:
            if (module.start_dim, module.end_dim) != (1, -1):
                raise _refuse(net, name, "it does not flatten whole images")
            flat = True
            continue
        layer = _layer(net, name, module, volume, flat)
        try:
            volume = after(layer, volume)
        except UsageError as error:
            raise _refuse(net, name, str(error)) from None
        layers.append(layer)
    if not flat:
        raise UsageError(f"{net.name}: expected flat scores at the end, got maps: add nn.Flatten()")
    return Notation(name=net.name, input_shape=net.input_shape, layers=tuple(layers))


def _layer(net: Chain, name: str, module: nn.Module, volume: Volume, flat: bool) -> Layer:
    if type(module) in (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, LocalResponseNorm, nn.BatchNorm2d) and flat:
        raise _refuse(net, name, "it reads maps behind nn.Flatten")
    try:
        layer = _windowed(net, name, module, volume) or _pointwise(net, name, module, volume, flat)
    except UsageError as error:
        raise (error if str(error).startswith(f"{net.name}: ") else _refuse(net, name, str(error))) from None
    if layer is None:
        why = _WHY_NOT.get(type(module), "the notation says one path of plain layers, no blocks or branches")
        raise _refuse(net, name, f"it is a {type(module).__name__}: {why}")
    return layer


def _windowed(net: Chain, name: str, module: nn.Module, volume: Volume) -> Layer | None:
    if type(module) is nn.Conv2d:
        _require(
            net, name, module.padding_mode == "zeros", f"its padding is {module.padding_mode}, not zeros"
        )
        _require(net, name, _pair(module.dilation) == (1, 1), "its filters are dilated")
        _require(net, name, not isinstance(module.padding, str), "its padding is a word, not a number")
        _require(net, name, module.in_channels == volume[0], f"it does not read {volume[0]} channels")
        assert not isinstance(module.padding, str)
        return Conv(
            label=name,
            filters=module.out_channels,
            kernel=_pair(module.kernel_size),
            stride=_pair(module.stride),
            padding=_pair(module.padding),
            groups=module.groups,
            bias=module.bias is not None,
        )
    if type(module) is nn.MaxPool2d:
        _require(net, name, _pair(module.dilation) == (1, 1), "its windows are dilated")
        _require(net, name, not module.return_indices, "it returns the places of the maxima too")
        return Pool(
            label=name,
            kind="max",
            kernel=_pair(module.kernel_size),
            stride=_pair(module.stride),
            padding=_pair(module.padding),
            ceil=module.ceil_mode,
        )
    if type(module) is nn.AvgPool2d:
        kernel, padding = _pair(module.kernel_size), _pair(module.padding)
        _require(net, name, module.divisor_override is None, "it divides by a number of its own")
        _require(
            net, name, module.count_include_pad or padding == (0, 0), "it leaves padding out of averages"
        )
        if kernel == volume[1:] and padding == (0, 0):
            return GlobalAvgPool(label=name)
        return Pool(
            label=name,
            kind="avg",
            kernel=kernel,
            stride=_pair(module.stride),
            padding=padding,
            ceil=module.ceil_mode,
        )
    return None


def _pointwise(net: Chain, name: str, module: nn.Module, volume: Volume, flat: bool) -> Layer | None:
    if type(module) is nn.Linear:
        _require(net, name, flat, "it reads maps without nn.Flatten before it")
        values = num_values(volume)
        _require(net, name, module.in_features == values, f"it does not read {values:,} values")
        return FullyConnected(label=name, units=module.out_features, bias=module.bias is not None)
    if type(module) is LocalResponseNorm:
        return Norm(
            label=name,
            size=module.size,
            alpha=float(module.alpha),
            beta=float(module.beta),
            k=float(module.k),
            towers=module.towers,
        )
    if type(module) in (nn.BatchNorm2d, nn.BatchNorm1d):
        assert isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)
        usual = module.eps == _EPS and module.momentum == _MOMENTUM
        _require(net, name, usual, f"its eps or momentum is not {_EPS:g} and {_MOMENTUM:g}")
        _require(net, name, module.affine and module.track_running_stats, "it has no scale or no averages")
        _require(net, name, (type(module) is nn.BatchNorm1d) == (len(volume) == 1), "it has the wrong axes")
        _require(net, name, module.num_features == volume[0], f"it does not read {volume[0]} channels")
        return BatchNorm(label=name)
    if type(module) is nn.Dropout:
        return Dropout(label=name, p=float(module.p))
    if type(module) is nn.LeakyReLU:
        return Activation(label=name, kind="leaky relu", constant=float(module.negative_slope))
    if type(module) is nn.ELU:
        return Activation(label=name, kind="elu", constant=float(module.alpha))
    kind = _PLAIN_ACTIVATIONS.get(type(module))
    return None if kind is None else Activation(label=name, kind=kind)


def _require(net: Chain, name: str, holds: bool, why: str) -> None:
    if not holds:
        raise _refuse(net, name, why)


def _refuse(net: Chain, name: str, why: str) -> UsageError:
    return UsageError(
        f"{net.name}: expected a layer that the notation has words for, got {name}:"
        f" {why} (see docs/notation.md)"
    )


def _pair(value: int | Sequence[int]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


_NUMBER = r"[0-9]{1,12}(?:_[0-9]{1,12})*"


def write(notation: Notation, *, volumes: bool = False) -> str:
    """Write a network in the notation; ``parse`` reads it back to an equal value.

    Args:
        notation: the network.
        volumes: whether each line starts with the volume behind its layer, as on the slides. Such a text
            says where a change does not fit; one without is easier to change.

    Returns:
        A text of one line for the input and one for each layer. Every activation is written; a line
        ``ACTIVATION NONE`` stands for a network that has none. The name is not in it.
    """
    volume: Volume = notation.input_shape
    lines = [f"{show(volume)} INPUT" if volumes else f"INPUT {show(volume)[1:-1]}"]
    if not any(isinstance(layer, Activation) for layer in notation.layers):
        lines.append("ACTIVATION NONE")
    for layer, behind in zip(notation.layers, notation.volumes, strict=True):
        line = _line(layer, volume)
        lines.append(f"{show(behind)} {line}" if volumes else line)
        volume = behind
    return "\n".join(lines) + "\n"


def _line(layer: Layer, volume: Volume) -> str:
    kind, clauses = _words(layer)
    if isinstance(layer, Pool) and layer.ceil:
        clauses += ", ceil"
    elif misfit(layer, volume):
        clauses += ", floor"
    slide = re.fullmatch(f"{FORMS[kind].prefix}({_NUMBER})", layer.label)
    if slide:
        head = f"{kind.upper()}{slide.group(1)}"
        return f"{head}: {clauses}" if clauses else head
    return f"{layer.label}: {kind.upper()} {clauses}".rstrip()


def _words(layer: Layer) -> tuple[str, str]:
    """Return the kind of a layer, a key of ``FORMS``, and what follows it."""
    match layer:
        case Conv():
            groups = f", groups {layer.groups}" if layer.groups > 1 else ""
            clauses = f"{layer.filters} {_window(layer)}, pad {side(layer.padding)}{groups}"
            return "conv", clauses + _bias(layer.bias)
        case Pool():
            padding = f", pad {side(layer.padding)}" if layer.padding != (0, 0) else ""
            return f"{layer.kind} pool", f"{_window(layer)}{padding}"
        case GlobalAvgPool():
            return "global avg pool", ""
        case Norm():
            towers = f", towers {layer.towers}" if layer.towers > 1 else ""
            constants = f"alpha {_real(layer.alpha)}, beta {_real(layer.beta)}, k {_real(layer.k)}"
            return "norm", f"size {layer.size}, {constants}{towers}"
        case BatchNorm():
            return "batchnorm", ""
        case Dropout():
            return "dropout", _real(layer.p)
        case FullyConnected():
            return "fc", f"{layer.units} neurons{_bias(layer.bias)}"
        case Activation():
            return layer.kind, "" if layer.constant is None else _real(layer.constant)


def _window(layer: Conv | Pool) -> str:
    return f"{by(layer.kernel)} filters at stride {side(layer.stride)}"


def _bias(bias: bool) -> str:
    return "" if bias else ", no bias"


def _real(value: float) -> str:
    """Write a number as short as reads back the same."""
    short = f"{value + 0.0:g}"
    return short if float(short) == value else repr(float(value))
