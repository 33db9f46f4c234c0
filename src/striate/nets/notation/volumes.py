"""What a layer does to a volume, in arithmetic alone: sizes, weights, and windows that don't fit."""

from dataclasses import replace

from striate.core.arithmetic import output_size
from striate.core.errors import InputSizeError, UsageError
from striate.nets.notation.layers import (
    MAX_SIZE,
    BatchNorm,
    Conv,
    FullyConnected,
    GlobalAvgPool,
    Layer,
    Norm,
    Pair,
    Pool,
)

Volume = tuple[int, ...]
"""Channels, height and width of maps; or one number, the neurons of a fully connected layer."""

_AXES = ((0, "height"), (1, "width"))
_MAX_TRIED = 64


def after(layer: Layer, volume: Volume) -> Volume:
    """Return the volume behind a layer; sizes that don't fit are rounded as the layer says.

    Args:
        layer: any record of ``layers``.
        volume: what it reads.

    Raises:
        UsageError: the layer can't read this volume, with the arithmetic.
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
        f"{arithmetic(layer, volume)}: {_window(layer)} at stride {_side(layer.stride)} doesn't fit"
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


def _side(pair: Pair) -> str:
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
