"""timm's names: torchvision's, but for VGG's fully connected layers, which timm keeps as convolutions."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from torch import Tensor

from striate.weights.layouts import torchvision
from striate.weights.layouts.layout import Layout, flat_rows, no_such_net

_VGG_HEAD: Final = {
    "classifier.0": "pre_logits.fc1",
    "classifier.3": "pre_logits.fc2",
    "classifier.6": "head.fc",
}

NETS: Final = tuple(net for net in torchvision.NETS if net.startswith(("vgg", "resnet")))
"""timm has no AlexNet, GoogLeNet or Network in Network."""


def layout(net: str) -> Layout:
    """Return how timm stores ``net``.

    The preprocessing is that of timm's ``tv_in1k`` weights, torchvision's. timm's other weights want another
    one; their name says which, see ``striate.weights.published``.

    Raises:
        BundleError: timm has no such network.
    """
    return Layout(
        format="timm",
        net=net,
        keys=keys(net),
        prepare=prepare,
        preprocessing=partial(torchvision.preprocessing, net),
        notes=torchvision.notes(net),
    )


def keys(net: str) -> dict[str, str]:
    """Return timm's key -> striate's key, in the order of timm's state dict.

    Raises:
        BundleError: timm has no such network.
    """
    if net not in NETS:
        raise no_such_net("timm", net, NETS)
    table = {}
    for key, ours in torchvision.keys(net).items():
        layer, _, part = key.rpartition(".")
        table[f"{_VGG_HEAD.get(layer, layer)}.{part}"] = ours
    return table


def prepare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring VGG's fc1 ``[4096, 512, 7, 7]`` and fc2 ``[4096, 4096, 1, 1]`` to ``out x in``."""
    heads = tuple(f"{layer}.weight" for layer in _VGG_HEAD.values())
    return {key: flat_rows(tensor) if key in heads else tensor for key, tensor in tensors.items()}
