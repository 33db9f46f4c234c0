"""Network in network (NIN): small perceptrons slide over the image, and an average ends the network.

Layer names follow the authors' files: conv1, then cccp1 and cccp2 ("cascaded cross channel parametric
pooling", that is 1x1 convolutions), pool1, drop1, and so on to avgpool. The ReLU of conv1 is relu1, that of
cccp1 relu_cccp1.
"""

from collections.abc import Mapping

from torch import nn

from striate.core.arithmetic import output_size
from striate.core.errors import InputSizeError, UsageError
from striate.nets.entry import NetEntry
from striate.nets.modules import Chain


def nin_cifar10(num_classes: int = 10, *, dropout: float = 0.5) -> Chain:
    """Build the CIFAR-10 network: three mlpconv blocks and an average over each class's map.

    Args:
        num_classes: number of output maps, one per class.
        dropout: fraction of pool1 and pool2 outputs zeroed in training, in [0, 1).

    Returns:
        A network from ``N x 3 x 32 x 32`` images to ``N x num_classes`` logits, none of them negative.

    Raises:
        UsageError: ``dropout`` is out of range.

    Paper: Lin, Chen, Yan, arXiv 1312.4400, sections 3 and 4.2.
    Departures: what the paper leaves to the author's files, see ``ENTRIES``.
    """
    _check_dropout("nin_cifar10", dropout)
    layers = {
        "conv1": nn.Conv2d(3, 192, kernel_size=5, padding=2),
        "relu1": nn.ReLU(),
        "cccp1": nn.Conv2d(192, 160, kernel_size=1),
        "relu_cccp1": nn.ReLU(),
        "cccp2": nn.Conv2d(160, 96, kernel_size=1),
        "relu_cccp2": nn.ReLU(),
        "pool1": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "drop1": nn.Dropout(dropout),
        "conv2": nn.Conv2d(96, 192, kernel_size=5, padding=2),
        "relu2": nn.ReLU(),
        "cccp3": nn.Conv2d(192, 192, kernel_size=1),
        "relu_cccp3": nn.ReLU(),
        "cccp4": nn.Conv2d(192, 192, kernel_size=1),
        "relu_cccp4": nn.ReLU(),
        "pool2": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "drop2": nn.Dropout(dropout),
        "conv3": nn.Conv2d(192, 192, kernel_size=3, padding=1),
        "relu3": nn.ReLU(),
        "cccp5": nn.Conv2d(192, 192, kernel_size=1),
        "relu_cccp5": nn.ReLU(),
        "cccp6": nn.Conv2d(192, num_classes, kernel_size=1),
        "relu_cccp6": nn.ReLU(),
        "avgpool": nn.AvgPool2d(8),
        "flatten": nn.Flatten(),
    }
    net = Chain("nin_cifar10", (3, 32, 32), layers)
    _draw(net, stds={})
    return net


