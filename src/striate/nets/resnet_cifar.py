"""The CIFAR-10 networks of "Deep residual learning for image recognition", and their plain twins.

Names follow the paper's Table 1: conv1, then blocks conv2_1 to conv2_n at 32x32 px, conv3_1 to conv3_n at
16x16 px, conv4_1 to conv4_n at 8x8 px, then avgpool and fc. Inside a block: conv1, bn1, relu1, conv2, bn2,
shortcut, relu2. A plain twin has the same names without ``shortcut``, so one's weights load into the other.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn

from striate.core.errors import UsageError
from striate.nets.entry import NetEntry
from striate.nets.modules import Chain, ResidualBlock, plain_block, start_residual

INPUT_SHAPE = (3, 32, 32)
RESIDUAL_DEPTHS = (20, 32, 44, 56, 110, 1202)
PLAIN_DEPTHS = (20, 32, 44, 56, 110)


def resnet(depth: int, num_classes: int = 10, *, shortcut: Literal["A", "B"] = "A") -> Chain:
    """Build the residual network of ``depth`` weighted layers.

    Args:
        depth: ``6n + 2`` with n at least 1; the paper trains 20, 32, 44, 56, 110 and 1202.
        num_classes: number of output units.
        shortcut: where the shape changes, in conv3_1 and conv4_1: ``A``, zeros for the new channels, as in
            the paper; ``B``, a 1x1 convolution with batch normalisation, 2,752 parameters more.

    Returns:
        A network from ``N x 3 x 32 x 32`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``depth`` is not ``6n + 2``, or ``shortcut`` is neither ``A`` nor ``B``.

    Paper: He, Zhang, Ren, Sun, arXiv 1512.03385, section 4.2.
    Departures: option B, which the paper has for ImageNet only; choices where it is silent, see ``ENTRIES``.
    """
    if shortcut not in ("A", "B"):
        raise UsageError(
            f"resnet{depth} expects shortcut to be A or B, got {shortcut!r}: use A, the paper's on CIFAR"
        )
    return _stack(f"resnet{depth}", depth, num_classes, partial(ResidualBlock, shortcut=shortcut))


def plain(depth: int, num_classes: int = 10) -> Chain:
    """Build the plain network of ``depth`` weighted layers: ``resnet`` without its shortcuts.

    Args:
        depth: ``6n + 2`` with n at least 1; the paper trains 20, 32, 44, 56 and 110.
        num_classes: number of output units.

    Returns:
        A network from ``N x 3 x 32 x 32`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``depth`` is not ``6n + 2``.

    Paper: He, Zhang, Ren, Sun, arXiv 1512.03385, section 4.2.
    Departures: choices where the paper is silent, see ``ENTRIES``.
    """
    return _stack(f"plain{depth}", depth, num_classes, plain_block)


def _stack(name: str, depth: int, num_classes: int, block: Callable[..., nn.Module]) -> Chain:
    num_blocks, rest = divmod(depth - 2, 6)
    if rest or num_blocks < 1:
        raise UsageError(
            f"expected a depth of 6n + 2 with n at least 1, got {depth}: use 20, 32, 44, 56 or 110"
        )
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, 16, kernel_size=3, padding=1, bias=False),
        "bn1": nn.BatchNorm2d(16),
        "relu1": nn.ReLU(),
    }
    for stage, in_channels, out_channels, stride in ((2, 16, 16, 1), (3, 16, 32, 2), (4, 32, 64, 2)):
        layers[f"conv{stage}_1"] = block(in_channels, out_channels, stride=stride)
        for index in range(2, num_blocks + 1):
            layers[f"conv{stage}_{index}"] = block(out_channels, out_channels, stride=1)
    layers["avgpool"] = nn.AvgPool2d(8)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(64, num_classes)
    net = Chain(name, INPUT_SHAPE, layers)
    start_residual(net)
    return net


_PAPER = "He, Zhang, Ren, Sun: Deep residual learning for image recognition. arXiv 1512.03385, CVPR 2016"
_PROTOCOL = "% test error on CIFAR-10 (64,000 iterations of 128 images, pad 4, crop, flip; one 32x32 view)"
_RESNET_ERRORS = {
    20: f"8.75 {_PROTOCOL}",
    32: f"7.51 {_PROTOCOL}",
    44: f"7.17 {_PROTOCOL}",
    56: f"6.97 {_PROTOCOL}",
    110: f"6.43 {_PROTOCOL}; best of five runs, 6.61 +- 0.16 over the five",
    1202: f"7.93 {_PROTOCOL}; worse than 110 layers, which the paper puts down to overfitting",
}
_CHOICES = (
    "Convolutions start from He's normal distribution scaled by fan-out, and the fully connected layer from"
    " PyTorch's uniform distribution with zero bias: the paper cites He et al. 2015 and gives no detail.",
    "Batch normalisation uses eps 1e-5 and, at test time, moving averages of momentum 0.1: the paper gives no"
    " values.",
)
_SHORTCUT_CHOICE = (
    "The zero channels of an option A shortcut follow the copied ones, as in fb.resnet.torch: the paper does"
    " not say where they go."
)
_OPTION_B = 'shortcut="B" puts projections in conv3_1 and conv4_1: on CIFAR the paper has option A only.'


def _resnet_entry(depth: int) -> NetEntry:
    return NetEntry(
        name=f"resnet{depth}",
        title=f"ResNet-{depth} (CIFAR)",
        year=2015,
        paper=_PAPER,
        input_shape=INPUT_SHAPE,
        num_classes=10,
        build=partial(resnet, depth),
        recipe="resnet_cifar",
        published_error=_RESNET_ERRORS[depth],
        departures=(_SHORTCUT_CHOICE, _OPTION_B, *_CHOICES),
        page="docs/nets/resnet_cifar.md",
    )


def _plain_entry(depth: int) -> NetEntry:
    return NetEntry(
        name=f"plain{depth}",
        title=f"Plain-{depth} (CIFAR)",
        year=2015,
        paper=_PAPER,
        input_shape=INPUT_SHAPE,
        num_classes=10,
        build=partial(plain, depth),
        recipe="resnet_cifar",
        published_error=(
            "not published: said to be above 60 % and left out of Fig. 6"
            if depth == 110
            else "not published: only curves in Fig. 6, where the error grows with depth"
        ),
        departures=_CHOICES,
        page="docs/nets/resnet_cifar.md",
    )


ENTRIES = (*map(_resnet_entry, RESIDUAL_DEPTHS), *map(_plain_entry, PLAIN_DEPTHS))
