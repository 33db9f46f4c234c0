"""What the papers print about each network, transcribed by hand: volumes, parameters, multiply-accumulates.

One ``Published`` per network of ``NETS``. ``rows`` names every layer that has parameters and every layer that
changes the volume; nothing here is computed by the code under test.
"""

from dataclasses import dataclass

Volume = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One layer: its name, its output (channels, height, width; or features), its trainable parameters."""

    name: str
    volume: Volume
    parameters: int = 0


@dataclass(frozen=True, slots=True)
class Published:
    """A network's table, its totals, and how far off the printed number of MACs may be by rounding."""

    rows: tuple[Row, ...]
    parameters: int
    macs: float
    macs_rounding: float = 0


# LeCun, Bottou, Bengio, Haffner 1998, section II.B. The paper counts connections, a bias per unit too:
# MACs = connections - units: C1 122,304 - 4,704; C3 151,600 - 1,600; C5 48,120 - 120; F6 10,164 - 84.
_LENET5_1998 = (
    Row("C1", (6, 28, 28), 156),
    Row("S2", (6, 14, 14), 12),
    Row("C3", (16, 10, 10), 1_516),
    Row("S4", (16, 5, 5), 32),
    Row("C5", (120, 1, 1), 48_120),
    Row("F6", (84,), 10_164),
)
_LENET5_1998_MACS = 117_600 + 150_000 + 48_000 + 10_080

_LENET5 = Published((*_LENET5_1998, Row("output", (10,), 850)), 60_850, _LENET5_1998_MACS + 840)
_LENET5_RBF = Published((*_LENET5_1998, Row("output", (10,), 0)), 60_000, _LENET5_1998_MACS)

# As lectured: 156 + 2,416 + 48,120 + 10,164 + 850. A full C3 has 96 links of 25 weights on 100 positions.
_LENET5_MODERN = Published(
    (
        Row("C1", (6, 28, 28), 156),
        Row("S2", (6, 14, 14)),
        Row("C3", (16, 10, 10), 2_416),
        Row("S4", (16, 5, 5)),
        Row("C5", (120, 1, 1), 48_120),
        Row("F6", (84,), 10_164),
        Row("output", (10,), 850),
    ),
    61_706,
    117_600 + 240_000 + 48_000 + 10_080 + 840,
)

# Simonyan and Zisserman, arXiv 1409.1556v6, Table 1 column D. Weights as the lectures list them, plus a bias
# per output channel; 15.470 GMAC.
_VGG16 = Published(
    (
        Row("conv1_1", (64, 224, 224), 1_728 + 64),
        Row("conv1_2", (64, 224, 224), 36_864 + 64),
        Row("pool1", (64, 112, 112)),
        Row("conv2_1", (128, 112, 112), 73_728 + 128),
        Row("conv2_2", (128, 112, 112), 147_456 + 128),
        Row("pool2", (128, 56, 56)),
        Row("conv3_1", (256, 56, 56), 294_912 + 256),
        Row("conv3_2", (256, 56, 56), 589_824 + 256),
        Row("conv3_3", (256, 56, 56), 589_824 + 256),
        Row("pool3", (256, 28, 28)),
        Row("conv4_1", (512, 28, 28), 1_179_648 + 512),
        Row("conv4_2", (512, 28, 28), 2_359_296 + 512),
        Row("conv4_3", (512, 28, 28), 2_359_296 + 512),
        Row("pool4", (512, 14, 14)),
        Row("conv5_1", (512, 14, 14), 2_359_296 + 512),
        Row("conv5_2", (512, 14, 14), 2_359_296 + 512),
        Row("conv5_3", (512, 14, 14), 2_359_296 + 512),
        Row("pool5", (512, 7, 7)),
        Row("fc6", (4096,), 102_760_448 + 4096),
        Row("fc7", (4096,), 16_777_216 + 4096),
        Row("fc8", (1000,), 4_096_000 + 1000),
    ),
    138_357_544,
    15.470e9,
    0.0005e9,
)


def _cifar(num_blocks: int, parameters: int, macs_millions: float) -> Published:
    """The table of section 4.2 of arXiv 1512.03385: three stages of ``num_blocks`` pairs of 3x3 convolutions.

    By hand, weights plus scale and shift of batch normalisation: 16 -> 16: 2 (2,304 + 32); 16 -> 32: 4,608 +
    64 + 9,216 + 64; 32 -> 32: 2 (9,216 + 64); 32 -> 64: 18,432 + 128 + 36,864 + 128; 64 -> 64:
    2 (36,864 + 128).
    """
    rows = [Row("conv1", (16, 32, 32), 432), Row("bn1", (16, 32, 32), 32)]
    for stage, volume, first, other in (
        (2, (16, 32, 32), 4_672, 4_672),
        (3, (32, 16, 16), 13_952, 18_560),
        (4, (64, 8, 8), 55_552, 73_984),
    ):
        rows.append(Row(f"conv{stage}_1", volume, first))
        rows += [Row(f"conv{stage}_{block}", volume, other) for block in range(2, num_blocks + 1)]
    rows += [Row("avgpool", (64, 1, 1)), Row("fc", (10,), 650)]
    return Published(tuple(rows), parameters, macs_millions * 1e6, 0.005e6)


_CIFAR = {
    20: _cifar(3, 269_722, 40.55),
    32: _cifar(5, 464_154, 68.86),
    44: _cifar(7, 658_586, 97.17),
    56: _cifar(9, 853_018, 125.49),
    110: _cifar(18, 1_727_962, 252.89),
}

TABLES: dict[str, Published] = {
    "lenet5": _LENET5,
    "lenet5_rbf": _LENET5_RBF,
    "lenet5_modern": _LENET5_MODERN,
    "vgg16": _VGG16,
    **{f"resnet{depth}": table for depth, table in _CIFAR.items()},
    **{f"plain{depth}": table for depth, table in _CIFAR.items()},
}
