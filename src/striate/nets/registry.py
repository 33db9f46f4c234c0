"""The networks by name: ``NETS``, and how a name or a text becomes a network.

To add a network: write one file with its builders and their ``ENTRIES``, add these to ``NETS`` below, and
write its page in ``docs/nets``. The contract suite (``tests/contracts``) then asks for the published table
of its layers.
"""

import difflib
import inspect
import re

import torch
from torch import nn

from striate.core.errors import UsageError
from striate.nets import notation
from striate.nets.alexnet import ENTRIES as ALEXNET
from striate.nets.convnetjs import ENTRIES as CONVNETJS
from striate.nets.cuda_convnet import ENTRIES as CUDA_CONVNET
from striate.nets.entry import NetEntry
from striate.nets.googlenet import ENTRIES as GOOGLENET
from striate.nets.inception_naive import ENTRIES as INCEPTION_NAIVE
from striate.nets.lenet5 import ENTRIES as LENET5
from striate.nets.mlp import ENTRIES as MLP
from striate.nets.nin import ENTRIES as NIN
from striate.nets.notation import Notation
from striate.nets.resnet import ENTRIES as RESNET
from striate.nets.resnet_cifar import ENTRIES as RESNET_CIFAR
from striate.nets.vgg import ENTRIES as VGG
from striate.nets.zfnet import ENTRIES as ZFNET

NETS: dict[str, NetEntry] = {
    entry.name: entry
    for entry in (
        *MLP,
        *LENET5,
        *ALEXNET,
        *ZFNET,
        *CUDA_CONVNET,
        *CONVNETJS,
        *NIN,
        *VGG,
        *GOOGLENET,
        *INCEPTION_NAIVE,
        *RESNET,
        *RESNET_CIFAR,
    )
}
"""Every network by name, in the order of ``striate nets``."""


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
