"""The CIFAR networks of He, Zhang, Ren, Sun, arXiv 1512.03385, section 4.2."""

from dataclasses import replace

from tables.record import Published, Row


def _cifar(num_blocks: int, parameters: int, macs_millions: float) -> Published:
    """The table of section 4.2 of arXiv 1512.03385: three stages of ``num_blocks`` pairs of 3x3 convolutions.

    By hand, weights plus scale and shift of batch normalisation: 16 -> 16: 2 (2,304 + 32); 16 -> 32: 4,608 +
    64 + 9,216 + 64; 32 -> 32: 2 (9,216 + 64); 32 -> 64: 18,432 + 128 + 36,864 + 128; 64 -> 64:
    2 (36,864 + 128).
    """
    rows = [Row("conv1", (16, 32, 32), 432), Row("bn1", (16, 32, 32), 32)]
    for stage, volume, first, other in (
        (2, (16, 32, 32), 4_672, 4_672),
        (3, (32, 16, 16), 13_952, 18_560),
        (4, (64, 8, 8), 55_552, 73_984),
    ):
        rows.append(Row(f"conv{stage}_1", volume, first))
        rows += [Row(f"conv{stage}_{block}", volume, other) for block in range(2, num_blocks + 1)]
    rows += [Row("avgpool", (64, 1, 1)), Row("fc", (10,), 650)]
    return Published(tuple(rows), parameters, macs_millions * 1e6, 0.005e6)


_CIFAR = {
    20: _cifar(3, 269_722, 40.55),
    32: _cifar(5, 464_154, 68.86),
    44: _cifar(7, 658_586, 97.17),
    56: _cifar(9, 853_018, 125.49),
    110: _cifar(18, 1_727_962, 252.89),
}
# 442,368 + 598 x 4,718,592 + 2 x 3,538,944 + 640 MACs
_RESNET1202 = replace(_cifar(200, 19_421_274, 2_829.24), small=None)

TABLES = {
    **{f"resnet{depth}": table for depth, table in _CIFAR.items()},
    "resnet1202": _RESNET1202,
    **{f"plain{depth}": table for depth, table in _CIFAR.items()},
}
