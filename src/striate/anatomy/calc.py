"""The arithmetic of a chain of layers, step by step and written out as on slides.

Nothing is built: a volume walks through the steps, and each formula is kept as text beside its result.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from striate.anatomy.field import PIXELS, Axis, Field
from striate.anatomy.fitting import Misfit, Sliding, misfit
from striate.anatomy.layer import Im2col
from striate.core.errors import UsageError

Pair = tuple[int, int]
"""Rows, then columns."""

Volume = tuple[int, ...]
"""Channels, height and width; or one number, the units of a fully connected layer."""

BYTES = 4
"""Of one value: float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """A convolution: ``filters`` filters of ``kernel`` px over all channels, or over those of its group."""

    name: str
    filters: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1
    bias: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The maximum or the average of each window; ``ceil_mode`` rounds sizes up, as Caffe does."""

    name: str
    kind: Literal["max", "avg"]
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    ceil_mode: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalPool:
    """The average of each whole map."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A fully connected layer; maps are flattened before it."""

    name: str
    units: int
    bias: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """A layer that keeps the volume: an activation, dropout, a normalisation.

    Attributes:
        name: its label.
        kind: what it is, in words.
        stored: whether the lecture ledger counts its output; what is fused or in place is free.
        scale_and_shift: whether it has two trainable values a channel (batch normalisation).
    """

    name: str
    kind: str
    stored: bool = False
    scale_and_shift: bool = False


Part = Conv | Pool | GlobalPool | Dense | Keep


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One layer, worked out.

    Attributes:
        name: of the layer.
        title: what it is, in words.
        input: volume that it reads.
        output: volume that it gives.
        size: the formula in numbers; two of them where height and width differ.
        weights: trainable values besides biases.
        biases: trainable biases.
        parameters_sum: how parameters are counted, or "".
        macs: multiply-accumulates; 1 MAC is 2 FLOP.
        macs_sum: how they are counted, or "".
        im2col: matrices of a convolution written as a product.
        field: receptive field of its units, in pixels of the image.
        field_sum: how its rows follow from those of the layer before, or "".
        stored: whether the lecture ledger counts its values.
        misfits: axes along which the window doesn't fit; the output is then rounded as the layer says.
        keeps: whether it changes values alone and not the volume, as an activation does.
    """

    name: str
    title: str
    input: Volume
    output: Volume
    size: tuple[str, ...] = ()
    weights: int = 0
    biases: int = 0
    parameters_sum: str = ""
    macs: int = 0
    macs_sum: str = ""
    im2col: Im2col | None = None
    field: Field = PIXELS
    field_sum: str = ""
    stored: bool = True
    misfits: tuple[Misfit, ...] = ()
    keeps: bool = False

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.weights + self.biases

    @property
    def values(self) -> int:
        """Numbers in the output for one image."""
        return count(self.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The whole calculation.

    Attributes:
        input_shape: channels, height and width in pixels.
        steps: in order, as far as there is something to compute.
        stopped: why it could not go on, in one line, or "".
    """

    input_shape: tuple[int, int, int]
    steps: tuple[Step, ...]
    stopped: str = ""

    @property
    def weights(self) -> int:
        """Trainable values besides biases."""
        return sum(step.weights for step in self.steps)

    @property
    def biases(self) -> int:
        """Trainable biases."""
        return sum(step.biases for step in self.steps)

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.weights + self.biases

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and fully connected layers for one image."""
        return sum(step.macs for step in self.steps)

    @property
    def values(self) -> int:
        """Numbers in the input and in every stored output, the lecture ledger."""
        return count(self.input_shape) + sum(step.values for step in self.steps if step.stored)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        steps = []
        for step in self.steps:
            fields = asdict(step)
            steps.append({**fields, "parameters": step.parameters, "values": step.values})
        totals = {
            "weights": self.weights,
            "biases": self.biases,
            "parameters": self.parameters,
            "macs": self.macs,
            "flops": 2 * self.macs,
            "values": self.values,
            "bytes": BYTES * self.values,
        }
        return {"input": self.input_shape, "steps": steps, "stopped": self.stopped, "totals": totals}


def calc(input_shape: tuple[int, int, int], parts: Sequence[Part]) -> Sheet:
    """Work out a chain of layers.

    A window that doesn't fit stops nothing: the step says so and uses the size rounded down (rounded
    up where the layer asks for it). A window larger than its input ends the calculation there.

    Args:
        input_shape: channels, height and width in pixels, each at least 1.
        parts: the layers in order.

    Returns:
        The steps and their totals.

    Raises:
        UsageError: a size of the input is below 1.

    Paper: the lectures' ``(N - F + 2P)/S + 1``, ``(F*F*C + 1) * K`` parameters, and the recursion of
        receptive fields ``r += (k - 1) j; j *= s``.
    Departures: sizes that are no whole number are rounded, and said to be.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise UsageError(
            f"expected an input of channels, height and width, got {tuple(input_shape)}: write 32x32x3"
        )
    steps: list[Step] = []
    volume: Volume = input_shape
    field = PIXELS
    for part in parts:
        try:
            step = _step(part, volume, field)
        except UsageError as error:
            return Sheet(input_shape=input_shape, steps=tuple(steps), stopped=f"{part.name}: {error}")
        steps.append(step)
        volume, field = step.output, step.field
    return Sheet(input_shape=input_shape, steps=tuple(steps))


