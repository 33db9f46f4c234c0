"""The ImageNet networks of He, Zhang, Ren, Sun, arXiv 1512.03385, Table 1.

Parameters by hand: weights, plus scale and shift of batch normalisation, 2 for each channel.

Blocks of two 3x3 convolutions, where the shape stays: 64: 2 (36,864 + 128); 128: 2 (147,456 + 256); 256:
2 (589,824 + 512); 512: 2 (2,359,296 + 1,024). Where it changes: 64 -> 128: 73,728 + 256 + 147,456 + 256;
128 -> 256: 294,912 + 512 + 589,824 + 512; 256 -> 512: 1,179,648 + 1,024 + 2,359,296 + 1,024.
Their projections: 8,192 + 256; 32,768 + 512; 131,072 + 1,024. Option C where the shape stays: 4,096 + 128;
16,384 + 256; 65,536 + 512; 262,144 + 1,024.

Bottlenecks, where the shape stays: 256, 64, 256: 16,384 + 128 + 36,864 + 128 + 16,384 + 512; 512, 128, 512:
65,536 + 256 + 147,456 + 256 + 65,536 + 1,024; 1024, 256, 1024: 262,144 + 512 + 589,824 + 512 + 262,144 +
2,048; 2048, 512, 2048: 1,048,576 + 1,024 + 2,359,296 + 1,024 + 1,048,576 + 4,096. Where it changes: 64, 64,
256: 4,096 + 128 + 36,864 + 128 + 16,384 + 512; 256, 128, 512: 32,768 + 256 + 147,456 + 256 + 65,536 + 1,024;
512, 256, 1024: 131,072 + 512 + 589,824 + 512 + 262,144 + 2,048; 1024, 512, 2048: 524,288 + 1,024 + 2,359,296
+ 1,024 + 1,048,576 + 4,096. Their projections: 16,384 + 512; 131,072 + 1,024; 524,288 + 2,048; 2,097,152 +
4,096. Option C where the shape stays: 65,536 + 512; 262,144 + 1,024; 1,048,576 + 2,048; 4,194,304 + 4,096.

MACs by hand. conv1: 9,408 x 112^2 = 118,013,952. fc: 512,000 or 2,048,000. Every block whose shape stays
costs the same in every stage: 2 x 36,864 x 56^2 = 231,211,008, or as a bottleneck 69,632 x 56^2 =
218,365,952; its option C shortcut 4,096 x 56^2 = 12,845,056, or 65,536 x 56^2 = 205,520,896. A block that
halves: (73,728 + 147,456) x 28^2 = 173,408,256 and its projection 8,192 x 28^2 = 6,422,528. A bottleneck that
halves: stride in the 1x1: 245,760 x 28^2 = 192,675,840; in the 3x3: 32,768 x 56^2 + 212,992 x 28^2 =
269,746,176; its projection 131,072 x 28^2 = 102,760,448. conv2_1 of the bottleneck networks: 57,344 x 56^2 =
179,830,784, its projection 16,384 x 56^2 = 51,380,224.
"""

from tables.record import Published, Row

# Four classes, because among a thousand scores some are near zero, where rounding is all that is compared.
_QUICK = {"input_px": 32, "num_classes": 4}

# By stage: the block that changes the shape (in conv2_x of the 18 and 34 layers, none does), its projection;
# a block that keeps it, its option C shortcut.
_BASIC = (
    ((64, 56, 56), 73_984, 0, 73_984, 4_224),
    ((128, 28, 28), 221_696, 8_448, 295_424, 16_640),
    ((256, 14, 14), 885_760, 33_280, 1_180_672, 66_048),
    ((512, 7, 7), 3_540_992, 132_096, 4_720_640, 263_168),
)
_BOTTLENECK = (
    ((256, 56, 56), 58_112, 16_896, 70_400, 66_048),
    ((512, 28, 28), 247_296, 132_096, 280_064, 263_168),
    ((1024, 14, 14), 986_112, 526_336, 1_117_184, 1_050_624),
    ((2048, 7, 7), 3_938_304, 2_101_248, 4_462_592, 4_198_400),
)


