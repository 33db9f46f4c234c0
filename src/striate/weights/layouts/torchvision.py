"""torchvision's names: ``features.0.weight`` and the like, as its ``.pth`` files hold them.

Shapes are striate's own, so that a change of names is all there is, both ways.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final

from torch import Tensor

from striate.core.errors import UsageError
from striate.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from striate.weights.layouts.layout import (
    BATCH_NORM,
    Layout,
    MeanRgb,
    no_such_net,
    scaled_resize_px,
    tensors_of,
)

VGG_BLOCKS: Final = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
"""Convolutions in each of the five blocks."""

RESNET_BLOCKS: Final = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
"""Blocks in each of the four stages, by torchvision's name."""

BOTTLENECK: Final = frozenset({"resnet50", "resnet101", "resnet152"})

TORCHVISION_NAMES: Final = {
    "alexnet_owt": "alexnet",
    **{f"{name}{suffix}": f"{name}{suffix}" for suffix in ("", "_bn") for name in VGG_BLOCKS},
    "googlenet_tv": "googlenet",
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    **{f"{name}_v1_5": name for name in ("resnet50", "resnet101", "resnet152")},
}
"""striate's name -> torchvision's name of the same network."""

PAPER_STRIDE: Final = {"resnet50": "resnet50", "resnet101": "resnet101", "resnet152": "resnet152"}
"""striate's networks that take torchvision's tensors but compute something else with them."""

NETS: Final = (*TORCHVISION_NAMES, *PAPER_STRIDE)


def layout(net: str) -> Layout:
    """Return how torchvision stores ``net``.

    Raises:
        BundleError: torchvision has no such network.
    """
    return Layout(
        format="torchvision",
        net=net,
        keys=keys(net),
        preprocessing=partial(preprocessing, net),
        notes=notes(net),
    )


def keys(net: str) -> dict[str, str]:
    """Return torchvision's key -> striate's key, in the order of torchvision's state dict.

    Raises:
        BundleError: torchvision has no such network.
    """
    name = TORCHVISION_NAMES.get(net) or PAPER_STRIDE.get(net)
    if name is None:
        raise no_such_net("torchvision", net, NETS)
    if name == "alexnet":
        return _alexnet()
    if name == "googlenet":
        return _googlenet()
    if name in RESNET_BLOCKS:
        return _resnet(RESNET_BLOCKS[name], bottleneck=name in BOTTLENECK)
    return _vgg(VGG_BLOCKS[name.removesuffix("_bn")], batch_norm=name.endswith("_bn"))


def notes(net: str) -> tuple[str, ...]:
    """Say what a user of torchvision's weights in ``net`` should know."""
    if net in PAPER_STRIDE:
        return (
            f"WARNING: these weights were almost certainly trained with the stride in the 3x3 convolutions;"
            f" {net} has it in the first 1x1, as in the paper, and scores worse with them: use {net}_v1_5",
        )
    return ()


def preprocessing(net: str, input_px: int, mean_rgb: MeanRgb | None = None) -> Preprocessing:
    """Return what torchvision's first weights of ``net`` expect: shorter side 256, centre 224, bilinear.

    GoogLeNet's weights expect values in [-1, 1]. Other input sides see the same part of the image.
    """
    inception = net == "googlenet_tv"
    return Preprocessing(
        channels=3,
        height_px=input_px,
        width_px=input_px,
        resize_px=scaled_resize_px(256, 224, input_px),
        interpolation="bilinear",
        mean=(0.5, 0.5, 0.5) if inception else IMAGENET_MEAN,
        std=(0.5, 0.5, 0.5) if inception else IMAGENET_STD,
    )


