"""Which tensor goes where: how other programs' files name and shape the tensors of striate's networks.

One file for each kind: ``torchvision``, ``timm``, ``cifar``, ``caffe``, ``matconvnet``. ``layouts_for`` lists
what a file may be, ``guess`` says which networks it fits, ``nearest`` which it comes closest to.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache, partial

import torch
from torch import nn

from striate import nets
from striate.core.errors import UsageError
from striate.nets.entry import NetEntry
from striate.weights.layouts import caffe, cifar, matconvnet, timm, torchvision
from striate.weights.layouts.layout import Format, Layout, Translation, translate
from striate.weights.layouts.torchvision import to_torchvision
from striate.weights.weight_file import WeightFile

__all__ = [
    "Format",
    "Layout",
    "Nearest",
    "Translation",
    "class_keys",
    "guess",
    "layout",
    "layouts_for",
    "nearest",
    "network_in",
    "optional_keys",
    "to_torchvision",
    "translate",
]

FORMATS: dict[Format, tuple[str, ...]] = {
    "torchvision": torchvision.NETS,
    "timm": timm.NETS,
    "cifar": cifar.NETS,
    "caffe": caffe.NETS,
    "matconvnet": matconvnet.NETS,
}
"""Each kind of foreign file, and striate's networks that it is known for."""

_FORMATS_OF_KIND: dict[str, tuple[Format, ...]] = {
    "torch": ("torchvision", "timm", "cifar"),
    "safetensors": ("torchvision", "timm", "cifar"),
    "caffe": ("caffe",),
    "matconvnet": ("matconvnet",),
}


_LAYOUTS: dict[Format, Callable[[str], Layout]] = {
    "torchvision": torchvision.layout,
    "timm": timm.layout,
    "cifar": cifar.layout,
    "caffe": caffe.layout,
    "matconvnet": matconvnet.layout,
}


# For shapes alone, to which the order of the channels is nothing: what a file leaves open is asked for later.
_GUESSED: dict[Format, Callable[[str], Layout]] = {
    **_LAYOUTS,
    "cifar": partial(cifar.layout, shortcut="append"),
}


def layout(format: Format, net: str) -> Layout:
    """Return how a kind of foreign file stores a network.

    Args:
        format: ``torchvision``, ``timm``, ``cifar``, ``caffe`` or ``matconvnet``.
        net: striate's name of the network.

    Raises:
        BundleError: that kind of file is not known for that network.
    """
    return _LAYOUTS[format](net)


def layouts_for(file: WeightFile, net_name: str) -> list[Layout]:
    """List the ways in which a file may store a network, the likeliest first.

    Args:
        file: as ``read_weights`` gives it.
        net_name: striate's name.

    Returns:
        The foreign layouts of the file's kind, sorted by the number of names that agree; empty if there are
        none.
    """
    known = [format for format in _FORMATS_OF_KIND.get(file.kind, ()) if net_name in FORMATS[format]]
    found = [layout(format, net_name) for format in known]
    return sorted(found, key=lambda one: -len(one.keys.keys() & file.tensors.keys()))


@lru_cache(maxsize=256)
def class_keys(reference: str) -> tuple[str, ...]:
    """Name the tensors that have one row for each class, found by building the network for one class more.

    Args:
        reference: what finds the network, ``NetEntry.reference``.

    Returns:
        Keys in the order of the network, those of auxiliary classifiers among them; none where the number of
        classes is fixed, as in ``lenet5_rbf``.
    """
    entry = nets.find(reference)
    try:
        with torch.device("meta"):
            more = nets.build(reference, num_classes=entry.num_classes + 1).state_dict()
            known = nets.build(reference).state_dict()
    except UsageError:
        return ()
    return tuple(
        key
        for key, tensor in known.items()
        if tensor.ndim
        and len(tensor) == entry.num_classes
        and more[key].shape == (len(tensor) + 1, *tensor.shape[1:])
    )


def optional_keys(net: nn.Module) -> frozenset[str]:
    """Name the tensors that a file may lack: counters of batches, and layers that only training uses."""
    training_only = _training_only(net)
    return frozenset(
        key
        for key in net.state_dict()
        if key.endswith(".num_batches_tracked") or key.split(".")[0] in training_only
    )


def network_in(file: WeightFile) -> NetEntry | None:
    """Return the network that a bundle names; None for other files and for networks that are unknown."""
    if file.header is None or file.header.net.endswith(".net"):  # a name in a file opens no other file
        return None
    try:
        return nets.find(file.header.net)
    except UsageError:
        return None


