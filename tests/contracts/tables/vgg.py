"""VGG: Simonyan and Zisserman, arXiv 1409.1556v6, Table 1; and its descendants."""

from tables.record import Published, Row

# Side of the maps and channels in blocks 1 to 5 of a 224 px image; a pool ends each block.
_SIDES = (224, 112, 56, 28, 14)
_WIDTHS = (64, 128, 256, 512, 512)
# Weights as the lectures list them, plus a bias per output channel: the first 3x3 convolution of a block, the
# further ones, and configuration C's 1x1.
_FIRST = (1_728 + 64, 73_728 + 128, 294_912 + 256, 1_179_648 + 512, 2_359_296 + 512)
_FURTHER = (36_864 + 64, 147_456 + 128, 589_824 + 256, 2_359_296 + 512, 2_359_296 + 512)
_ONE_BY_ONE = (0, 0, 65_536 + 256, 262_144 + 512, 262_144 + 512)

_FULLY_CONNECTED = (
    Row("fc6", (4096,), 102_760_448 + 4096),
    Row("fc7", (4096,), 16_777_216 + 4096),
    Row("fc8", (1000,), 4_096_000 + 1000),
)


def _vgg(
    columns: tuple[str, ...], parameters: int, gmacs: float, *, bn: bool = False, lrn: bool = False
) -> Published:
    """Write out a column of Table 1: for each block its layers, "3" a 3x3 convolution, "1" a 1x1."""
    rows = []
    for block, kernels in enumerate(columns):
        width, side = _WIDTHS[block], _SIDES[block]
        volume = (width, side, side)
        for layer, kernel in enumerate(kernels):
            count = (_FURTHER if layer else _FIRST)[block] if kernel == "3" else _ONE_BY_ONE[block]
            rows.append(Row(f"conv{block + 1}_{layer + 1}", volume, count))
            if bn:  # a scale and a shift for each channel
                rows.append(Row(f"bn{block + 1}_{layer + 1}", volume, width + width))
            if lrn and block == 0:
                rows.append(Row("norm1", volume))
        rows.append(Row(f"pool{block + 1}", (width, side // 2, side // 2)))
    rows += _FULLY_CONNECTED
    return Published(tuple(rows), parameters, gmacs * 1e9, 0.0005e9, small={"input_px": 32})


_A = ("3", "3", "33", "33", "33")
_B = ("33", "33", "33", "33", "33")
_C = ("33", "33", "331", "331", "331")
_D = ("33", "33", "333", "333", "333")
_E = ("33", "33", "3333", "3333", "3333")

# Configuration D without padding, by hand. Sides: 222, 220, halved 110; 108, 106, halved 53; 51, 49, 47,
# halved and rounded down 23; 21, 19, 17, halved and rounded down 8; 6, 4, 2, halved 1. fc6 reads 512 values.
# Parameters: 14,710,464 + 4,224 in the convolutions; 2,101,248 + 16,781,312 + 4,097,000.
# MACs, weights times positions: 1,728 x 222^2 = 85,162,752; 36,864 x 220^2 = 1,784,217,600;
# 73,728 x 108^2 = 859,963,392; 147,456 x 106^2 = 1,656,815,616; 294,912 x 51^2 = 767,066,112;
# 589,824 x 49^2 = 1,416,167,424; 589,824 x 47^2 = 1,302,921,216; 1,179,648 x 21^2 = 520,224,768;
# 2,359,296 x 19^2 = 851,705,856, x 17^2 = 681,836,544, x 6^2 = 84,934,656, x 4^2 = 37,748,736,
# x 2^2 = 9,437,184: 10,058,201,856 in all; 2,097,152 + 16,777,216 + 4,096,000 = 22,970,368.
_VGG16_NOPAD = Published(
    (
        Row("conv1_1", (64, 222, 222), 1_728 + 64),
        Row("conv1_2", (64, 220, 220), 36_864 + 64),
        Row("pool1", (64, 110, 110)),
        Row("conv2_1", (128, 108, 108), 73_728 + 128),
        Row("conv2_2", (128, 106, 106), 147_456 + 128),
        Row("pool2", (128, 53, 53)),
        Row("conv3_1", (256, 51, 51), 294_912 + 256),
        Row("conv3_2", (256, 49, 49), 589_824 + 256),
        Row("conv3_3", (256, 47, 47), 589_824 + 256),
        Row("pool3", (256, 23, 23)),
        Row("conv4_1", (512, 21, 21), 1_179_648 + 512),
        Row("conv4_2", (512, 19, 19), 2_359_296 + 512),
        Row("conv4_3", (512, 17, 17), 2_359_296 + 512),
        Row("pool4", (512, 8, 8)),
        Row("conv5_1", (512, 6, 6), 2_359_296 + 512),
        Row("conv5_2", (512, 4, 4), 2_359_296 + 512),
        Row("conv5_3", (512, 2, 2), 2_359_296 + 512),
        Row("pool5", (512, 1, 1)),
        Row("fc6", (4096,), 2_097_152 + 4096),
        Row("fc7", (4096,), 16_777_216 + 4096),
        Row("fc8", (1000,), 4_096_000 + 1000),
    ),
    37_694_248,
    10_081_172_224,
    small=None,  # no image smaller than 212 px
)

TABLES = {
    "vgg11": _vgg(_A, 132_863_336, 7.609),
    "vgg_a_lrn": _vgg(_A, 132_863_336, 7.609, lrn=True),
    "vgg13": _vgg(_B, 133_047_848, 11.308),
    "vgg_c": _vgg(_C, 133_638_952, 11.771),
    "vgg16": _vgg(_D, 138_357_544, 15.470),
    "vgg19": _vgg(_E, 143_667_240, 19.632),
    # torchvision's counts; for C 2 x 4,224 scales and shifts, as for D.
    "vgg11_bn": _vgg(_A, 132_868_840, 7.609, bn=True),
    "vgg13_bn": _vgg(_B, 133_053_736, 11.308, bn=True),
    "vgg_c_bn": _vgg(_C, 133_638_952 + 8_448, 11.771, bn=True),
    "vgg16_bn": _vgg(_D, 138_365_992, 15.470, bn=True),
    "vgg19_bn": _vgg(_E, 143_678_248, 19.632, bn=True),
    "vgg16_nopad": _VGG16_NOPAD,
}
