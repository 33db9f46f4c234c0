"""LeNet-5: LeCun, Bottou, Bengio, Haffner 1998, and the form of the lectures."""

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

TABLES = {"lenet5": _LENET5, "lenet5_rbf": _LENET5_RBF, "lenet5_modern": _LENET5_MODERN}
