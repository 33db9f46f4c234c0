"""VGG: "Very deep convolutional networks for large-scale image recognition", configurations A to E.

Layer names follow the published model files: conv1_1 to conv5_4, relu1_1 to relu5_4, pool1 to pool5, fc6,
fc7, fc8. ``norm1`` is the local response normalisation of A-LRN; ``bn1_1`` and so on are in the networks with
batch normalisation, between a convolution and its ReLU.
"""

from functools import partial

from torch import nn

from striate.core.arithmetic import output_size
from striate.core.errors import InputSizeError, UsageError
from striate.nets.entry import NetEntry
from striate.nets.modules import Chain, LocalResponseNorm

WIDTHS = (64, 128, 256, 512, 512)
"""Output channels of every convolution of blocks 1 to 5, in all columns of Table 1."""

COLUMNS = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
"""Table 1: the sides in pixels of the kernels of blocks 1 to 5. A-LRN is A with norm1."""

NAMES = {"A": "vgg11", "B": "vgg13", "C": "vgg_c", "D": "vgg16", "E": "vgg19"}


def vgg(column: str, num_classes: int = 1000, *, input_px: int = 224, dropout: float = 0.5) -> Chain:
    """Build one configuration: 8 to 16 convolutions in five blocks, and three fully connected layers.

    Args:
        column: of Table 1, "A", "B", "C", "D" or "E".
        num_classes: number of output units.
        input_px: side of the square images in pixels, a positive multiple of 32; the paper's is 224. ``fc6``
            reads ``512 (input_px/32)^2`` values, so weights of one size do not fit another.
        dropout: fraction of fc6 and fc7 outputs zeroed in training, in [0, 1).

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``column``, ``input_px`` or ``dropout`` is out of range.

    Paper: Simonyan and Zisserman, arXiv 1409.1556v6, section 2.1 and Table 1.
    Departures: He's initialisation in place of pre-trained configuration A, and other image sizes than 224.
    """
    name = _name_of(column)
    return _assemble(
        name, _blocks(column), input_px, _halved_five_times(name, input_px), num_classes, dropout
    )


def vgg_bn(column: str, num_classes: int = 1000, *, input_px: int = 224, dropout: float = 0.5) -> Chain:
    """Build one configuration with batch normalisation between every convolution and its ReLU.

    Args:
        column: as ``vgg``.
        num_classes: as ``vgg``.
        input_px: as ``vgg``.
        dropout: as ``vgg``.

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: as ``vgg``.

    Paper: Simonyan and Zisserman, Table 1; Ioffe and Szegedy, arXiv 1502.03167, section 3.2.
    Departures: the VGG paper has no batch normalisation. Convolutions keep their bias, which the
        normalisation makes redundant, so that torchvision's weights fit.
    """
    name = f"{_name_of(column)}_bn"
    layers = _blocks(column, batch_norm=True)
    return _assemble(name, layers, input_px, _halved_five_times(name, input_px), num_classes, dropout)


def vgg_a_lrn(num_classes: int = 1000, *, input_px: int = 224, dropout: float = 0.5) -> Chain:
    """Build configuration A-LRN: A with local response normalisation after the first convolution.

    Args:
        num_classes: as ``vgg``.
        input_px: as ``vgg``.
        dropout: as ``vgg``.

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``input_px`` or ``dropout`` is out of range.

    Paper: Simonyan and Zisserman, arXiv 1409.1556v6, section 2.1 and Table 1, column A-LRN.
    Departures: as ``vgg``. The constants are those of AlexNet's formula, see ``ENTRIES``.
    """
    pool5_px = _halved_five_times("vgg_a_lrn", input_px)
    layers = _blocks("A", lrn=True)
    return _assemble("vgg_a_lrn", layers, input_px, pool5_px, num_classes, dropout)


def vgg16_nopad(num_classes: int = 1000, *, input_px: int = 224, dropout: float = 0.5) -> Chain:
    """Build configuration D without padding, so that no layer can feel where the border is.

    Args:
        num_classes: as ``vgg``.
        input_px: side of the square images in pixels, at least 212; from 212 to 243 pool5 is one pixel.
        dropout: as ``vgg``.

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``input_px`` or ``dropout`` is out of range.

    Paper: Islam, Jia, Bruce, arXiv 2001.08248, Table 4, "VGG16 without padding".
    Departures: choices where the paper is silent, see ``ENTRIES``.
    """
    side = input_px
    try:
        for kernels in COLUMNS["D"]:
            for kernel_px in kernels:
                side = output_size(side, kernel_px).size
            side = output_size(side, 2, stride=2).size
    except InputSizeError:
        raise UsageError(
            f"vgg16_nopad expects input_px to be at least 212, got {input_px}: use 224, the paper's"
        ) from None
    layers = _blocks("D", padded=False)
    return _assemble("vgg16_nopad", layers, input_px, side, num_classes, dropout)