def to_torchvision(net: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Write a network's tensors under torchvision's names, so that torchvision's network loads them.

    Args:
        net: striate's name of a network that torchvision has.
        state: the network's state dict.

    Returns:
        The same tensors in the order of torchvision's state dict. A GoogLeNet without auxiliary classifiers
        gives none; torchvision's takes that with ``aux_logits=False``.

    Raises:
        UsageError: torchvision has no such network, or a tensor is missing or unknown.
    """
    if net not in TORCHVISION_NAMES:
        hint = f"use {net}_v1_5" if net in PAPER_STRIDE else f"use one of {', '.join(TORCHVISION_NAMES)}"
        raise UsageError(f"expected a network that torchvision has, got {net}: {hint}")
    table = keys(net)
    written = {theirs: state[ours] for theirs, ours in table.items() if ours in state}
    missing = [ours for ours in table.values() if ours not in state and not ours.startswith("aux")]
    unknown = sorted(set(state) - set(table.values()))
    if missing or unknown:
        raise UsageError(
            f"expected the tensors of {net}, got {len(missing)} missing ({', '.join(missing[:3]) or 'none'})"
            f" and {len(unknown)} unknown ({', '.join(unknown[:3]) or 'none'}): pass its state dict"
        )
    return written


def _alexnet() -> dict[str, str]:
    return tensors_of(
        [
            ("features.0", "conv1"),
            ("features.3", "conv2"),
            ("features.6", "conv3"),
            ("features.8", "conv4"),
            ("features.10", "conv5"),
            ("classifier.1", "fc6"),
            ("classifier.4", "fc7"),
            ("classifier.6", "fc8"),
        ]
    )


def _vgg(convs_in_blocks: tuple[int, ...], *, batch_norm: bool) -> dict[str, str]:
    table: dict[str, str] = {}
    place = 0  # torchvision numbers every module of a row: convolution, batch normalisation, ReLU, pooling
    for block, num_convs in enumerate(convs_in_blocks, start=1):
        for number in range(1, num_convs + 1):
            table |= tensors_of([(f"features.{place}", f"conv{block}_{number}")])
            if batch_norm:
                table |= tensors_of([(f"features.{place + 1}", f"bn{block}_{number}")], BATCH_NORM)
            place += 3 if batch_norm else 2
        place += 1
    return table | tensors_of([("classifier.0", "fc6"), ("classifier.3", "fc7"), ("classifier.6", "fc8")])


def _googlenet() -> dict[str, str]:
    table: dict[str, str] = {}

    def add(theirs: str, conv: str, norm: str) -> None:
        nonlocal table
        table |= tensors_of([(f"{theirs}.conv", conv)], ("weight",))
        table |= tensors_of([(f"{theirs}.bn", norm)], BATCH_NORM)

    add("conv1", "conv1", "bn1")
    add("conv2", "conv2_reduce", "bn2_reduce")
    add("conv3", "conv2", "bn2")
    for module in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        theirs, ours = f"inception{module}", f"inception_{module}"
        add(f"{theirs}.branch1", f"{ours}.conv1x1", f"{ours}.bn1x1")
        add(f"{theirs}.branch2.0", f"{ours}.reduce3x3", f"{ours}.bn3x3_reduce")
        add(f"{theirs}.branch2.1", f"{ours}.conv3x3", f"{ours}.bn3x3")
        add(f"{theirs}.branch3.0", f"{ours}.reduce5x5", f"{ours}.bn5x5_reduce")
        add(f"{theirs}.branch3.1", f"{ours}.conv5x5", f"{ours}.bn5x5")
        add(f"{theirs}.branch4.1", f"{ours}.proj", f"{ours}.bn_proj")
    for head in ("aux1", "aux2"):
        add(f"{head}.conv", f"{head}.conv", f"{head}.bn")
        table |= tensors_of([(f"{head}.fc1", f"{head}.fc1"), (f"{head}.fc2", f"{head}.fc2")])
    return table | tensors_of([("fc", "fc")])


def _resnet(blocks_in_stages: tuple[int, ...], *, bottleneck: bool) -> dict[str, str]:
    table = tensors_of([("conv1", "conv1")], ("weight",)) | tensors_of([("bn1", "bn1")], BATCH_NORM)
    for stage, num_blocks in enumerate(blocks_in_stages, start=1):
        for index in range(num_blocks):
            theirs, ours = f"layer{stage}.{index}", f"conv{stage + 1}_{index + 1}"
            for number in (1, 2, 3) if bottleneck else (1, 2):
                table |= tensors_of([(f"{theirs}.conv{number}", f"{ours}.conv{number}")], ("weight",))
                table |= tensors_of([(f"{theirs}.bn{number}", f"{ours}.bn{number}")], BATCH_NORM)
            if index == 0 and (bottleneck or stage > 1):
                table |= tensors_of([(f"{theirs}.downsample.0", f"{ours}.shortcut.conv")], ("weight",))
                table |= tensors_of([(f"{theirs}.downsample.1", f"{ours}.shortcut.bn")], BATCH_NORM)
    return table | tensors_of([("fc", "fc")])
