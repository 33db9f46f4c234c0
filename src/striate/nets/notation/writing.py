"""From a ``Notation`` to its canonical text: one layer a line, nothing left to rules."""

import re

from striate.nets.notation.layers import (
    Activation,
    BatchNorm,
    Conv,
    Dropout,
    FullyConnected,
    GlobalAvgPool,
    Layer,
    Norm,
    Pair,
    Pool,
)
from striate.nets.notation.phrases import FORMS
from striate.nets.notation.record import Notation
from striate.nets.notation.volumes import Volume, by, misfit, show

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
    """Return the kind of a layer, a key of ``FORMS``, and what stands behind it."""
    match layer:
        case Conv():
            groups = f", groups {layer.groups}" if layer.groups > 1 else ""
            clauses = f"{layer.filters} {_window(layer)}, pad {_side(layer.padding)}{groups}"
            return "conv", clauses + _bias(layer.bias)
        case Pool():
            padding = f", pad {_side(layer.padding)}" if layer.padding != (0, 0) else ""
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
    return f"{by(layer.kernel)} filters at stride {_side(layer.stride)}"


def _side(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else by(pair)


def _bias(bias: bool) -> str:
    return "" if bias else ", no bias"


def _real(value: float) -> str:
    """Write a number as short as reads back the same."""
    short = f"{value + 0.0:g}"
    return short if float(short) == value else repr(float(value))
