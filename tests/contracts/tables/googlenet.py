"""GoogLeNet: Szegedy et al., arXiv 1409.4842, Table 1; and the lectures' arithmetic on Inception modules."""

from tables.record import Published, Row

# Volumes: Table 1. Parameters: weights and biases, by hand from the widths of Table 1, for example 3a:
# 192 (64 + 96 + 16 + 32) + 9 x 96 x 128 + 25 x 16 x 32 + (64 + 96 + 128 + 16 + 32 + 32).
_GOOGLENET = Published(
    (
        Row("conv1", (64, 112, 112), 9_472),
        Row("pool1", (64, 56, 56)),
        Row("norm1", (64, 56, 56)),
        Row("conv2_reduce", (64, 56, 56), 4_160),
        Row("conv2", (192, 56, 56), 110_784),
        Row("norm2", (192, 56, 56)),
        Row("pool2", (192, 28, 28)),
        Row("inception_3a", (256, 28, 28), 163_696),
        Row("inception_3b", (480, 28, 28), 388_736),
        Row("pool3", (480, 14, 14)),
        Row("inception_4a", (512, 14, 14), 376_176),
        Row("inception_4b", (512, 14, 14), 449_160),
        Row("inception_4c", (512, 14, 14), 510_104),
        Row("inception_4d", (528, 14, 14), 605_376),
        Row("inception_4e", (832, 14, 14), 868_352),
        Row("pool4", (832, 7, 7)),
        Row("inception_5a", (832, 7, 7), 1_043_456),
        Row("inception_5b", (1024, 7, 7), 1_444_080),
        Row("avgpool", (1024, 1, 1)),
        Row("fc", (1000,), 1_025_000),
    ),
    6_998_552,
    1_582.7e6,
    0.05e6,
    training_only=(Row("aux1", (1000,), 3_188_840), Row("aux2", (1000,), 3_190_888)),
    small={"input_px": 96},
)

# torchvision's: each convolution has weights and, in place of a bias, the scale and the shift of its batch
# normalisation; so 3a has 192 (64 + 96 + 16 + 32) + 9 x 96 x 128 + 9 x 16 x 32 + 2 (64 + 96 + 128 + 16 + 32
# + 32) parameters. The other rows alike; the totals are torchvision's own.
# MACs: the published network's, with 9 in place of 25 taps in the "5x5" convolutions, which are 16 x n maps
# fewer at each of 28^2, 14^2 or 7^2 positions: 16 x (784 x (512 + 3,072) + 196 x (768 + 1,536 + 1,536 +
# 2,048 + 4,096) + 49 x (4,096 + 6,144)) = 84,295,680.
_GOOGLENET_TV = Published(
    (
        Row("conv1", (64, 112, 112), 9_408),
        Row("bn1", (64, 112, 112), 128),
        Row("pool1", (64, 56, 56)),
        Row("conv2_reduce", (64, 56, 56), 4_096),
        Row("bn2_reduce", (64, 56, 56), 128),
        Row("conv2", (192, 56, 56), 110_592),
        Row("bn2", (192, 56, 56), 384),
        Row("pool2", (192, 28, 28)),
        Row("inception_3a", (256, 28, 28), 39_936 + 110_592 + 4_608 + 2 * 368),
        Row("inception_3b", (480, 28, 28), 90_112 + 221_184 + 27_648 + 2 * 640),
        Row("pool3", (480, 14, 14)),
        Row("inception_4a", (512, 14, 14), 176_640 + 179_712 + 6_912 + 2 * 624),
        Row("inception_4b", (512, 14, 14), 184_320 + 225_792 + 13_824 + 2 * 648),
        Row("inception_4c", (512, 14, 14), 176_128 + 294_912 + 13_824 + 2 * 664),
        Row("inception_4d", (528, 14, 14), 180_224 + 373_248 + 18_432 + 2 * 704),
        Row("inception_4e", (832, 14, 14), 304_128 + 460_800 + 36_864 + 2 * 1_024),
        Row("pool4", (832, 7, 7)),
        Row("inception_5a", (832, 7, 7), 479_232 + 460_800 + 36_864 + 2 * 1_024),
        Row("inception_5b", (1024, 7, 7), 625_664 + 663_552 + 55_296 + 2 * 1_264),
        Row("avgpool", (1024, 1, 1)),
        Row("fc", (1000,), 1_025_000),
    ),
    6_624_904,
    1_582.7e6 - 84_295_680,
    0.05e6,
    # 128 x 512 (or 528) + 2 x 128, then 2048 x 1024 + 1024 and 1024 x 1000 + 1000
    training_only=(
        Row("aux1", (1000,), 65_536 + 256 + 2_098_176 + 1_025_000),
        Row("aux2", (1000,), 67_584 + 256 + 2_098_176 + 1_025_000),
    ),
    small={"input_px": 96},
)

# The lectures' module on 28x28x256 maps; stem 27 x 256 weights and 256 biases, 28^2 x 27 x 256 MACs.
_NAIVE = Published(
    (
        Row("stem", (256, 28, 28), 6_912 + 256),
        Row("inception", (672, 28, 28), 32_768 + 128 + 442_368 + 192 + 614_400 + 96),
        Row("avgpool", (672, 1, 1)),
        Row("fc", (10,), 6_730),
    ),
    1_103_850,
    5_419_008 + 854_196_224 + 6_720,
)
_BOTTLENECK = Published(
    (
        Row("stem", (256, 28, 28), 6_912 + 256),
        Row("inception", (480, 28, 28), 32_768 + 128 + 3 * (16_384 + 64) + 110_592 + 192 + 153_600 + 96),
        Row("avgpool", (480, 1, 1)),
        Row("fc", (10,), 4_810),
    ),
    358_698,
    5_419_008 + 271_351_808 + 4_800,
)

TABLES = {
    "googlenet": _GOOGLENET,
    "googlenet_tv": _GOOGLENET_TV,
    "inception_naive": _NAIVE,
    "inception_bottleneck": _BOTTLENECK,
}
