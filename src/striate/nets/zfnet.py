"""ZFNet: the network of "Visualizing and understanding convolutional networks", and its wide variant.

Layer names: conv1 to conv5, relu1 to relu5, pool1, norm1, pool2, norm2, pool5, fc6, relu6, drop6, fc7, relu7,
drop7, fc8. ``pad1`` holds the zeros that the printed size of conv1 asks for.
"""

from torch import nn

from striate.core.arithmetic import output_size
from striate.core.errors import InputSizeError, UsageError
from striate.nets.entry import NetEntry
from striate.nets.modules import Chain, LocalResponseNorm


def zfnet(num_classes: int = 1000, *, input_px: int = 224, dropout: float = 0.5) -> Chain:
    """Build ZFNet: AlexNet in one tower with smaller filters and strides, pooling before normalisation.

    Args:
        num_classes: number of output units.
        input_px: side of the square images in pixels, at least 64; the paper's is 224. ``fc6`` reads what
            is left at pool5, so weights of one size do not fit another.
        dropout: fraction of fc6 and fc7 outputs zeroed in training, in [0, 1).

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``input_px`` or ``dropout`` is out of range.

    Paper: Zeiler and Fergus, arXiv 1311.2901, section 3 and Fig. 3.
    Departures: choices where the paper is silent, see ``ENTRIES``.
    """
    pool5_px = _pool5_px("zfnet", input_px)
    _check_dropout("zfnet", dropout)
    net = Chain(
        "zfnet",
        (3, input_px, input_px),
        {
            **_pad1_to_norm2(),
            "conv3": nn.Conv2d(256, 384, kernel_size=3, padding=1),
            "relu3": nn.ReLU(),
            "conv4": nn.Conv2d(384, 384, kernel_size=3, padding=1),
            "relu4": nn.ReLU(),
            "conv5": nn.Conv2d(384, 256, kernel_size=3, padding=1),
            "relu5": nn.ReLU(),
            "pool5": _pool(),
            **_fc6_to_fc8(256 * pool5_px**2, num_classes, dropout),
        },
    )
    _draw_gaussian(net)
    return net


def zfnet_wide(num_classes: int = 1000, *, input_px: int = 224, dropout: float = 0.5) -> Chain:
    """Build the wide ZFNet that lectures draw: 512, 1024 and 512 maps in conv3, conv4 and conv5.

    Args:
        num_classes: number of output units.
        input_px: side of the square images in pixels, at least 64; the paper's is 224.
        dropout: fraction of fc6 and fc7 outputs zeroed in training, in [0, 1).

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``input_px`` or ``dropout`` is out of range.

    Paper: Zeiler and Fergus, arXiv 1311.2901, Table 2, row (b), and Table 3.
    Departures: choices where the paper is silent, see ``ENTRIES``.
    """
    pool5_px = _pool5_px("zfnet_wide", input_px)
    _check_dropout("zfnet_wide", dropout)
    net = Chain(
        "zfnet_wide",
        (3, input_px, input_px),
        {
            **_pad1_to_norm2(),
            "conv3": nn.Conv2d(256, 512, kernel_size=3, padding=1),
            "relu3": nn.ReLU(),
            "conv4": nn.Conv2d(512, 1024, kernel_size=3, padding=1),
            "relu4": nn.ReLU(),
            "conv5": nn.Conv2d(1024, 512, kernel_size=3, padding=1),
            "relu5": nn.ReLU(),
            "pool5": _pool(),
            **_fc6_to_fc8(512 * pool5_px**2, num_classes, dropout),
        },
    )
    _draw_gaussian(net)
    return net


def _pad1_to_norm2() -> dict[str, nn.Module]:
    """The lower two convolutions, which both networks share: 3 -> 96 -> 256 maps."""
    return {
        "pad1": nn.ZeroPad2d((0, 1, 0, 1)),
        "conv1": nn.Conv2d(3, 96, kernel_size=7, stride=2),
        "relu1": nn.ReLU(),
        "pool1": _pool(),
        "norm1": _norm(),
        "conv2": nn.Conv2d(96, 256, kernel_size=5, stride=2),
        "relu2": nn.ReLU(),
        "pool2": _pool(),
        "norm2": _norm(),
    }


