"""The columns of a network's table: what a row holds, and how it is written for people."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict


class Row(TypedDict):
    """One row of the table. Counts are for the whole batch, except parameters and the matrices of im2col.

    ``field_*_px`` (size of the receptive field), ``jump_*_px`` (stride) and ``start_*_px`` (offset) are None
    where they are not known; jumps also where all units see the same pixels. Shares are fractions.
    """

    name: str
    kind: str
    window: str
    role: str
    inputs: list[str]
    output: list[int]
    weights: int
    biases: int
    parameters: int
    parameters_share: float
    macs: int
    flops: int
    macs_share: float
    memory_values: int
    memory_bytes: int
    memory_share: float
    field_rows_px: int | None
    field_columns_px: int | None
    jump_rows_px: int | None
    jump_columns_px: int | None
    start_rows_px: int | None
    start_columns_px: int | None
    whole_image: bool
    x_col: list[int] | None
    w_row: list[int] | None
    im2col_groups: int | None
    note: str


class Totals(TypedDict):
    """Sums of the rows; ``training_only_parameters`` are not in ``parameters``."""

    weights: int
    biases: int
    parameters: int
    training_only_parameters: int
    macs: int
    flops: int
    memory_values: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Column:
    """A column for people.

    Attributes:
        heading: the word above it.
        right: whether it is aligned to the right, as numbers are.
        text: its cell in a row.
        total: its cell in the last line.
    """

    heading: str
    right: bool
    text: Callable[[Row], str]
    total: Callable[[Totals], str] = lambda totals: ""


_SHORT_KINDS = {
    "Conv2d": "conv",
    "conv2d": "conv",
    "MaxPool2d": "max pool",
    "max_pool2d": "max pool",
    "AvgPool2d": "avg pool",
    "avg_pool2d": "avg pool",
    "Linear": "fc",
    "linear": "fc",
    "BatchNorm2d": "batch norm",
    "BatchNorm1d": "batch norm",
    "LocalResponseNorm": "LRN",
    "AdaptiveAvgPool2d": "adaptive avg",
    "adaptive_pool2d": "adaptive pool",
    "add": "sum",
    "cat": "concat",
}


def _what(row: Row) -> str:
    """Name the kind and the window in a few letters, ``conv 11x11 s4``; a padding of 0 is not said."""
    window = row["window"].replace(" p0", "")
    return f"{_SHORT_KINDS.get(row['kind'], row['kind'])} {window}".strip()


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def _field_px(row: Row) -> str:
    """Write the size of a receptive field."""
    if row["field_rows_px"] is None:
        return "?"
    size = _both(row["field_rows_px"], row["field_columns_px"])
    return f"{size} (whole image)" if row["whole_image"] else size


def _megabytes(count: int) -> str:
    """Write bytes in MB of 10^6, with two digits after the point; nothing for 0."""
    return "<0.01" if 0 < count < 5000 else f"{count / 1e6:,.2f}" if count else ""


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _share(fraction: float) -> str:
    """Write a fraction in percent, one digit after the point; nothing for 0."""
    return f"{100 * fraction:.1f}" if fraction else ""


def _both(rows: int | None, columns: int | None) -> str:
    if rows is None and columns is None:
        return ""
    return str(rows) if rows == columns else f"{rows}x{columns}"


def _start(row: Row) -> str:
    rows, columns = row["start_rows_px"], row["start_columns_px"]
    if rows is None:
        return ""
    return str(rows) if rows == columns else f"{rows},{columns}"


def _product(row: Row, sizes: list[int] | None) -> str:
    if sizes is None:
        return ""
    times = f"{row['im2col_groups']} x " if row["im2col_groups"] != 1 else ""
    return f"{times}{_by(sizes)}"


def _counted(
    heading: str,
    key: Literal["weights", "biases", "macs", "flops", "memory_values", "memory_bytes"],
    text: Callable[[int], str],
) -> Column:
    """Make a column of counts whose last line is their sum."""
    return Column(heading, True, lambda row: text(row[key]), lambda totals: text(totals[key]))


COLUMNS: tuple[Column, ...] = (
    Column("layer", False, lambda row: row["name"], lambda totals: "total"),
    Column("kind", False, _what),
    Column("output", False, lambda row: _by(row["output"])),
    _counted("weights", "weights", _count),
    _counted("biases", "biases", _count),
    _counted("MACs", "macs", _count),
    _counted("FLOPs", "flops", _count),
    Column("MACs, %", True, lambda row: _share(row["macs_share"])),
    _counted("values", "memory_values", _count),
    _counted("MB", "memory_bytes", _megabytes),
    Column("MB, %", True, lambda row: _share(row["memory_share"])),
    Column("field", True, _field_px),
    Column("jump", True, lambda row: _both(row["jump_rows_px"], row["jump_columns_px"])),
    Column("start", True, _start),
    Column("X_col", True, lambda row: _product(row, row["x_col"])),
    Column("W_row", True, lambda row: _product(row, row["w_row"])),
)
"""Every column for people, in their order."""


def screen_columns(totals: Totals) -> list[Column]:
    """Choose what to show on a screen, in few letters; the memory of small networks in kB."""
    small = totals["memory_bytes"] < 10**7
    return [
        *COLUMNS[:5],
        _counted("MACs", "macs", _in_short),
        Column("%", True, lambda row: _whole_percent(row["macs_share"])),
        _counted("kB", "memory_bytes", _kilobytes) if small else _counted("MB", "memory_bytes", _megabytes),
        Column("%", True, lambda row: _whole_percent(row["memory_share"])),
        Column("field/jump", True, _field_and_jump),
    ]


def _in_short(macs: int) -> str:
    return f"{macs / 1e6:,.1f} M" if macs >= 10**7 else _count(macs)


def _kilobytes(count: int) -> str:
    return "<0.1" if 0 < count < 50 else f"{count / 1e3:,.1f}" if count else ""


def _whole_percent(share: float) -> str:
    return percent(share).removesuffix("%") if share else ""


def _field_and_jump(row: Row) -> str:
    if row["whole_image"]:
        return "whole image"
    jump = _both(row["jump_rows_px"], row["jump_columns_px"])
    return f"{_field_px(row)}/{jump}" if jump else _field_px(row)


def percent(share: float) -> str:
    """Write a share in whole percent; a small one is not written as nothing, nor most as all."""
    if 0 < share < 0.005:
        return "<1%"
    if 0.995 <= share < 1:
        return f"{share:.1%}" if share < 0.9995 else ">99.9%"
    return f"{share:.0%}"
