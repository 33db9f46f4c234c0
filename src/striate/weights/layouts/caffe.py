"""Caffe's ``.caffemodel``: tensors by layer, ``conv1.0`` (weights) and ``conv1.1`` (bias), for BGR images.

striate's networks take RGB, so the first convolution's input channels are reversed. Fully connected
layers may come in Caffe's old ``1 x 1 x out x in``, and biases with leading axes of one.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final

from torch import Tensor

from striate.core.errors import BundleError
from striate.data.preprocess import Preprocessing
from striate.weights.layouts.layout import Layout, MeanRgb, flat_rows, no_such_net, scaled_resize_px
from striate.weights.layouts.torchvision import RESNET_BLOCKS, VGG_BLOCKS

_ALEXNETS: Final = ("alexnet_caffe", "caffenet")
_VGGS: Final = tuple(VGG_BLOCKS)
_RESNETS: Final = ("resnet50", "resnet101", "resnet152")
NETS: Final = (*_ALEXNETS, *_VGGS, "googlenet", *_RESNETS, "nin_imagenet", "lenet_caffe")
"""The networks of Caffe's model zoo that striate has."""

FULLY_CONNECTED: Final = frozenset(
    {"fc6", "fc7", "fc8", "fc1000", "ip1", "ip2", "loss3/classifier"}
    | {f"loss{head}/{layer}" for head in (1, 2) for layer in ("fc", "classifier")}
)
"""Caffe's names of fully connected layers."""

_FIRST_CONVOLUTIONS: Final = ("conv1.0", "conv1_1.0", "conv1/7x7_s2.0")
_VGG_MEAN: Final = (123.68, 116.779, 103.939)
_IMAGENET_MEAN: Final = (123.0, 117.0, 104.0)


def layout(net: str) -> Layout:
    """Return how Caffe stores ``net``.

    Raises:
        BundleError: Caffe's model zoo has no such network.
    """
    return Layout(
        format="caffe",
        net=net,
        keys=keys(net),
        prepare=prepare,
        preprocessing=partial(preprocessing, net),
        notes=notes(net),
    )


def keys(net: str) -> dict[str, str]:
    """Return Caffe's layer and number of the blob, such as ``conv1.0`` -> striate's key, in Caffe's order.

    Raises:
        BundleError: Caffe's model zoo has no such network.
    """
    if net in _ALEXNETS:
        return _plain([(name, name) for name in (*(f"conv{n}" for n in range(1, 6)), "fc6", "fc7", "fc8")])
    if net in _VGGS:
        convs = [f"conv{b}_{n}" for b, num in enumerate(VGG_BLOCKS[net], 1) for n in range(1, num + 1)]
        return _plain([(name, name) for name in (*convs, "fc6", "fc7", "fc8")])
    if net == "googlenet":
        return _googlenet()
    if net in _RESNETS:
        return _resnet(net)
    if net == "nin_imagenet":
        return _nin()
    if net == "lenet_caffe":
        return _plain([("conv1", "conv1"), ("conv2", "conv2"), ("ip1", "ip1"), ("ip2", "ip2")])
    raise no_such_net("Caffe", net, NETS)


def prepare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn blobs into tensors as striate's networks have them, still under Caffe's names.

    The first convolution is turned from BGR to RGB; fully connected weights become ``out x in`` and vectors
    one axis; the sums of a BatchNorm layer are divided by their number; a bias in front of ``bn_conv1`` (in
    ResNet-50) goes into its mean.

    Raises:
        BundleError: a BatchNorm layer's blobs contradict each other.
    """
    prepared: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        layer, _, blob = key.rpartition(".")
        if blob != "0" or _is_batch_norm(layer) or layer.startswith("scale"):
            prepared[key] = tensor.reshape(-1)
        elif layer in FULLY_CONNECTED:
            prepared[key] = flat_rows(tensor)
        elif key in _FIRST_CONVOLUTIONS and tensor.ndim == 4 and tensor.shape[1] == 3:
            prepared[key] = tensor.flip(1)
        else:
            prepared[key] = tensor
    for layer in [key.removesuffix(".2") for key in prepared if key.endswith(".2")]:
        if _is_batch_norm(layer):
            _average(prepared, layer)
    bias, mean = prepared.get("conv1.1"), prepared.get("bn_conv1.0")
    if bias is not None and mean is not None:
        if bias.shape != mean.shape:
            raise BundleError(
                f"expected as many values in conv1's bias as in bn_conv1's mean, got {len(bias)} and"
                f" {len(mean)}: get the file again"
            )
        prepared["bn_conv1.0"] = mean - bias  # ((x + bias) - mean) = x - (mean - bias)
        del prepared["conv1.1"]
    return prepared


def notes(net: str) -> tuple[str, ...]:
    """Say what a user of Caffe's weights in ``net`` should know."""
    if net == "lenet_caffe":
        return ()
    if net in _VGGS or net == "googlenet":
        return (_TURNED,)
    return (_TURNED, *mean_notes(net))


def mean_notes(net: str) -> tuple[str, ...]:
    """Say where the images, or the way that they are read, can't be the authors' own."""
    if net in _ALEXNETS:
        return (
            "the authors stretch images to 256x256 px before the crop; here the shorter side becomes"
            " 256 px, so that objects keep their shape",
            _NO_MEAN_IMAGE,
        )
    if net in _RESNETS:
        return (
            "the author's network pools conv1's output without padding; striate's pads it by 1, which shifts"
            " the windows by a pixel and changes scores a little",
            _NO_MEAN_IMAGE,
        )
    return (_NO_MEAN_IMAGE,) if net == "nin_imagenet" else ()