def guess(file: WeightFile) -> tuple[str, ...]:
    """Say which of striate's networks a file's names and shapes fit; the number of classes may differ.

    Args:
        file: as ``read_weights`` gives it.

    Returns:
        Names of networks, the likeliest first. ResNet-50 and deeper in torchvision's names nearly always have
        the stride in the 3x3 convolution, so ``resnet50_v1_5`` comes before ``resnet50``. For a bundle, the
        network that it names, unless that is one that its user wrote (see ``network_in``).
    """
    if file.header is not None:
        entry = network_in(file)
        return (entry.name,) if entry is not None and entry.notation is None else ()
    likely = _likely(file)
    found = [one.net for one in likely if _fits_layout(file, one)]
    if not likely and file.kind in ("torch", "safetensors"):  # striate's own names? all networks take seconds
        shapes = {key: tuple(tensor.shape) for key, tensor in file.tensors.items()}
        found = [net for net in nets.NETS if _fits(shapes, net)]
    if set(found) == {"alexnet_caffe", "caffenet"} and _pools_first(file.layers):
        found.reverse()
    return tuple(dict.fromkeys(found))  # a ResNet's names are torchvision's and timm's alike


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The network that a file comes closest to without fitting it.

    Attributes:
        net: its name in ``NETS``.
        num_alike: tensors whose name and shape agree, for any one number of classes.
        num_expected: tensors that the network has; with those of the file that it does not have.
    """

    net: str
    num_alike: int
    num_expected: int


def nearest(file: WeightFile) -> Nearest | None:
    """Say which network a file that fits none comes closest to; None if hardly any tensor agrees.

    Args:
        file: as ``read_weights`` gives it.

    Returns:
        The network that shares the largest part of names and shapes, at least half of them.
    """
    if file.kind not in _FORMATS_OF_KIND:
        return None
    found: list[Nearest] = []
    for one in _likely(file):
        translation = translate(one, file.tensors)
        shapes = {key: tuple(tensor.shape) for key, tensor in translation.state.items()}
        found.append(_nearness(shapes, one.net, num_unknown=len(translation.unknown)))
    if not found and file.kind in ("torch", "safetensors"):
        shapes = {key: tuple(tensor.shape) for key, tensor in file.tensors.items()}
        found = [_nearness(shapes, net) for net in nets.NETS]
    best = max(found, key=lambda one: one.num_alike / one.num_expected, default=None)
    return best if best is not None and best.num_alike * 2 >= best.num_expected else None


def _nearness(shapes: Mapping[str, tuple[int, ...]], net: str, num_unknown: int = 0) -> Nearest:
    expected, optional = _expected(net)
    here = expected.keys() & shapes.keys()
    alike = {key for key in here if _alike(shapes[key], expected[key])}
    if len(alike) < len(here):  # only then is it worth building the network twice more
        classes = class_keys(net) if 2 * len(alike) >= len(expected) else ()
        if len({shapes[key][:1] for key in classes if key in here}) == 1:
            alike |= {key for key in classes if key in here and shapes[key][1:] == expected[key][1:]}
    absent = (expected.keys() - shapes.keys()) - set(_missing(expected, optional, shapes))
    total = len(expected) - len(absent) + len(shapes.keys() - expected.keys()) + num_unknown
    return Nearest(net=net, num_alike=len(alike), num_expected=max(total, 1))


def _likely(file: WeightFile) -> list[Layout]:
    """List the foreign layouts of which a file has half the names or more."""
    return [
        one
        for format in _FORMATS_OF_KIND.get(file.kind, ())
        for one in map(_GUESSED[format], FORMATS[format])
        if len(one.keys.keys() & file.tensors.keys()) * 2 >= len(one.keys)
    ]


def _fits_layout(file: WeightFile, layout: Layout) -> bool:
    translation = translate(layout, file.tensors)
    shapes = {key: tuple(tensor.shape) for key, tensor in translation.state.items()}
    return not translation.unknown and _fits(shapes, layout.net)


def _fits(shapes: Mapping[str, tuple[int, ...]], net: str) -> bool:
    expected, optional = _expected(net)
    if _missing(expected, optional, shapes) or shapes.keys() - expected.keys():
        return False
    other = {key for key, shape in shapes.items() if not _alike(shape, expected[key])}
    if not other:
        return True
    classes = [key for key in class_keys(net) if key in shapes]
    rows = {shapes[key][:1] for key in classes}  # one number of classes in all of them
    return other <= set(classes) and len(rows) == 1 and all(shapes[k][1:] == expected[k][1:] for k in other)


def _missing(
    expected: Mapping[str, object], optional: frozenset[str], shapes: Mapping[str, object]
) -> list[str]:
    """Name what a file lacks; a layer that only training uses may be absent as a whole."""
    present = {key.split(".")[0] for key in shapes}
    return [
        key
        for key in expected.keys() - shapes.keys()
        if key not in optional or (key.split(".")[0] in present and not key.endswith(".num_batches_tracked"))
    ]


def _alike(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return shape == expected or (expected == () and shape == (1,))


@cache
def _expected(net: str) -> tuple[dict[str, tuple[int, ...]], frozenset[str]]:
    """Return the shapes of a listed network's tensors, and the keys that may be missing."""
    with torch.device("meta"):
        built = nets.build(net)
    shapes = {key: tuple(tensor.shape) for key, tensor in built.state_dict().items()}
    return shapes, optional_keys(built)


def _training_only(net: nn.Module) -> tuple[str, ...]:
    return tuple(getattr(net, "training_only", ()))


def _pools_first(order: tuple[str, ...]) -> bool:
    """Distinguish CaffeNet, which pools before it normalises, from Caffe's AlexNet of the same tensors."""
    return "pool1" in order and "norm1" in order and order.index("pool1") < order.index("norm1")