def _name_of(column: str) -> str:
    if column not in COLUMNS:
        raise UsageError(f"expected a column of VGG's Table 1, got {column!r}: use {', '.join(COLUMNS)}")
    return NAMES[column]


def _halved_five_times(name: str, input_px: int) -> int:
    """Return the side of pool5 where every convolution is padded."""
    if input_px < 32 or input_px % 32:
        raise UsageError(
            f"{name} expects input_px to be a positive multiple of 32, got {input_px}: use 224, the paper's"
        )
    return input_px // 32


def _blocks(
    column: str, *, padded: bool = True, batch_norm: bool = False, lrn: bool = False
) -> dict[str, nn.Module]:
    """Name and build the layers of one column of Table 1, from conv1_1 to pool5."""
    layers: dict[str, nn.Module] = {}
    in_channels = 3
    for block, (out_channels, kernels) in enumerate(zip(WIDTHS, COLUMNS[column], strict=True), start=1):
        for index, kernel_px in enumerate(kernels, start=1):
            layer = f"{block}_{index}"
            padding = kernel_px // 2 if padded else 0
            layers[f"conv{layer}"] = nn.Conv2d(in_channels, out_channels, kernel_px, padding=padding)
            if batch_norm:
                layers[f"bn{layer}"] = nn.BatchNorm2d(out_channels)
            layers[f"relu{layer}"] = nn.ReLU()
            if lrn and layer == "1_1":
                layers["norm1"] = LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=2)
            in_channels = out_channels
        layers[f"pool{block}"] = nn.MaxPool2d(2, stride=2)
    return layers


def _assemble(
    name: str, blocks: dict[str, nn.Module], input_px: int, pool5_px: int, num_classes: int, dropout: float
) -> Chain:
    """Put the fully connected layers behind the blocks and draw the weights."""
    if not 0 <= dropout < 1:
        raise UsageError(f"{name} expects dropout in [0, 1), got {dropout}: use 0.5, the paper's")
    layers = {
        **blocks,
        "flatten": nn.Flatten(),
        "fc6": nn.Linear(512 * pool5_px**2, 4096),
        "relu6": nn.ReLU(),
        "drop6": nn.Dropout(dropout),
        "fc7": nn.Linear(4096, 4096),
        "relu7": nn.ReLU(),
        "drop7": nn.Dropout(dropout),
        "fc8": nn.Linear(4096, num_classes),
    }
    net = Chain(name, (3, input_px, input_px), layers)
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return net


_PAPER = (
    "Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition."
    " arXiv 1409.1556, ICLR 2015"
)
_BN_PAPER = f"{_PAPER}; with Ioffe, Szegedy: Batch normalization. arXiv 1502.03167, ICML 2015"
_NOPAD_PAPER = (
    "Islam, Jia, Bruce: How much position information do convolutional neural networks encode?"
    " arXiv 2001.08248, ICLR 2020"
)
_PROTOCOL = "on ILSVRC-2012 (validation; trained at S=256, dense at Q=256)"
_BEST = "at best (scale jitter, three scales, dense and 50 crops a scale)"
_NO_BN = "not published: the paper is older than batch normalisation"

_INITIALISATION = (
    "Weights start from He's normal distribution (fan-in) and biases from zero; the paper draws"
    " configuration A from a normal distribution of variance 0.01, starts the deeper ones from a trained A,"
    " and found later that Glorot and Bengio's distribution suffices."
)
_SIZES = (
    "Image sizes other than 224 px are allowed with input_px, a multiple of 32; fc6 then changes its size."
)
_LRN = (
    "norm1 follows relu1_1 and takes AlexNet's constants as they stand in its formula (5 maps, alpha 1e-4"
    " times the sum, beta 0.75, k 2), as the paper gives none of its own; AlexNet's code divides alpha by 5."
)
_BATCH_NORM = (
    "Batch normalisation (eps 1e-5, moving averages of momentum 0.1) stands between every convolution and its"
    " ReLU, and the convolutions keep their bias, as in torchvision; the paper has none of it."
)
_UNPADDED = "No convolution is padded; the VGG paper pads each 3x3 convolution by 1 px."
_UNPADDED_ENDS = (
    "Pools drop an odd last row and column (47 to 23 px at pool3, 17 to 8 px at pool4), fc6 reads the 512"
    " values that are left of a 224 px image, and fc7 and fc8 stay: Islam et al. say none of this."
)
_UNPADDED_SIZES = "Image sizes from 212 px are allowed with input_px; from 244 px fc6 changes its size."


