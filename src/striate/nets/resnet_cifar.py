"""The CIFAR-10 networks of "Deep residual learning for image recognition", and their plain twins.

Names follow the paper's Table 1: conv1, then blocks conv2_1 to conv2_n at 32x32 px, conv3_1 to conv3_n at
16x16 px, conv4_1 to conv4_n at 8x8 px, then avgpool and fc. Inside a block: conv1, bn1, relu1, conv2, bn2,
shortcut, relu2. A plain twin has the same names without ``shortcut``, so one's weights load into the other.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from striate.core.errors import UsageError
from striate.nets.entry import NetEntry
from striate.nets.parts import Chain

INPUT_SHAPE = (3, 32, 32)
DEPTHS = (20, 32, 44, 56, 110)


class ShortcutA(nn.Module):
    """Option A, the shortcut without parameters: every ``stride``-th pixel, and zeros for the new channels.

    Paper: He et al. 2015, sections 3.3 and 4.2.
    Departures: the paper does not say where the zero channels go; they follow the copied ones.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.new_channels = out_channels - in_channels
        self.stride = stride

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``N x in x H x W`` to ``N x out x ceil(H/stride) x ceil(W/stride)``."""
        return functional.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))

    def extra_repr(self) -> str:
        """Say the numbers that the printed network shows."""
        return f"new_channels={self.new_channels}, stride={self.stride}"


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, plus the shortcut, then ReLU.

    Paper: He et al. 2015, Fig. 2 and equations 1 and 2.
    Departures: none.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, out_channels, stride=stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        same_shape = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same_shape else ShortcutA(in_channels, out_channels, stride=stride)
        self.relu2 = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``N x in x H x W`` to ``N x out x ceil(H/stride) x ceil(W/stride)``."""
        branch = self.relu1(self.bn1(self.conv1(maps)))
        branch = self.bn2(self.conv2(branch))
        return self.relu2(branch + self.shortcut(maps))


def plain_block(in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential:
    """Build a ``ResidualBlock`` without its shortcut.

    Paper: He et al. 2015, section 4.2.
    Departures: none.
    """
    layers: dict[str, nn.Module] = {
        "conv1": _conv3x3(in_channels, out_channels, stride=stride),
        "bn1": nn.BatchNorm2d(out_channels),
        "relu1": nn.ReLU(),
        "conv2": _conv3x3(out_channels, out_channels),
        "bn2": nn.BatchNorm2d(out_channels),
        "relu2": nn.ReLU(),
    }
    return nn.Sequential(OrderedDict(layers))


def resnet(depth: int, num_classes: int = 10) -> Chain:
    """Build the residual network of ``depth`` weighted layers with option A shortcuts.

    Args:
        depth: ``6n + 2`` with n at least 1; the paper trains 20, 32, 44, 56, 110 and 1202.
        num_classes: number of output units.

    Returns:
        A network from ``N x 3 x 32 x 32`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``depth`` is not ``6n + 2``.

    Paper: He, Zhang, Ren, Sun, arXiv 1512.03385, section 4.2.
    Departures: choices where the paper is silent, see ``ENTRIES``.
    """
    return _stack(f"resnet{depth}", depth, num_classes, ResidualBlock)


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
    layers: dict[str, nn.Module] = {"conv1": _conv3x3(3, 16), "bn1": nn.BatchNorm2d(16), "relu1": nn.ReLU()}
    for stage, in_channels, out_channels, stride in ((2, 16, 16, 1), (3, 16, 32, 2), (4, 32, 64, 2)):
        layers[f"conv{stage}_1"] = block(in_channels, out_channels, stride=stride)
        for index in range(2, num_blocks + 1):
            layers[f"conv{stage}_{index}"] = block(out_channels, out_channels, stride=1)
    layers["avgpool"] = nn.AvgPool2d(8)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = fc = nn.Linear(64, num_classes)
    net = Chain(name, INPUT_SHAPE, layers)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(fc.bias)
    return net


def _conv3x3(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


_PAPER = "He, Zhang, Ren, Sun: Deep residual learning for image recognition. arXiv 1512.03385, CVPR 2016"
_PROTOCOL = "% test error on CIFAR-10 (64,000 iterations of 128 images, pad 4, crop, flip; one 32x32 view)"
_RESNET_ERRORS = {
    20: f"8.75 {_PROTOCOL}",
    32: f"7.51 {_PROTOCOL}",
    44: f"7.17 {_PROTOCOL}",
    56: f"6.97 {_PROTOCOL}",
    110: f"6.43 {_PROTOCOL}; best of five runs, 6.61 +- 0.16 over the five",
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
        departures=(_SHORTCUT_CHOICE, *_CHOICES),
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


ENTRIES = (*map(_resnet_entry, DEPTHS), *map(_plain_entry, DEPTHS))
