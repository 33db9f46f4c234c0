"""Perceptrons of one, two and three layers, as lectured; counts by hand for 28x28 grey images.

784 pixels, 100 hidden units: 784 x 10 + 10 = 7,850; 784 x 100 + 100 = 78,500;
100 x 100 + 100 = 10,100; 100 x 10 + 10 = 1,010.
"""

from tables.record import Published, Row

_MLP1 = Published((Row("fc1", (10,), 7_850),), 7_850, 7_840)

_MLP2 = Published(
    (
        Row("fc1", (100,), 78_500),
        Row("act1", (100,)),
        Row("fc2", (10,), 1_010),
    ),
    79_510,
    78_400 + 1_000,
)

_MLP3 = Published(
    (
        Row("fc1", (100,), 78_500),
        Row("act1", (100,)),
        Row("fc2", (100,), 10_100),
        Row("act2", (100,)),
        Row("fc3", (10,), 1_010),
    ),
    89_610,
    78_400 + 10_000 + 1_000,
)

TABLES = {"mlp1": _MLP1, "mlp2": _MLP2, "mlp3": _MLP3}
