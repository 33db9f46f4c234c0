"""ZFNet: Zeiler and Fergus, arXiv 1311.2901, Fig. 3 and Tables 2 and 3."""

from tables.record import Published, Row

_LOWER = (
    Row("pad1", (3, 225, 225)),
    Row("conv1", (96, 110, 110), 14_208),
    Row("pool1", (96, 55, 55)),
    Row("norm1", (96, 55, 55)),
    Row("conv2", (256, 26, 26), 614_656),
    Row("pool2", (256, 13, 13)),
    Row("norm2", (256, 13, 13)),
)
_FC7_AND_FC8 = (Row("fc7", (4096,), 16_781_312), Row("fc8", (1000,), 4_097_000))
# conv1 110 x 110 positions of 7 x 7 x 3 x 96 weights; conv2 26 x 26 of 5 x 5 x 96 x 256.
_LOWER_MACS = 170_755_200 + 415_334_400
_FC7_AND_FC8_MACS = 16_777_216 + 4_096_000

# 1.168 GMAC; conv3 to conv5 by hand on 169 positions.
_ZFNET = Published(
    (
        *_LOWER,
        Row("conv3", (384, 13, 13), 885_120),
        Row("conv4", (384, 13, 13), 1_327_488),
        Row("conv5", (256, 13, 13), 884_992),
        Row("pool5", (256, 6, 6)),
        Row("fc6", (4096,), 37_752_832),
        *_FC7_AND_FC8,
    ),
    62_357_608,
    _LOWER_MACS + 149_520_384 + 224_280_576 + 149_520_384 + 37_748_736 + _FC7_AND_FC8_MACS,
    small={"input_px": 64},
)

# 2.477 GMAC.
_ZFNET_WIDE = Published(
    (
        *_LOWER,
        Row("conv3", (512, 13, 13), 1_180_160),
        Row("conv4", (1024, 13, 13), 4_719_616),
        Row("conv5", (512, 13, 13), 4_719_104),
        Row("pool5", (512, 6, 6)),
        Row("fc6", (4096,), 75_501_568),
        *_FC7_AND_FC8,
    ),
    107_627_624,
    _LOWER_MACS + 199_360_512 + 797_442_048 + 797_442_048 + 75_497_472 + _FC7_AND_FC8_MACS,
    small={"input_px": 64},
)

TABLES = {"zfnet": _ZFNET, "zfnet_wide": _ZFNET_WIDE}