def _fc6_to_fc8(num_features: int, num_classes: int, dropout: float) -> dict[str, nn.Module]:
    return {
        "flatten": nn.Flatten(),
        "fc6": nn.Linear(num_features, 4096),
        "relu6": nn.ReLU(),
        "drop6": nn.Dropout(dropout),
        "fc7": nn.Linear(4096, 4096),
        "relu7": nn.ReLU(),
        "drop7": nn.Dropout(dropout),
        "fc8": nn.Linear(4096, num_classes),
    }


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _norm() -> LocalResponseNorm:
    return LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=2)


def _pool5_px(name: str, input_px: int) -> int:
    """Side of pool5's maps."""
    try:
        conv1 = output_size(input_px + 1, 7, stride=2).size
        pool1 = output_size(conv1, 3, stride=2, ceil_mode=True).size
        conv2 = output_size(pool1, 5, stride=2).size
        pool2 = output_size(conv2, 3, stride=2, ceil_mode=True).size  # conv3 to conv5 keep it
        return output_size(pool2, 3, stride=2, ceil_mode=True).size
    except InputSizeError:
        # 64 -> 30 (conv1) -> 15 -> 6 (conv2) -> 3 -> 1
        raise UsageError(
            f"{name} expects input_px of at least 64, got {input_px}: use 224, the paper's"
        ) from None


def _check_dropout(name: str, dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise UsageError(f"{name} expects dropout in [0, 1), got {dropout}: use 0.5, the paper's")


def _draw_gaussian(net: Chain) -> None:
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)


_PAPER = "Zeiler, Fergus: Visualizing and understanding convolutional networks. arXiv 1311.2901, ECCV 2014"
_CHOICES = (
    "The printed sizes follow from rounding up: pad1 adds one row of zeros at the bottom and one column at"
    " the right for conv1 (110), and pool1 and pool2 keep a last window that hangs over the edge (55 and"
    " 13).",
    "conv3, conv4 and conv5 are padded by 1, which the text does not say, because the printed sizes stay 13.",
    "The paper says that pooled maps are contrast normalised across maps and gives no formula: norm1 and"
    " norm2 are AlexNet's response normalisation with its constants (size 5, alpha 1e-4, beta 0.75, k 2).",
    "Weights start from a normal distribution of mean 0 and standard deviation 0.01: the paper only says that"
    " they start at 10^-2.",
    "Dropout multiplies the outputs that stay by 1/(1 - dropout) in training: the paper does not say how it"
    " scales them.",
    "Image sizes other than 224 px are allowed with input_px, 64 or more; fc6 then changes its size, and"
    " conv2 leaves out windows that would hang over an edge.",
)

ENTRIES = (
    NetEntry(
        name="zfnet",
        title="ZFNet",
        year=2013,
        paper=_PAPER,
        input_shape=(3, 224, 224),
        num_classes=1000,
        build=zfnet,
        recipe="zfnet",
        published_error=(
            "38.4 % top-1, 16.5 % top-5 on ILSVRC-2012 (validation; one network, ten crops; an earlier arXiv"
            " version prints 38.3/16.4)"
        ),
        departures=_CHOICES,
        page="docs/nets/zfnet.md",
    ),
    NetEntry(
        name="zfnet_wide",
        title="ZFNet (wide)",
        year=2013,
        paper=_PAPER,
        input_shape=(3, 224, 224),
        num_classes=1000,
        build=zfnet_wide,
        recipe="zfnet",
        published_error=(
            "37.5 % top-1, 16.0 % top-5 on ILSVRC-2012 (validation; one network, ten crops; 16.1 top-5 on the"
            " test images)"
        ),
        departures=_CHOICES,
        page="docs/nets/zfnet.md",
    ),
)
