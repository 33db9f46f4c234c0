"""The networks: one file per paper, and ``NETS``, which names them all.

To add a network: write one file with its builders and their ``ENTRIES``, add the file to ``NETS`` below, and
write its page in ``docs/nets``. The contract suite (``tests/contracts``) then asks for the published table of
its layers.
"""

import difflib
import inspect
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.core.errors import UsageError
from striate.nets import lenet5, resnet_cifar, vgg
from striate.nets.entry import NetEntry
from striate.nets.parts import PartialConv2d

__all__ = ["NETS", "NetEntry", "NetSummary", "build", "describe", "find"]

NETS: dict[str, NetEntry] = {
    entry.name: entry
    for entry in (
        *lenet5.ENTRIES,
        *vgg.ENTRIES,
        *resnet_cifar.ENTRIES,
    )
}
"""Every network by name, in the order of ``striate nets``."""


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
    """

    name: str
    input_shape: tuple[int, int, int]
    num_classes: int
    parameters: int
    training_only_parameters: int
    macs: int


def find(name: str) -> NetEntry:
    """Return the entry of ``name``.

    Raises:
        UsageError: no such network, with the names that come close.
    """
    if name in NETS:
        return NETS[name]
    for entry in NETS.values():
        if name in entry.aliases:
            return entry
    close = difflib.get_close_matches(name.lower().replace("-", ""), NETS, n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise UsageError(f"expected the name of a network, got {name!r}: {hint}run `striate nets` for the list")


def build(name: str, *, num_classes: int | None = None, **arguments: object) -> nn.Module:
    """Build a network by name, with fresh weights drawn from torch's global random numbers.

    Args:
        name: a key of ``NETS``.
        num_classes: number of scores, at least 1; the published number if ``None``.
        arguments: the keywords that the network's builder documents, for example ``input_px`` of ``vgg16``.

    Returns:
        The network, in training mode.

    Raises:
        UsageError: unknown name or keyword, or a value that the builder refuses.
    """
    entry = find(name)
    if num_classes is None:
        num_classes = entry.num_classes
    if num_classes < 1:
        raise UsageError(
            f"{name} expects num_classes of at least 1, got {num_classes}: count the classes of your data"
        )
    accepted = [
        parameter.name
        for parameter in inspect.signature(entry.build).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "num_classes"
    ]
    unknown = sorted(set(arguments) - set(accepted))
    if unknown:
        expected = ", ".join(accepted) or "no arguments besides num_classes"
        raise UsageError(f"{name} expects {expected}, got {', '.join(unknown)}: see {entry.page}")
    try:
        return entry.build(num_classes=num_classes, **arguments)
    except TypeError as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise UsageError(
            f"{name} expects arguments of other types, got {given} ({error}): see {entry.page}"
        ) from error


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
    entry = find(name)
    macs = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        assert isinstance(layer.weight, Tensor)
        macs += (
            layer.weight.numel() * output[0, 0].numel()
        )  # each weight is used once at each output position

    with torch.device("meta"), torch.no_grad():
        net = build(name, num_classes=num_classes, **arguments).eval()
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear | PartialConv2d):
                layer.register_forward_hook(count)
        assert isinstance(net.input_shape, tuple)
        net(torch.empty(1, *net.input_shape))
    parameters = {False: 0, True: 0}
    for key, parameter in net.named_parameters():
        parameters[key.split(".")[0] in getattr(net, "training_only", ())] += parameter.numel()
    return NetSummary(
        name=name,
        input_shape=net.input_shape,
        num_classes=entry.num_classes if num_classes is None else num_classes,
        parameters=parameters[False],
        training_only_parameters=parameters[True],
        macs=macs,
    )
