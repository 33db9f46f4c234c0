"""LeNet-5: LeCun, Bottou, Bengio, Haffner 1998, the form of the lectures, and Caffe's."""

from tables.record import Published, Row

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

# Caffe, examples/mnist/lenet_train_test.prototxt: 431,080 parameters, 2.293 million MACs. By hand:
# 20 (25 + 1), 50 (20 x 25 + 1), 500 (800 + 1), 10 (500 + 1).
_LENET_CAFFE = Published(
    (
        Row("conv1", (20, 24, 24), 520),
        Row("pool1", (20, 12, 12)),
        Row("conv2", (50, 8, 8), 25_050),
        Row("pool2", (50, 4, 4)),
        Row("ip1", (500,), 400_500),
        Row("ip2", (10,), 5_010),
    ),
    431_080,
    2.293e6,
)

TABLES = {
    "lenet5": _LENET5,
    "lenet5_rbf": _LENET5_RBF,
    "lenet5_modern": _LENET5_MODERN,
    "lenet_caffe": _LENET_CAFFE,
}
