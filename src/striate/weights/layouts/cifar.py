"""The CIFAR ResNets that most repositories share: ``layer1.0.conv1.weight`` ... ``linear.weight``.

Their shortcuts of option A have no parameters, so a file does not show where the zero channels go: this
family puts half of them before the copied channels and half behind, striate puts all behind. The two networks
are the same up to the order of the channels, so weights are brought into striate's order; nothing is lost.

Source: the names and the padding are those of the published ``resnet20`` to ``resnet1202`` files (linear) and
of their option B. Files whose last layer is called ``fc`` come from several programs that pad differently.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Final, Literal

import torch
from torch import Tensor

from striate.core.errors import BundleError
from striate.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from striate.weights.layouts.layout import BATCH_NORM, Layout, MeanRgb, no_such_net, tensors_of

Shortcut = Literal["pad-both", "append"]
"""Where a shortcut of option A puts the zero channels: half on each side, or all behind."""

NETS: Final = tuple(f"resnet{depth}" for depth in (20, 32, 44, 56, 110, 1202))

_CHANNELS: Final = (16, 32, 64)
_BLOCK: Final = re.compile(r"layer([123])\.(\d+)\.(conv|bn)([12])\.(\w+)")


def layout(net: str, shortcut: Shortcut | None = None) -> Layout:
    """Return how this family stores ``net``.

    Args:
        net: striate's name.
        shortcut: where zero channels go; None: on both sides where the last layer is called ``linear``.

    Raises:
        BundleError: the family has no such network.
    """
    return Layout(
        format="cifar",
        net=net,
        keys=keys(net),
        prepare=partial(_prepare, shortcut=shortcut),
        preprocessing=_preprocessing,
        notes=("channels put in the order of striate's shortcuts, which append their zero channels",),
    )


def keys(net: str) -> dict[str, str]:
    """Return the family's key -> striate's key, those of option B included.

    Raises:
        BundleError: the family has no such network.
    """
    if net not in NETS:
        raise no_such_net("CIFAR ResNet", net, NETS)
    num_blocks = (int(net.removeprefix("resnet")) - 2) // 6
    table = tensors_of([("conv1", "conv1")], ("weight",)) | tensors_of([("bn1", "bn1")], BATCH_NORM)
    for stage in (1, 2, 3):
        for index in range(num_blocks):
            theirs, ours = f"layer{stage}.{index}", f"conv{stage + 1}_{index + 1}"
            for number in (1, 2):
                table |= tensors_of([(f"{theirs}.conv{number}", f"{ours}.conv{number}")], ("weight",))
                table |= tensors_of([(f"{theirs}.bn{number}", f"{ours}.bn{number}")], BATCH_NORM)
            if index == 0 and stage > 1:
                table |= tensors_of([(f"{theirs}.shortcut.0", f"{ours}.shortcut.conv")], ("weight",))
                table |= tensors_of([(f"{theirs}.shortcut.1", f"{ours}.shortcut.bn")], BATCH_NORM)
    return table | tensors_of([("linear", "fc")])


def has_option_b(tensors: Mapping[str, Tensor]) -> bool:
    """Say whether the shortcuts have parameters."""
    return any(".shortcut.0." in key or ".downsample.0." in key for key in tensors)


def _prepare(tensors: Mapping[str, Tensor], *, shortcut: Shortcut | None) -> dict[str, Tensor]:
    if has_option_b(tensors) or not any(key.startswith("layer2.0.") for key in tensors):
        return _renamed(tensors)
    if shortcut is None and "linear.weight" not in tensors:
        raise BundleError(
            "a ResNet for CIFAR whose shortcuts have no parameters, and the file does not say where they put"
            " the zero channels: if half go on each side, name its last layer `linear`, as published files do"
        )
    return _renamed(tensors if shortcut == "append" else reordered(tensors))


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the last layer and the projections the names of the published files."""
    return {
        re.sub(r"^fc\.", "linear.", key).replace(".downsample.", ".shortcut."): tensor
        for key, tensor in tensors.items()
    }


def reordered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the channels of a network that pads on both sides into the order of one that appends.

    Args:
        tensors: under the family's names.

    Returns:
        The same network for striate's shortcut: equal outputs, up to rounding.
    """
    order = {1: torch.arange(_CHANNELS[0])}
    for stage, channels in ((2, _CHANNELS[0]), (3, _CHANNELS[1])):
        half = channels // 2
        order[stage] = torch.cat(
            [half + order[stage - 1], torch.arange(half), torch.arange(half + channels, 2 * channels)]
        )
    made = dict(tensors)
    for key, tensor in tensors.items():
        found = _BLOCK.fullmatch(key)
        if found is not None:
            stage, block, number = int(found[1]), int(found[2]), found[4]
            if number == "2" and tensor.ndim:  # writes into the sum
                made[key] = tensor[order[stage]] if len(tensor) == len(order[stage]) else tensor
            elif found[3] == "conv":  # reads the sum
                read = order[stage - 1 if block == 0 and stage > 1 else stage]
                made[key] = tensor[:, read] if tensor.ndim == 4 and tensor.shape[1] == len(read) else tensor
        elif key in ("linear.weight", "fc.weight") and tensor.ndim == 2 and tensor.shape[1] == len(order[3]):
            made[key] = tensor[:, order[3]]
    return made


def _preprocessing(input_px: int, mean_rgb: MeanRgb | None) -> Preprocessing:
    """Return what the published files expect: CIFAR's pixels as they are, ImageNet's mean and deviation."""
    return Preprocessing(
        channels=3,
        height_px=input_px,
        width_px=input_px,
        resize_px=None,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
