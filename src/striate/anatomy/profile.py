"""A network in one line: the few numbers by which networks are compared."""

from dataclasses import dataclass

from striate.anatomy.field import Field
from striate.anatomy.layer import Layer
from striate.anatomy.ledger import ledger
from striate.anatomy.record import Anatomy


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One network in the comparison.

    Attributes:
        name: for headings.
        input_shape: channels, height and width in pixels.
        parameters: trainable values at test time.
        weights: those of them that are no biases.
        training_only: trainable values that only training uses, such as auxiliary classifiers.
        macs: multiply-accumulates of convolutions and matrix products for one image; 1 MAC is 2 FLOP.
        values: activations for one image by the lecture ledger.
        depth: layers with weights on the longest path, convolutions and fully connected ones.
        field: receptive field of the last convolution, pool or join that gives maps larger than 1x1; None
            where there is none, or it is unknown.
        field_layer: its name, or "".
        width: C of a plain stack, where each layer with weights is an ungrouped convolution from C channels
            to C; None elsewhere.
        published_error: the paper's result with its protocol, or "".
    """

    name: str
    input_shape: tuple[int, int, int]
    parameters: int
    weights: int
    training_only: int
    macs: int
    values: int
    depth: int
    field: Field | None
    field_layer: str
    width: int | None
    published_error: str = ""

    @property
    def flops(self) -> int:
        """Multiplications and additions apart."""
        return 2 * self.macs


def profile(anatomy: Anatomy, *, name: str = "", published_error: str = "") -> Profile:
    """Read off what is compared.

    Args:
        anatomy: of the network.
        name: for headings; default the record's.
        published_error: the paper's result, in words.
    """
    field_layer = next((layer for layer in reversed(anatomy.layers) if _is_spatial(layer)), None)
    return Profile(
        name=name or anatomy.name,
        input_shape=anatomy.input_shape,
        parameters=anatomy.parameters,
        weights=anatomy.weights,
        training_only=anatomy.idle_parameters,
        macs=anatomy.macs,
        values=ledger(anatomy, "lecture").values,
        depth=depth(anatomy),
        field=None if field_layer is None else field_layer.field,
        field_layer="" if field_layer is None else field_layer.name,
        width=_width(anatomy),
        published_error=published_error,
    )


def depth(anatomy: Anatomy) -> int:
    """Count convolutions and fully connected layers on the longest path, as the papers name their networks.

    A projection in a shortcut lies beside the longest path and is not counted: ResNet-152 has depth 152.
    """
    deepest: dict[str, int] = {}
    for layer in anatomy:
        before = max((deepest[name] for name in layer.inputs), default=0)
        deepest[layer.name] = before + (layer.role in ("conv", "fc") and layer.weights > 0)
    return max(deepest.values(), default=0)


def _is_spatial(layer: Layer) -> bool:
    return layer.role in ("conv", "pool", "join") and len(layer.output) == 3 and max(layer.output[1:]) > 1


def _width(anatomy: Anatomy) -> int | None:
    """Return C where each layer with weights is an ungrouped convolution from C channels to C."""
    channels = {anatomy.input_shape[0]}
    for layer in anatomy:
        if not layer.weights:
            continue
        if layer.role != "conv" or layer.window is None or layer.window.groups != 1:
            return None
        rows, columns = layer.window.kernel
        channels |= {layer.output[0], layer.weights // (rows * columns * layer.output[0])}
    return channels.pop() if len(channels) == 1 and anatomy.weights else None