def count(volume: Volume) -> int:
    """Multiply the sizes of a volume."""
    values = 1
    for size in volume:
        values *= size
    return values


def show(volume: Volume) -> str:
    """Write a volume as the lectures do, height first: ``55x55x96``."""
    return str(volume[0]) if len(volume) == 1 else f"{volume[1]}x{volume[2]}x{volume[0]}"


def _step(part: Part, volume: Volume, field: Field) -> Step:
    match part:
        case Keep():
            weights = volume[0] if part.scale_and_shift else 0
            return Step(
                name=part.name,
                title=part.kind,
                input=volume,
                output=volume,
                weights=weights,
                biases=weights,
                parameters_sum=f"2 * {volume[0]} = {2 * weights:,}" if weights else "",
                field=field,
                stored=part.stored,
                keeps=True,
            )
        case Dense():
            return _dense(part, volume, field)
    if len(volume) != 3:
        raise UsageError(
            f"expected maps, got the {volume[0]} numbers of a fully connected layer:"
            " put it before the first FC"
        )
    match part:
        case GlobalPool():
            return Step(
                name=part.name,
                title=f"the average of each of {volume[0]} maps",
                input=volume,
                output=(volume[0], 1, 1),
                field=_whole(volume, field),
            )
        case Conv():
            return _conv(part, volume, field)
        case Pool():
            return _slid(part, volume, field)


