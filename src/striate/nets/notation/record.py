"""The network as a value: what a text in the notation means."""

from dataclasses import dataclass, field

from striate.core.errors import UsageError
from striate.nets.notation.layers import (
    MAX_LAYERS,
    MAX_PARAMETERS,
    MAX_SIZE,
    Layer,
    shorten,
)
from striate.nets.notation.volumes import Volume, after, num_biases, num_weights

MAX_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Notation:
    """A network of one path, from an image to scores.

    Two of them are equal where their input and layers are; the name is not compared.

    Attributes:
        name: the network's name, at most 100 printable signs.
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
    """Refuse a name that can't stand in a message.

    Raises:
        UsageError: the name is empty, too long or has signs that don't print.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise UsageError(
            f"expected a name of 1 to {MAX_NAME} printable signs, got {shorten(name)}: choose another"
        )


def check_input_shape(shape: tuple[int, int, int]) -> None:
    """Refuse an input that is not three whole numbers in range.

    Raises:
        UsageError: the shape.
    """
    whole = isinstance(shape, tuple) and len(shape) == 3 and all(type(size) is int for size in shape)
    if not whole or not all(1 <= size <= MAX_SIZE for size in shape):
        raise UsageError(
            f"expected an input of three sizes (channels, height, width) from 1 to {MAX_SIZE:,},"
            f" got {shorten(shape)}: correct the input"
        )


def check_total(parameters: int) -> None:
    """Refuse a network that no machine could hold.

    Raises:
        UsageError: more parameters than the limit.
    """
    if parameters > MAX_PARAMETERS:
        raise UsageError(
            f"expected at most {MAX_PARAMETERS:,} parameters in all, got {parameters:,}:"
            " pool more before FC, or use fewer filters and neurons"
        )
