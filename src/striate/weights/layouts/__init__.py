"""Which tensor goes where: how other programs' files name and shape the tensors of striate's networks.

One file for each kind: ``torchvision``, ``timm``, ``caffe``, ``matconvnet``. ``layouts_for`` lists what a
file may be, ``guess`` says which networks it fits.
"""

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import nn

from striate import nets
from striate.weights.layouts import caffe, matconvnet, timm, torchvision
from striate.weights.layouts.layout import Format, Layout, Translation, translate
from striate.weights.layouts.torchvision import to_torchvision
from striate.weights.weight_file import WeightFile

__all__ = [
    "Format",
    "Layout",
    "Translation",
    "guess",
    "head_of",
    "layout",
    "layouts_for",
    "optional_keys",
    "to_torchvision",
    "translate",
]

FORMATS: dict[Format, tuple[str, ...]] = {
    "torchvision": torchvision.NETS,
    "timm": timm.NETS,
    "caffe": caffe.NETS,
    "matconvnet": matconvnet.NETS,
}
"""Each kind of foreign file, and striate's networks that it is known for."""

_FORMATS_OF_KIND: dict[str, tuple[Format, ...]] = {
    "torch": ("torchvision", "timm"),
    "safetensors": ("torchvision", "timm"),
    "caffe": ("caffe",),
    "matconvnet": ("matconvnet",),
}


_LAYOUTS: dict[Format, Callable[[str], Layout]] = {
    "torchvision": torchvision.layout,
    "timm": timm.layout,
    "caffe": caffe.layout,
    "matconvnet": matconvnet.layout,
}


def layout(format: Format, net: str) -> Layout:
    """Return how a kind of foreign file stores a network.

    Args:
        format: ``torchvision``, ``timm``, ``caffe`` or ``matconvnet``.
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


def head_of(net: nn.Module) -> str:
    """Name the layer that gives the scores: the last with a weight that is not for training only."""
    training_only = _training_only(net)
    layers = [
        name.removesuffix(".weight")
        for name, _ in net.named_parameters()
        if name.endswith(".weight") and name.split(".")[0] not in training_only
    ]
    return layers[-1]


def optional_keys(net: nn.Module) -> frozenset[str]:
    """Name the tensors that a file may lack: counters of batches, and layers that only training uses."""
    training_only = _training_only(net)
    return frozenset(
        key
        for key in net.state_dict()
        if key.endswith(".num_batches_tracked") or key.split(".")[0] in training_only
    )


def guess(file: WeightFile) -> tuple[str, ...]:
    """Say which of striate's networks a file's names and shapes fit; the number of classes may differ.

    Args:
        file: as ``read_weights`` gives it.

    Returns:
        Names of networks, the likeliest first. ResNet-50 and deeper in torchvision's names nearly always have
        the stride in the 3x3 convolution, so ``resnet50_v1_5`` comes before ``resnet50``.
    """
    if file.kind == "striate bundle":
        name = file.metadata.get("net", "")
        return (name,) if name in nets.NETS else ()
    likely = [
        one
        for format in _FORMATS_OF_KIND.get(file.kind, ())
        for one in map(_LAYOUTS[format], FORMATS[format])
        if len(one.keys.keys() & file.tensors.keys()) * 2 >= len(one.keys)
    ]
    found = [one.net for one in likely if _fits_layout(file, one)]
    if not likely and file.kind in ("torch", "safetensors"):  # striate's own names? all networks take seconds
        shapes = {key: tuple(tensor.shape) for key, tensor in file.tensors.items()}
        found = [net for net in nets.NETS if _fits(shapes, net)]
    if set(found) == {"alexnet_caffe", "caffenet"} and _pools_first(file):
        found.reverse()
    return tuple(dict.fromkeys(found))  # a ResNet's names are torchvision's and timm's alike


def _fits_layout(file: WeightFile, layout: Layout) -> bool:
    translation = translate(layout, file.tensors)
    shapes = {key: tuple(tensor.shape) for key, tensor in translation.state.items()}
    return not translation.unknown and _fits(shapes, layout.net)


def _fits(shapes: Mapping[str, tuple[int, ...]], net_name: str) -> bool:
    expected, optional, head = _expected(net_name)
    if expected.keys() - shapes.keys() - optional or shapes.keys() - expected.keys():
        return False
    return all(
        shape == expected[key]
        or (shape[1:] == expected[key][1:] and (key.startswith(f"{head}.") or key in optional))
        for key, shape in shapes.items()
    )


@cache
def _expected(net_name: str) -> tuple[dict[str, tuple[int, ...]], frozenset[str], str]:
    """Return the shapes of a network's tensors, the keys that may be missing, and its head."""
    with torch.device("meta"):
        net = nets.build(net_name)
    shapes = {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
    return shapes, optional_keys(net), head_of(net)


def _training_only(net: nn.Module) -> tuple[str, ...]:
    return tuple(getattr(net, "training_only", ()))


def _pools_first(file: WeightFile) -> bool:
    """Tell CaffeNet, which pools before it normalises, from Caffe's AlexNet, which has the same tensors."""
    order = list(file.layers)
    return "pool1" in order and "norm1" in order and order.index("pool1") < order.index("norm1")