def _conv(part: Conv, volume: Volume, field: Field) -> Step:
    if volume[0] % part.groups or part.filters % part.groups:
        raise UsageError(
            f"expected groups that divide {volume[0]} channels and {part.filters} filters, got {part.groups}:"
            " use a common divisor"
        )
    slid = _slid(part, volume, field)
    depth = volume[0] // part.groups
    window = f"{part.kernel[0]}*{part.kernel[1]}*{depth}"
    taps = part.kernel[0] * part.kernel[1] * depth
    places = slid.output[1] * slid.output[2]
    weights, biases = taps * part.filters, part.filters if part.bias else 0
    return Step(
        name=part.name,
        title=slid.title,
        input=volume,
        output=slid.output,
        size=slid.size,
        weights=weights,
        biases=biases,
        parameters_sum=_parameters(window, part.filters, weights + biases, part.bias),
        macs=weights * places,
        macs_sum=f"{window} * {part.filters} * {slid.output[1]}*{slid.output[2]} = {weights * places:,}",
        im2col=Im2col(
            columns=(taps, places), weights=(part.filters // part.groups, taps), groups=part.groups
        ),
        field=slid.field,
        field_sum=slid.field_sum,
        misfits=slid.misfits,
    )


def _slid(part: Conv | Pool, volume: Volume, field: Field) -> Step:
    """Work out size and field of a window that slides over maps."""
    pools = isinstance(part, Pool)
    windows = [
        Sliding(
            input_px=volume[axis + 1],
            kernel_px=part.kernel[axis],
            stride=part.stride[axis],
            padding=part.padding[axis],
            ceil_mode=isinstance(part, Pool) and part.ceil_mode,
            pools=pools,
        )
        for axis in (0, 1)
    ]
    square = windows[0] == windows[1]
    sizes = [window.size() for window in windows]
    named = [("side", windows[0])] if square else [("height", windows[0]), ("width", windows[1])]
    found = [misfit(window, name) for name, window in named]
    axes = [
        axis.window(part.kernel[i], stride=part.stride[i], padding=part.padding[i])
        for i, axis in enumerate((field.rows, field.columns))
    ]
    channels = part.filters if isinstance(part, Conv) else volume[0]
    return Step(
        name=part.name,
        title=_title(part, volume),
        input=volume,
        output=(channels, sizes[0], sizes[1]),
        size=tuple(window.arithmetic() for _, window in named),
        field=Field(axes[0], axes[1]),
        field_sum=_field_sum(field.rows, part.kernel[0], part.stride[0]),
        misfits=tuple(one for one in found if one is not None),
    )


def _dense(part: Dense, volume: Volume, field: Field) -> Step:
    inputs = count(volume)
    weights, biases = inputs * part.units, part.units if part.bias else 0
    product = "*".join(map(str, (*volume[1:], volume[0])))
    return Step(
        name=part.name,
        title=f"{part.units} fully connected units; each reads all {inputs:,} values",
        input=volume,
        output=(part.units,),
        weights=weights,
        biases=biases,
        parameters_sum=_parameters(product, part.units, weights + biases, part.bias),
        macs=weights,
        macs_sum=f"{product} * {part.units} = {weights:,}",
        field=_whole(volume, field),
    )


def _parameters(window: str, units: int, total: int, bias: bool) -> str:
    one = f"({window} + 1)" if bias else window
    return f"{one} * {units} = {total:,}"


def _whole(volume: Volume, field: Field) -> Field:
    if len(volume) != 3:
        return field
    return Field(field.rows.everything(volume[1]), field.columns.everything(volume[2]))


def _field_sum(before: Axis, kernel: int, stride: int) -> str:
    if before.jump_px is None:
        return ""
    after = before.window(kernel, stride=stride)
    size = f"{before.size_px} + ({kernel} - 1)*{before.jump_px} = {after.size_px} px"
    return f"{size}, the next unit {before.jump_px}*{stride} = {after.jump_px} px further"


def _title(part: Conv | Pool, volume: Volume) -> str:
    clauses = f", stride {side(part.stride)}"
    if isinstance(part, Conv):
        depth = volume[0] // part.groups
        groups = f", {part.groups} groups" if part.groups > 1 else ""
        bias = "" if part.bias else ", no bias"
        filters = "filter" if part.filters == 1 else "filters"
        window = f"{part.filters} {filters} of {by(part.kernel)}x{depth}"
        return f"{window}{clauses}, pad {side(part.padding)}{groups}{bias}"
    padding = f", pad {side(part.padding)}" if any(part.padding) else ""
    rounding = ", rounded up" if part.ceil_mode else ""
    return f"{part.kind} pool of {by(part.kernel)}{clauses}{padding}{rounding}"


def by(pair: tuple[int, ...]) -> str:
    """Write sizes, ``3x3``."""
    return "x".join(map(str, pair))


def side(pair: Pair) -> str:
    """Write a pair as one number where both agree."""
    return str(pair[0]) if pair[0] == pair[1] else by(pair)
