"""VGG: Simonyan and Zisserman, arXiv 1409.1556v6, Table 1."""

from tables.record import Published, Row

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
    small={"input_px": 32},
)

TABLES = {"vgg16": _VGG16}