def _entry(column: str, *, title: str, published_error: str, aliases: tuple[str, ...] = ()) -> NetEntry:
    return NetEntry(
        name=NAMES[column],
        title=title,
        year=2014,
        paper=_PAPER,
        input_shape=(3, 224, 224),
        num_classes=1000,
        build=partial(vgg, column),
        recipe="vgg16",
        published_error=published_error,
        departures=(_INITIALISATION, _SIZES),
        page="docs/nets/vgg.md",
        aliases=aliases,
    )


def _bn_entry(column: str, *, title: str, published_error: str) -> NetEntry:
    return NetEntry(
        name=f"{NAMES[column]}_bn",
        title=title,
        year=2015,
        paper=_BN_PAPER,
        input_shape=(3, 224, 224),
        num_classes=1000,
        build=partial(vgg_bn, column),
        recipe="vgg16",
        published_error=published_error,
        departures=(_BATCH_NORM, _INITIALISATION, _SIZES),
        page="docs/nets/vgg.md",
    )


def _of_torchvision(top1: str, top5: str) -> str:
    return (
        f"{_NO_BN}; torchvision's weights reach {top1} % top-1, {top5} % top-5 on ILSVRC-2012 (validation;"
        " one centre crop of 224 px)"
    )


ENTRIES = (
    _entry(
        "A",
        title="VGG-11 (configuration A)",
        published_error=f"29.6 % top-1, 10.4 % top-5 {_PROTOCOL}",
        aliases=("vgg_a",),
    ),
    NetEntry(
        name="vgg_a_lrn",
        title="VGG-11 with local response normalisation (configuration A-LRN)",
        year=2014,
        paper=_PAPER,
        input_shape=(3, 224, 224),
        num_classes=1000,
        build=vgg_a_lrn,
        recipe="vgg16",
        published_error=f"29.7 % top-1, 10.5 % top-5 {_PROTOCOL}",
        departures=(_LRN, _INITIALISATION, _SIZES),
        page="docs/nets/vgg.md",
    ),
    _entry(
        "B",
        title="VGG-13 (configuration B)",
        published_error=f"28.7 % top-1, 9.9 % top-5 {_PROTOCOL}; 28.2/9.6 % at best (Q of 224, 256 and 288)",
        aliases=("vgg_b",),
    ),
    _entry(
        "C",
        title="VGG of 16 layers, three of them 1x1 (configuration C)",
        published_error=(
            f"28.1 % top-1, 9.4 % top-5 {_PROTOCOL}; 26.3/8.2 % at best (scale jitter, three scales, dense)"
        ),
    ),
    _entry(
        "D",
        title="VGG-16 (configuration D)",
        published_error=f"27.0 % top-1, 8.8 % top-5 {_PROTOCOL}; 24.4/7.2 % {_BEST}",
        aliases=("vgg_d",),
    ),
    _entry(
        "E",
        title="VGG-19 (configuration E)",
        published_error=f"27.3 % top-1, 9.0 % top-5 {_PROTOCOL}; 24.4/7.1 % {_BEST}",
        aliases=("vgg_e",),
    ),
    _bn_entry(
        "A", title="VGG-11 with batch normalisation", published_error=_of_torchvision("29.63", "10.19")
    ),
    _bn_entry("B", title="VGG-13 with batch normalisation", published_error=_of_torchvision("28.41", "9.63")),
    _bn_entry(
        "C",
        title="VGG configuration C with batch normalisation",
        published_error=f"{_NO_BN}, and torchvision has no configuration C",
    ),
    _bn_entry("D", title="VGG-16 with batch normalisation", published_error=_of_torchvision("26.64", "8.48")),
    _bn_entry("E", title="VGG-19 with batch normalisation", published_error=_of_torchvision("25.78", "8.16")),
    NetEntry(
        name="vgg16_nopad",
        title="VGG-16 without padding",
        year=2020,
        paper=_NOPAD_PAPER,
        input_shape=(3, 224, 224),
        num_classes=1000,
        build=vgg16_nopad,
        recipe="vgg16",
        published_error=(
            "not published: Islam et al. measure what it knows of position, not how well it classifies"
        ),
        departures=(_UNPADDED, _UNPADDED_ENDS, _INITIALISATION, _UNPADDED_SIZES),
        page="docs/nets/vgg.md",
    ),
)