_TURNED = "the input channels of the first convolution were reversed, so that the network takes RGB"
_NO_MEAN_IMAGE = (
    "the authors subtract a mean image; here one mean for each channel is subtracted"
    " (123, 117, 104 where the file gives none)"
)


def preprocessing(net: str, input_px: int, mean_rgb: MeanRgb | None) -> Preprocessing:
    """Return what Caffe's weights expect: values from 0 to 255 less the mean, and RGB after ``prepare``.

    Args:
        net: striate's name.
        input_px: side of the network's input.
        mean_rgb: the file's own mean, 0 to 255; None for the one that was published with the network.
    """
    if net == "lenet_caffe":  # pixels times 1/256, so 256/255 on the 0 to 1 scale
        return Preprocessing(
            channels=1,
            height_px=input_px,
            width_px=input_px,
            resize_px=None,
            mean=(0.0,),
            std=(256 / 255,),
        )
    mean = mean_rgb or (_VGG_MEAN if net in _VGGS else _IMAGENET_MEAN)
    return Preprocessing(
        channels=3,
        height_px=input_px,
        width_px=input_px,
        resize_px=scaled_resize_px(256, 227 if net in _ALEXNETS else 224, input_px),
        interpolation="bilinear",
        mean=tuple(value / 255 for value in mean),
        std=(1 / 255, 1 / 255, 1 / 255),
    )


def _is_batch_norm(layer: str) -> bool:
    return layer.startswith("bn")


def _average(tensors: dict[str, Tensor], layer: str) -> None:
    """Divide the sums of means and variances by their number; a number of 0 means no sums at all."""
    number = tensors.pop(f"{layer}.2")
    if number.numel() != 1:
        raise BundleError(
            f"{layer}: expected one value as the number of its sums, got {number.numel()}: get the file again"
        )
    factor = 1 / float(number) if float(number) else 0.0
    for blob in ("0", "1"):
        if f"{layer}.{blob}" in tensors:
            tensors[f"{layer}.{blob}"] = tensors[f"{layer}.{blob}"] * factor


def _plain(places: list[tuple[str, str]]) -> dict[str, str]:
    return {
        f"{theirs}.{blob}": f"{ours}.{part}"
        for theirs, ours in places
        for blob, part in (("0", "weight"), ("1", "bias"))
    }


def _googlenet() -> dict[str, str]:
    places = [("conv1/7x7_s2", "conv1"), ("conv2/3x3_reduce", "conv2_reduce"), ("conv2/3x3", "conv2")]

    def add_head(theirs: str, ours: str) -> None:
        places.extend([(f"{theirs}/conv", f"{ours}.conv"), (f"{theirs}/fc", f"{ours}.fc1")])
        places.append((f"{theirs}/classifier", f"{ours}.fc2"))

    for module in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        name = f"inception_{module}"
        places.extend(
            [
                (f"{name}/1x1", f"{name}.conv1x1"),
                (f"{name}/3x3_reduce", f"{name}.reduce3x3"),
                (f"{name}/3x3", f"{name}.conv3x3"),
                (f"{name}/5x5_reduce", f"{name}.reduce5x5"),
                (f"{name}/5x5", f"{name}.conv5x5"),
                (f"{name}/pool_proj", f"{name}.proj"),
            ]
        )
        if module == "4a":
            add_head("loss1", "aux1")
        elif module == "4d":
            add_head("loss2", "aux2")
    places.append(("loss3/classifier", "fc"))
    return _plain(places)


def _resnet(net: str) -> dict[str, str]:
    table = {"conv1.0": "conv1.weight"} | _batch_norm("bn_conv1", "scale_conv1", "bn1")
    for stage, num_blocks in enumerate(RESNET_BLOCKS[net], start=2):
        for index in range(num_blocks):
            block, ours = f"{stage}{_block_name(net, stage, index)}", f"conv{stage}_{index + 1}"
            branches = [
                (f"{block}_branch2{letter}", f"{ours}.conv{n}", f"{ours}.bn{n}") for n, letter in _ABC
            ]
            if index == 0:
                branches.insert(0, (f"{block}_branch1", f"{ours}.shortcut.conv", f"{ours}.shortcut.bn"))
            for theirs, conv, norm in branches:
                table[f"res{theirs}.0"] = f"{conv}.weight"
                table |= _batch_norm(f"bn{theirs}", f"scale{theirs}", norm)
    return table | _plain([("fc1000", "fc")])


_ABC = ((1, "a"), (2, "b"), (3, "c"))


def _block_name(net: str, stage: int, index: int) -> str:
    """Name a block as the author does: a, b, c, ...; in the long stages of 101 and 152 a, b1, b2, ..."""
    if net == "resnet50" or stage in (2, 5):
        return "abcdef"[index]
    return f"b{index}" if index else "a"


def _batch_norm(norm: str, scale: str, ours: str) -> dict[str, str]:
    return {
        f"{norm}.0": f"{ours}.running_mean",
        f"{norm}.1": f"{ours}.running_var",
        f"{scale}.0": f"{ours}.weight",
        f"{scale}.1": f"{ours}.bias",
    }


def _nin() -> dict[str, str]:
    theirs = ["conv1", "cccp1", "cccp2", "conv2", "cccp3", "cccp4", "conv3", "cccp5", "cccp6"]
    theirs += ["conv4-1024", "cccp7-1024", "cccp8-1024"]
    return _plain([(name, name.removesuffix("-1024")) for name in theirs])
