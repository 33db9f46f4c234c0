"""What one network is in numbers, for lists and reports; ``anatomy.trace`` does the counting."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.core.shapes import SizesOnly
from striate.nets.registry import build, find


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSummary:
    """One layer or block of a network, as ``striate nets show`` lists it.

    Attributes:
        name: the paper's name.
        kind: the module's class.
        output: sizes of what it gives for one image: channels, height, width; or features.
        parameters: trainable parameters in it.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetSummary:
    """What one network is in numbers.

    Attributes:
        name: its key in ``NETS``.
        input_shape: channels, height and width in pixels.
        num_classes: number of scores.
        parameters: trainable parameters of the network at test time, biases and batch normalisation's scale
            and shift included.
        training_only_parameters: parameters of layers that only training uses, auxiliary classifiers; they
            are not in ``parameters``.
        macs: multiply-accumulates of convolutions and fully connected layers for one image; 1 MAC is 2 FLOP.
            Biases, pooling, subsampling, normalisation, activations and RBF units are not counted.
        layers: layers and blocks in the order in which an image meets them.
    """

    name: str
    input_shape: tuple[int, int, int]
    num_classes: int
    parameters: int
    training_only_parameters: int
    macs: int
    layers: tuple[LayerSummary, ...]


def describe(name: str, *, num_classes: int | None = None, **arguments: object) -> NetSummary:
    """Count parameters and MACs of a network without allocating it.

    Args:
        name: as ``build``.
        num_classes: as ``build``.
        arguments: as ``build``.

    Returns:
        The numbers; torch's random numbers are not touched.

    Raises:
        UsageError: as ``build``.
    """
    from striate.anatomy.trace import trace  # when it is asked for: networks are built without it

    entry = find(name)
    outputs: list[tuple[nn.Module, tuple[int, ...]]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append((layer, tuple(output.shape[1:])))

    with torch.device("meta"), SizesOnly():
        net = build(name, num_classes=num_classes, **arguments)
    names = {layer: name for name, layer in net.named_children()}
    for layer in names:
        layer.register_forward_hook(note)
    counted = trace(net)
    return NetSummary(
        name=entry.name,
        input_shape=counted.input_shape,
        num_classes=entry.num_classes if num_classes is None else num_classes,
        parameters=counted.parameters,
        training_only_parameters=counted.idle_parameters,
        macs=counted.macs,
        layers=tuple(
            LayerSummary(
                name=names[layer],
                kind=type(layer).__name__,
                output=output,
                parameters=sum(p.numel() for p in layer.parameters() if p.requires_grad),
            )
            for layer, output in outputs
        ),
    )
