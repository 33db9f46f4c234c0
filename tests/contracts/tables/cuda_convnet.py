"""cuda-convnet's layers-19pct: sides 32, 16, 8, 4 (pools round up); 89,578 parameters.

By hand: 32 (75 + 1), 32 (800 + 1), 64 (800 + 1), 10 (1,024 + 1); MACs are weights times positions.
"""

from tables.record import Published, Row


def _table(nonlinearity: str) -> Published:
    return Published(
        (
            Row("conv1", (32, 32, 32), 2_432),
            Row("pool1", (32, 16, 16)),
            Row(f"{nonlinearity}1", (32, 16, 16)),
            Row("conv2", (32, 16, 16), 25_632),
            Row(f"{nonlinearity}2", (32, 16, 16)),
            Row("pool2", (32, 8, 8)),
            Row("conv3", (64, 8, 8), 51_264),
            Row(f"{nonlinearity}3", (64, 8, 8)),
            Row("pool3", (64, 4, 4)),
            Row("fc10", (10,), 10_250),
        ),
        89_578,
        2_400 * 1_024 + 25_600 * 256 + 51_200 * 64 + 10_240,
    )


TABLES = {"cuda_convnet_relu": _table("relu"), "cuda_convnet_tanh": _table("tanh")}
