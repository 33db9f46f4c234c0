"""The networks: one file per paper, and ``NETS``, which names them all.

To add a network: write one file with its builders and their ``ENTRIES``, add the file to ``NETS`` below, and
write its page in ``docs/nets``. The contract suite (``tests/contracts``) then asks for the published table of
its layers.
"""

import difflib
import inspect
import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.core.errors import UsageError
from striate.core.shapes import SizesOnly
from striate.nets import (
    alexnet,
    convnetjs,
    cuda_convnet,
    googlenet,
    inception_naive,
    lenet5,
    mlp,
    nin,
    notation,
    resnet,
    resnet_cifar,
    vgg,
    zfnet,
)
from striate.nets.entry import NetEntry
from striate.nets.modules import PartialConv2d
from striate.nets.notation import Notation

__all__ = [
    "NETS",
    "LayerSummary",
    "NetEntry",
    "NetSummary",
    "arguments_of",
    "as_notation",
    "build",
    "describe",
    "find",
]

NETS: dict[str, NetEntry] = {
    entry.name: entry
    for entry in (
        *mlp.ENTRIES,
        *lenet5.ENTRIES,
        *alexnet.ENTRIES,
        *zfnet.ENTRIES,
        *cuda_convnet.ENTRIES,
        *convnetjs.ENTRIES,
        *nin.ENTRIES,
        *vgg.ENTRIES,
        *googlenet.ENTRIES,
        *inception_naive.ENTRIES,
        *resnet.ENTRIES,
        *resnet_cifar.ENTRIES,
    )
}
"""Every network by name, in the order of ``striate nets``."""


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


def find(name: str) -> NetEntry:
    """Return the entry of a network.

    Args:
        name: a key of ``NETS``, another name of one (``vgg_d``), the path of a ``.net`` file, or a text in
            the lectures' notation (see ``docs/notation.md``).

    Raises:
        UsageError: no such network, with the names that come close; or what is wrong in the text, with its
            place.
    """
    if name in NETS:
        return NETS[name]
    for entry in NETS.values():
        if name in entry.aliases:
            return entry
    if name.endswith(".net"):
        return _written(notation.read(name))
    if "\n" in name or re.match(r"\s*(INPUT\b|\[|\d+\s*[x\u00d7*]\s*\d+)", name, re.IGNORECASE):
        return _written(notation.parse(name, name=_name_in(name)))
    close = difflib.get_close_matches(name.lower().replace("-", ""), NETS, n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise UsageError(f"expected the name of a network, got {name!r}: {hint}run `striate nets` for the list")


def _written(text: Notation) -> NetEntry:
    """Make an entry of a network that was written in the notation."""

    def build(num_classes: int) -> nn.Module:
        return notation.build(text, num_classes)

    return NetEntry(
        name=text.name,
        title=text.name,
        year=None,
        paper="none: written in the notation of docs/notation.md",
        input_shape=text.input_shape,
        num_classes=text.num_classes,
        build=build,
        recipe="photos",
        published_error="not published: a network of the user's own",
        departures=(),
        page="docs/notation.md",
        notation=f"# {text.name.replace(' ', '_')}\n{notation.write(text)}",
    )


def _name_in(text: str) -> str:
    """Return the name in a first line ``# name``, as ``NetEntry.reference`` has it; else "net"."""
    first = text.partition("\n")[0].removeprefix("# ").strip()
    return first if text.startswith("# ") and first and " " not in first else "net"


def as_notation(name: str) -> str:
    """Write a network in the lectures' notation.

    Args:
        name: as ``find``.

    Raises:
        UsageError: as ``find``; or the network has a part that the notation has no word for, such as a
            shortcut.
    """
    entry = find(name)
    if entry.notation is not None:
        return entry.notation
    with torch.device("meta"):
        return notation.write(notation.notation_of(build(name)))


def arguments_of(entry: NetEntry) -> dict[str, object]:
    """Return the keywords of a network's builder besides ``num_classes``, with their defaults."""
    return {
        parameter.name: parameter.default
        for parameter in inspect.signature(entry.build).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "num_classes"
    }


def build(name: str, *, num_classes: int | None = None, **arguments: object) -> nn.Module:
    """Build a network by name, with fresh weights drawn from torch's global random numbers.

    Args:
        name: as ``find``.
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
            f"{entry.name} expects num_classes of at least 1, got {num_classes}:"
            " count the classes of your data"
        )
    accepted = arguments_of(entry)
    unknown = sorted(set(arguments) - set(accepted))
    if unknown:
        expected = ", ".join(accepted) or "no arguments besides num_classes"
        raise UsageError(f"{entry.name} expects {expected}, got {', '.join(unknown)}: see {entry.page}")
    try:
        return entry.build(num_classes=num_classes, **arguments)
    except TypeError as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise UsageError(
            f"{entry.name} expects arguments of other types, got {given} ({error}): see {entry.page}"
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
        # Each weight is used once at each output position.
        macs += layer.weight.numel() * output[0, 0].numel()

    layers: list[LayerSummary] = []

    def list_layer(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        layers.append(
            LayerSummary(
                name=names[layer],
                kind=type(layer).__name__,
                output=tuple(output.shape[1:]),
                parameters=sum(p.numel() for p in layer.parameters() if p.requires_grad),
            )
        )

    with torch.device("meta"), torch.no_grad(), SizesOnly():
        net = build(name, num_classes=num_classes, **arguments).eval()
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear | PartialConv2d):
                layer.register_forward_hook(count)
        names = {layer: name for name, layer in net.named_children()}
        for layer in names:
            layer.register_forward_hook(list_layer)
        assert isinstance(net.input_shape, tuple)
        net(torch.empty(1, *net.input_shape))
    parameters = {False: 0, True: 0}
    for key, parameter in net.named_parameters():
        parameters[key.split(".")[0] in getattr(net, "training_only", ())] += parameter.numel()
    return NetSummary(
        name=entry.name,
        input_shape=net.input_shape,
        num_classes=entry.num_classes if num_classes is None else num_classes,
        parameters=parameters[False],
        training_only_parameters=parameters[True],
        macs=macs,
        layers=tuple(layers),
    )
