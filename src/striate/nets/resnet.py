"""The ImageNet networks of "Deep residual learning for image recognition", and their plain twins.

Names follow the paper's Table 1: conv1, bn1, relu1, pool1, then blocks conv2_1, conv2_2, ... to conv5_2 or
conv5_3, then avgpool and fc. Inside a block of two layers (18 and 34): conv1, bn1, relu1, conv2, bn2,
shortcut, relu2. Inside a bottleneck (50, 101, 152): conv1, bn1, relu1, conv2, bn2, relu2, conv3, bn3,
shortcut, relu3. A projection, where a shortcut is one, is called ``shortcut.conv`` and ``shortcut.bn``.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from torch import Tensor, nn

from striate.core.errors import UsageError
from striate.nets.entry import NetEntry
from striate.nets.modules import (
    Chain,
    ResidualBlock,
    ShortcutOption,
    make_shortcut,
    plain_block,
    start_residual,
)

NUM_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Blocks in conv2_x, conv3_x, conv4_x and conv5_x, by depth (Table 1)."""

BASIC_DEPTHS = (18, 34)
BOTTLENECK_DEPTHS = (50, 101, 152)
_SUFFIXES: dict[ShortcutOption, str] = {"A": "_a", "B": "", "C": "_c"}


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with batch normalisation, plus the shortcut, then ReLU.

    The first convolution narrows ``in_channels`` to ``mid_channels``, the last widens them to
    ``out_channels``. The shortcut's stride is the product of the two strides.

    Paper: He et al. 2015, Fig. 5 (right) and section 4.1.
    Departures: none. Which convolution has the stride is the caller's choice.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        *,
        stride_1x1: int,
        stride_3x3: int,
        shortcut: ShortcutOption,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, mid_channels, kernel_size=1, stride=stride_1x1, bias=False)
        self.bn1 = nn.BatchNorm2d(mid_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(
            mid_channels, mid_channels, kernel_size=3, stride=stride_3x3, padding=1, bias=False
        )
        self.bn2 = nn.BatchNorm2d(mid_channels)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(mid_channels, out_channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = make_shortcut(
            in_channels, out_channels, stride=stride_1x1 * stride_3x3, option=shortcut
        )
        self.relu3 = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``N x in x H x W`` to ``N x out x ceil(H/stride) x ceil(W/stride)``."""
        branch = self.relu1(self.bn1(self.conv1(maps)))
        branch = self.relu2(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        return self.relu3(branch + self.shortcut(maps))


def resnet(
    depth: int, num_classes: int = 1000, *, shortcut: ShortcutOption = "B", input_px: int = 224
) -> Chain:
    """Build the residual network of ``depth`` weighted layers, bottlenecks with the stride in the first 1x1.

    Args:
        depth: 18, 34 (blocks of two 3x3 convolutions), 50, 101 or 152 (bottlenecks).
        num_classes: number of output units.
        shortcut: where the shape changes: ``A``, zeros for the new channels; ``B``, a 1x1 convolution with
            batch normalisation; ``C``, that convolution in every block, also where the shape stays.
        input_px: side of the square images in pixels, a positive multiple of 32; the paper's is 224. Weights
            of one size fit every other.

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``depth``, ``shortcut`` or ``input_px`` is not one of these.

    Paper: He, Zhang, Ren, Sun, arXiv 1512.03385, Table 1, sections 3.3 and 4.1.
    Departures: choices where the paper is silent, see ``ENTRIES``.
    """
    name = _name("resnet", depth, (*BASIC_DEPTHS, *BOTTLENECK_DEPTHS), shortcut=shortcut)
    if depth in BASIC_DEPTHS:
        return _basic(name, depth, num_classes, partial(ResidualBlock, shortcut=shortcut), input_px)
    return _bottleneck(name, depth, num_classes, shortcut, "1x1", input_px)


def resnet_v1_5(
    depth: int, num_classes: int = 1000, *, shortcut: ShortcutOption = "B", input_px: int = 224
) -> Chain:
    """Build the residual network of ``depth`` weighted layers, bottlenecks with the stride in the 3x3.

    Public weights have this form. It costs 0.23 GMAC more than ``resnet``, with the same parameters.

    Args:
        depth: 50, 101 or 152.
        num_classes: as ``resnet``.
        shortcut: as ``resnet``.
        input_px: as ``resnet``.

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``depth``, ``shortcut`` or ``input_px`` is not one of these.

    Paper: He, Zhang, Ren, Sun, arXiv 1512.03385, Table 1, sections 3.3 and 4.1.
    Departures: the stride of conv3_1, conv4_1 and conv5_1 is in the 3x3 convolution, as in fb.resnet.torch;
        further choices where the paper is silent, see ``ENTRIES``.
    """
    name = _name("resnet", depth, BOTTLENECK_DEPTHS, version="_v1_5", shortcut=shortcut)
    return _bottleneck(name, depth, num_classes, shortcut, "3x3", input_px)


def plain(depth: int, num_classes: int = 1000, *, input_px: int = 224) -> Chain:
    """Build the plain network of ``depth`` weighted layers: ``resnet`` without its shortcuts.

    Args:
        depth: 18 or 34.
        num_classes: as ``resnet``.
        input_px: as ``resnet``.

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``depth`` or ``input_px`` is not one of these.

    Paper: He, Zhang, Ren, Sun, arXiv 1512.03385, Table 1, sections 3.3 and 4.1.
    Departures: choices where the paper is silent, see ``ENTRIES``.
    """
    return _basic(_name("plain", depth, BASIC_DEPTHS), depth, num_classes, plain_block, input_px)


def _name(
    family: str,
    depth: int,
    depths: tuple[int, ...],
    *,
    version: str = "",
    shortcut: ShortcutOption = "B",
) -> str:
    """Return the network's name, after a check of what decides it."""
    if depth not in depths:
        *others, last = depths
        listed = f"{', '.join(map(str, others))} or {last}"
        raise UsageError(
            f"{family}{version} expects a depth of {listed}, got {depth!r}: see the paper's Table 1"
        )
    if shortcut not in ("A", "B", "C"):
        raise UsageError(
            f"{family}{depth}{version} expects shortcut to be A, B or C, got {shortcut!r}:"
            " use B, that of the paper's best networks"
        )
    return f"{family}{depth}{version}{_SUFFIXES[shortcut]}"


def _basic(name: str, depth: int, num_classes: int, block: Callable[..., nn.Module], input_px: int) -> Chain:
    """Stack blocks of two layers."""
    blocks: dict[str, nn.Module] = {}
    for (stage, in_channels, out_channels, stride), num_blocks in zip(
        ((2, 64, 64, 1), (3, 64, 128, 2), (4, 128, 256, 2), (5, 256, 512, 2)), NUM_BLOCKS[depth], strict=True
    ):
        blocks[f"conv{stage}_1"] = block(in_channels, out_channels, stride=stride)
        for index in range(2, num_blocks + 1):
            blocks[f"conv{stage}_{index}"] = block(out_channels, out_channels, stride=1)
    return _whole(name, blocks, 512, num_classes, input_px)


def _bottleneck(
    name: str,
    depth: int,
    num_classes: int,
    shortcut: ShortcutOption,
    strided: Literal["1x1", "3x3"],
    input_px: int,
) -> Chain:
    """Stack blocks of three layers, with the stride in the convolution ``strided``."""
    blocks: dict[str, nn.Module] = {}
    for (stage, in_channels, mid_channels, out_channels, stride), num_blocks in zip(
        ((2, 64, 64, 256, 1), (3, 256, 128, 512, 2), (4, 512, 256, 1024, 2), (5, 1024, 512, 2048, 2)),
        NUM_BLOCKS[depth],
        strict=True,
    ):
        blocks[f"conv{stage}_1"] = Bottleneck(
            in_channels,
            mid_channels,
            out_channels,
            stride_1x1=stride if strided == "1x1" else 1,
            stride_3x3=stride if strided == "3x3" else 1,
            shortcut=shortcut,
        )
        for index in range(2, num_blocks + 1):
            blocks[f"conv{stage}_{index}"] = Bottleneck(
                out_channels, mid_channels, out_channels, stride_1x1=1, stride_3x3=1, shortcut=shortcut
            )
    return _whole(name, blocks, 2048, num_classes, input_px)


def _whole(
    name: str, blocks: Mapping[str, nn.Module], last_channels: int, num_classes: int, input_px: int
) -> Chain:
    """Put the first layers before the blocks and the last ones after them, and draw the weights."""
    if not isinstance(input_px, int) or input_px < 32 or input_px % 32:
        raise UsageError(
            f"{name} expects input_px to be a positive multiple of 32, got {input_px!r}: use 224, the paper's"
        )
    net = Chain(
        name,
        (3, input_px, input_px),
        {
            "conv1": nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False),
            "bn1": nn.BatchNorm2d(64),
            "relu1": nn.ReLU(),
            "pool1": nn.MaxPool2d(3, stride=2, padding=1),
            **blocks,
            "avgpool": nn.AvgPool2d(input_px // 32),
            "flatten": nn.Flatten(),
            "fc": nn.Linear(last_channels, num_classes),
        },
    )
    start_residual(net)
    return net


_PLACE = "on ILSVRC-2012 (validation, ten crops of 224 px)"
_SCALES = "fully convolutional at five scales"
_CENTRE = "with one central crop, by the authors' model files"
_ELSEWHERE = "not published: it is not the paper's; fb.resnet.torch reports"
_ONE_CROP = "(validation, one central crop, its own recipe)"
_PUBLISHED_ERRORS = {
    "resnet18": "not published: the paper's ResNet-18 has option A, see resnet18_a",
    "resnet34": f"24.52 % top-1, 7.46 % top-5 {_PLACE}; 21.84/5.71 {_SCALES}",
    "resnet50": f"22.85 % top-1, 6.71 % top-5 {_PLACE}; 20.74/5.25 {_SCALES}; 24.7/7.8 {_CENTRE}",
    "resnet101": f"21.75 % top-1, 6.05 % top-5 {_PLACE}; 19.87/4.60 {_SCALES}; 23.6/7.1 {_CENTRE}",
    "resnet152": f"21.43 % top-1, 5.71 % top-5 {_PLACE}; 19.38/4.49 {_SCALES}; 23.0/6.7 {_CENTRE}",
    "resnet50_v1_5": f"{_ELSEWHERE} 24.01 % top-1, 7.02 % top-5 {_ONE_CROP}",
    "resnet101_v1_5": f"{_ELSEWHERE} 22.44 % top-1, 6.21 % top-5 {_ONE_CROP}",
    "resnet152_v1_5": f"{_ELSEWHERE} 22.16 % top-1, 6.16 % top-5 {_ONE_CROP}",
    "plain18": f"27.94 % top-1 {_PLACE}",
    "plain34": f"28.54 % top-1, 10.02 % top-5 {_PLACE}",
    "resnet18_a": f"27.88 % top-1 {_PLACE}",
    "resnet34_a": f"25.03 % top-1, 7.76 % top-5 {_PLACE}",
    "resnet50_a": "not published: the paper uses option A with 18 and 34 layers only",
    "resnet18_c": "not published: the paper uses option C with 34 layers only",
    "resnet34_c": f"24.19 % top-1, 7.40 % top-5 {_PLACE}; 21.53/5.60 {_SCALES}",
    "resnet50_c": "not published: the paper uses option C with 34 layers only",
    "resnet101_c": "not published: the paper uses option C with 34 layers only",
    "resnet152_c": "not published: the paper uses option C with 34 layers only",
}

_CHOICES = (
    "pool1 pads 1 pixel and rounds down, as fb.resnet.torch does; the authors' model files pad none and round"
    " up, which gives 56 px too, with the windows shifted by one pixel; the paper gives no padding.",
    "No convolution has a bias, since batch normalisation follows with a shift of its own; the authors' model"
    " file of ResNet-50 has one in conv1 (64 parameters more).",
    "Convolutions start from He's normal distribution scaled by fan-out, and the fully connected layer from"
    " PyTorch's uniform distribution with zero bias: the paper cites He et al. 2015 and gives no detail.",
    "Batch normalisation uses eps 1e-5 and, at test time, moving averages of momentum 0.1: the paper gives no"
    " values, and the authors' model files hold statistics computed over a large batch after training.",
    "Image sizes other than 224 px are allowed with input_px, a multiple of 32; avgpool then changes its"
    " window.",
)
_STRIDE_1X1 = (
    "A bottleneck that halves the side has its stride in the first 1x1 convolution, as in the authors' model"
    " files: the paper names the blocks, conv3_1, conv4_1 and conv5_1, but not the layer."
)
_STRIDE_3X3 = (
    "A bottleneck that halves the side has its stride in the 3x3 convolution, as in fb.resnet.torch and in"
    " public weights; the authors' model files have it in the first 1x1 convolution."
)
_ZEROS = (
    "The zero channels of an option A shortcut follow the copied ones, as in fb.resnet.torch: the paper does"
    " not say where they go."
)
_OPTIONS = {
    (
        "B",
        18,
    ): "The paper trains 18 layers with option A; option B at this depth is the form of public weights.",
    ("A", 50): "The paper uses option A with 18 and 34 layers only.",
    **{("C", depth): "The paper uses option C with 34 layers only." for depth in (18, 50, 101, 152)},
}


def _entry(name: str, title: str, build: Callable[..., nn.Module], departures: tuple[str, ...]) -> NetEntry:
    return NetEntry(
        name=name,
        title=title,
        year=2015,
        paper=(
            "He, Zhang, Ren, Sun: Deep residual learning for image recognition. arXiv 1512.03385, CVPR 2016"
        ),
        input_shape=(3, 224, 224),
        num_classes=1000,
        build=build,
        recipe="resnet",
        published_error=_PUBLISHED_ERRORS[name],
        departures=departures,
        page="docs/nets/resnet.md",
    )


def _resnet_entry(depth: int, shortcut: ShortcutOption) -> NetEntry:
    departures = [_OPTIONS[shortcut, depth]] if (shortcut, depth) in _OPTIONS else []
    if depth in BOTTLENECK_DEPTHS:
        departures.append(_STRIDE_1X1)
    if shortcut == "A":
        departures.append(_ZEROS)
    return _entry(
        f"resnet{depth}{_SUFFIXES[shortcut]}",
        f"ResNet-{depth}" if shortcut == "B" else f"ResNet-{depth}, option {shortcut}",
        partial(resnet, depth, shortcut=shortcut),
        (*departures, *_CHOICES),
    )


def _v1_5_entry(depth: int) -> NetEntry:
    return _entry(
        f"resnet{depth}_v1_5",
        f"ResNet-{depth}, v1.5",
        partial(resnet_v1_5, depth),
        (_STRIDE_3X3, *_CHOICES),
    )


def _plain_entry(depth: int) -> NetEntry:
    return _entry(f"plain{depth}", f"Plain-{depth}", partial(plain, depth), _CHOICES)


ENTRIES = (
    *(_resnet_entry(depth, "B") for depth in NUM_BLOCKS),
    *(_v1_5_entry(depth) for depth in BOTTLENECK_DEPTHS),
    *(_plain_entry(depth) for depth in BASIC_DEPTHS),
    *(_resnet_entry(depth, "A") for depth in (18, 34, 50)),
    *(_resnet_entry(depth, "C") for depth in NUM_BLOCKS),
)
