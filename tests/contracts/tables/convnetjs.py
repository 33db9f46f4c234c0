"""The CIFAR-10 demo of ConvNetJS; counts by hand: 16 (75 + 1), 20 (400 + 1), 20 (500 + 1), 10 (320 + 1)."""

from tables.record import Published, Row

_CIFAR = Published(
    (
        Row("conv1", (16, 32, 32), 1_216),
        Row("pool1", (16, 16, 16)),
        Row("conv2", (20, 16, 16), 8_020),
        Row("pool2", (20, 8, 8)),
        Row("conv3", (20, 8, 8), 10_020),
        Row("pool3", (20, 4, 4)),
        Row("fc10", (10,), 3_210),
    ),
    22_466,
    1_200 * 1_024 + 8_000 * 256 + 10_000 * 64 + 3_200,
)

TABLES = {"convnetjs_cifar": _CIFAR}