def _rows(option, depth):
    """The rows of one depth: the option's letter, or ``plain``."""
    num_blocks = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
    num_blocks[34] = num_blocks[50]
    rows = [Row("conv1", (64, 112, 112), 9_408), Row("bn1", (64, 112, 112), 128), Row("pool1", (64, 56, 56))]
    stages = _BASIC if depth < 50 else _BOTTLENECK
    for number, (stage, count) in enumerate(zip(stages, num_blocks[depth], strict=True), start=2):
        volume, changes, projection, stays, stays_projection = stage
        first = changes + (projection if option in "BC" else 0)
        other = stays + (stays_projection if option == "C" else 0)
        if changes == stays:
            first = other
        rows.append(Row(f"conv{number}_1", volume, first))
        rows += [Row(f"conv{number}_{index}", volume, other) for index in range(2, count + 1)]
    features = 512 if depth < 50 else 2048
    rows.append(Row("avgpool", (features, 1, 1)))
    rows.append(Row("fc", (1000,), 513_000 if depth < 50 else 2_049_000))
    return tuple(rows)


_CONV1 = 118_013_952
_FC_18_34 = 512_000
_FC_50_UP = 2_048_000
# Blocks whose shape stays: 5 of 18 layers' 8, 13 of 34 layers' 16, 12 of 50 layers' 16, 29 of 33, 46 of 50.
_PLAIN18 = _CONV1 + 5 * 231_211_008 + 3 * 173_408_256 + _FC_18_34
_PLAIN34 = _CONV1 + 13 * 231_211_008 + 3 * 173_408_256 + _FC_18_34
_RESNET18 = _PLAIN18 + 3 * 6_422_528
_RESNET34 = _PLAIN34 + 3 * 6_422_528
_RESNET50_A = _CONV1 + 179_830_784 + 12 * 218_365_952 + 3 * 192_675_840 + _FC_50_UP
_RESNET50 = 3_857_973_248  # = the line above + 51,380,224 + 3 x 102,760,448
_RESNET101 = _RESNET50 + 17 * 218_365_952
_RESNET152 = _RESNET50 + 34 * 218_365_952
_IN_THE_3X3 = 3 * (269_746_176 - 192_675_840)

TABLES = {
    "resnet18": Published(_rows("B", 18), 11_689_512, _RESNET18, small=_QUICK),
    "resnet34": Published(_rows("B", 34), 21_797_672, _RESNET34, small=None),
    "resnet50": Published(_rows("B", 50), 25_557_032, _RESNET50, small=_QUICK),
    "resnet101": Published(_rows("B", 101), 44_549_160, _RESNET101, small=None),
    "resnet152": Published(_rows("B", 152), 60_192_808, _RESNET152, small=None),
    "resnet50_v1_5": Published(_rows("B", 50), 25_557_032, 4_089_184_256, small=_QUICK),
    "resnet101_v1_5": Published(_rows("B", 101), 44_549_160, _RESNET101 + _IN_THE_3X3, small=None),
    "resnet152_v1_5": Published(_rows("B", 152), 60_192_808, _RESNET152 + _IN_THE_3X3, small=None),
    "plain18": Published(_rows("plain", 18), 11_515_688, _PLAIN18, small=_QUICK),
    "plain34": Published(_rows("plain", 34), 21_623_848, _PLAIN34, small=None),
    "resnet18_a": Published(_rows("A", 18), 11_515_688, _PLAIN18, small=_QUICK),
    "resnet34_a": Published(_rows("A", 34), 21_623_848, _PLAIN34, small=None),
    "resnet50_a": Published(_rows("A", 50), 22_780_456, _RESNET50_A, small=None),
    "resnet18_c": Published(_rows("C", 18), 12_043_816, _RESNET18 + 5 * 12_845_056, small=_QUICK),
    "resnet34_c": Published(_rows("C", 34), 22_716_840, _RESNET34 + 13 * 12_845_056, small=None),
    "resnet50_c": Published(_rows("C", 50), 40_128_552, _RESNET50 + 12 * 205_520_896, small=None),
    "resnet101_c": Published(_rows("C", 101), 76_981_288, _RESNET101 + 29 * 205_520_896, small=None),
    "resnet152_c": Published(_rows("C", 152), 107_335_720, _RESNET152 + 46 * 205_520_896, small=None),
}