def nin_imagenet(num_classes: int = 1000, *, input_px: int = 224, dropout: float = 0.5) -> Chain:
    """Build the ImageNet network of the authors' Caffe model: four mlpconv blocks and an average.

    Args:
        num_classes: number of output maps, one per class.
        input_px: side of the square images in pixels, at least 55; the authors' is 224. The weights fit every
            size; ``avgpool`` covers the whole of the last maps.
        dropout: fraction of pool3 outputs zeroed in training, in [0, 1).

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits, none of them
        negative.

    Raises:
        UsageError: ``input_px`` or ``dropout`` is out of range.

    Paper: Lin, Chen, Yan, arXiv 1312.4400, has no ImageNet network; this is the authors' model file.
    Departures: see ``ENTRIES``.
    """
    _check_dropout("nin_imagenet", dropout)
    try:
        side = output_size(input_px, 11, stride=4).size
        for _ in ("pool1", "pool2", "pool3"):
            side = output_size(side, 3, stride=2, ceil_mode=True).size
    except InputSizeError:
        raise UsageError(
            f"nin_imagenet expects input_px to be at least 55, got {input_px}: use 224, the authors'"
        ) from None
    layers = {
        "conv1": nn.Conv2d(3, 96, kernel_size=11, stride=4),
        "relu1": nn.ReLU(),
        "cccp1": nn.Conv2d(96, 96, kernel_size=1),
        "relu_cccp1": nn.ReLU(),
        "cccp2": nn.Conv2d(96, 96, kernel_size=1),
        "relu_cccp2": nn.ReLU(),
        "pool1": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "conv2": nn.Conv2d(96, 256, kernel_size=5, padding=2),
        "relu2": nn.ReLU(),
        "cccp3": nn.Conv2d(256, 256, kernel_size=1),
        "relu_cccp3": nn.ReLU(),
        "cccp4": nn.Conv2d(256, 256, kernel_size=1),
        "relu_cccp4": nn.ReLU(),
        "pool2": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "conv3": nn.Conv2d(256, 384, kernel_size=3, padding=1),
        "relu3": nn.ReLU(),
        "cccp5": nn.Conv2d(384, 384, kernel_size=1),
        "relu_cccp5": nn.ReLU(),
        "cccp6": nn.Conv2d(384, 384, kernel_size=1),
        "relu_cccp6": nn.ReLU(),
        "pool3": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "drop3": nn.Dropout(dropout),
        "conv4": nn.Conv2d(384, 1024, kernel_size=3, padding=1),
        "relu4": nn.ReLU(),
        "cccp7": nn.Conv2d(1024, 1024, kernel_size=1),
        "relu_cccp7": nn.ReLU(),
        "cccp8": nn.Conv2d(1024, num_classes, kernel_size=1),
        "relu_cccp8": nn.ReLU(),
        "avgpool": nn.AvgPool2d(side),
        "flatten": nn.Flatten(),
    }
    net = Chain("nin_imagenet", (3, input_px, input_px), layers)
    _draw(net, stds={"conv1": 0.01, "conv3": 0.01, "cccp8": 0.01})
    return net


def _check_dropout(name: str, dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise UsageError(f"{name} expects dropout in [0, 1), got {dropout}: use 0.5, the paper's")


def _draw(net: nn.Module, *, stds: Mapping[str, float]) -> None:
    """Draw weights from normal distributions, of standard deviation 0.05 where ``stds`` names no other."""
    for name, layer in net.named_children():
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=stds.get(name, 0.05))
            nn.init.zeros_(layer.bias)


_PAPER = "Lin, Chen, Yan: Network in network. arXiv 1312.4400, ICLR 2014"

ENTRIES = (
    NetEntry(
        name="nin_cifar10",
        title="Network in network (CIFAR-10)",
        year=2013,
        paper=_PAPER,
        input_shape=(3, 32, 32),
        num_classes=10,
        build=nin_cifar10,
        recipe="nin_cifar10",
        published_error=(
            "10.41 % test error on CIFAR-10 (with dropout, no augmentation); 8.81 % with translations and"
            " flips"
        ),
        departures=(
            "Widths, kernel sizes, pools that round up, the ReLU after cccp6 and initial weights of standard"
            " deviation 0.05 with zero biases are those of the author's cuda-convnet file: the paper's text"
            " gives none of them.",
        ),
        page="docs/nets/nin.md",
    ),
    NetEntry(
        name="nin_imagenet",
        title="Network in network (ImageNet)",
        year=2014,
        paper=f"{_PAPER}; the ImageNet network is the authors' Caffe model",
        input_shape=(3, 224, 224),
        num_classes=1000,
        build=nin_imagenet,
        recipe="photos",
        published_error=(
            "40.64 % top-1 on ILSVRC-2012 (validation; one crop of 224 px, the authors' model page: the paper"
            " has no ImageNet result)"
        ),
        departures=(
            "The paper has no ImageNet network: layers and initial weights (standard deviation 0.05, in"
            " conv1, conv3 and cccp8 0.01, biases zero) are those of the authors' Caffe file, whose"
            " conv4-1024, cccp7-1024 and cccp8-1024 are named conv4, cccp7 and cccp8 here.",
            "Image sizes other than 224 px are allowed with input_px, from 55 px; avgpool then changes its"
            " window.",
        ),
        page="docs/nets/nin.md",
    ),
)
