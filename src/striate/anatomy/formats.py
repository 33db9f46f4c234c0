"""Writing the table of a network: CSV, Markdown, LaTeX, HTML."""

import csv
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from striate.anatomy.table import Row, Table


@dataclass(frozen=True, slots=True)
class Column:
    """A column for people.

    Attributes:
        heading: what stands above it.
        right: whether it is set to the right, as numbers are.
        text: of a row.
        total: of the last line.
    """

    heading: str
    right: bool
    text: Callable[["Row"], str]
    total: Callable[["Table"], str] = lambda table: ""


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


def what(row: "Row") -> str:
    """Name the kind and the window in a few letters, ``conv 11x11 s4``; a padding of 0 is not said."""
    window = row["window"].replace(" p0", "")
    return f"{_SHORT_KINDS.get(row['kind'], row['kind'])} {window}".strip()


def by(sizes: Sequence[int]) -> str:
    """Join sizes: ``96x55x55``."""
    return "x".join(map(str, sizes))


def field_px(row: "Row") -> str:
    """Write the size of a receptive field."""
    if row["field_rows_px"] is None:
        return "?"
    size = _both(row["field_rows_px"], row["field_columns_px"])
    return f"{size} (whole image)" if row["whole_image"] else size


def megabytes(count: int) -> str:
    """Write bytes in MB of 10^6, with two digits after the point; nothing for 0."""
    return "<0.01" if 0 < count < 5000 else f"{count / 1e6:,.2f}" if count else ""


def count(number: int) -> str:
    """Write a number with commas; nothing for 0."""
    return f"{number:,}" if number else ""


def share(fraction: float) -> str:
    """Write a fraction in percent, one digit after the point; nothing for 0."""
    return f"{100 * fraction:.1f}" if fraction else ""


def _both(rows: int | None, columns: int | None) -> str:
    if rows is None and columns is None:
        return ""
    return str(rows) if rows == columns else f"{rows}x{columns}"


def _start(row: "Row") -> str:
    rows, columns = row["start_rows_px"], row["start_columns_px"]
    if rows is None:
        return ""
    return str(rows) if rows == columns else f"{rows},{columns}"


def _product(row: "Row", sizes: list[int] | None) -> str:
    if sizes is None:
        return ""
    times = f"{row['im2col_groups']} x " if row["im2col_groups"] != 1 else ""
    return f"{times}{by(sizes)}"


COLUMNS: tuple[Column, ...] = (
    Column("layer", False, lambda row: row["name"], lambda table: "total"),
    Column("kind", False, what),
    Column("output", False, lambda row: by(row["output"])),
    Column("weights", True, lambda row: count(row["weights"]), lambda table: count(table.totals["weights"])),
    Column("biases", True, lambda row: count(row["biases"]), lambda table: count(table.totals["biases"])),
    Column("MACs", True, lambda row: count(row["macs"]), lambda table: count(table.totals["macs"])),
    Column("FLOPs", True, lambda row: count(row["flops"]), lambda table: count(table.totals["flops"])),
    Column("MACs, %", True, lambda row: share(row["macs_share"])),
    Column(
        "values",
        True,
        lambda row: count(row["memory_values"]),
        lambda table: count(table.totals["memory_values"]),
    ),
    Column(
        "MB",
        True,
        lambda row: megabytes(row["memory_bytes"]),
        lambda table: megabytes(table.totals["memory_bytes"]),
    ),
    Column("MB, %", True, lambda row: share(row["memory_share"])),
    Column("field", True, field_px),
    Column("jump", True, lambda row: _both(row["jump_rows_px"], row["jump_columns_px"])),
    Column("start", True, _start),
    Column("X_col", True, lambda row: _product(row, row["x_col"])),
    Column("W_row", True, lambda row: _product(row, row["w_row"])),
)
"""Every column for people, in their order."""


def as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Write plain rows, one line each after a line of headings; lists as ``96x55x55``, None as nothing."""
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _plain(value) for key, value in row.items()})
    return text.getvalue()


def _plain(value: object) -> object:
    if isinstance(value, list):
        joint = "x" if all(isinstance(one, int) for one in value) else " "
        return joint.join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else value


def as_markdown(table: "Table") -> str:
    """Write a pipe table under a heading, with sums and notes."""
    lines = [f"**{_marked_down(table.title)}**", ""]
    lines.append("| " + " | ".join(column.heading for column in COLUMNS) + " |")
    lines.append("|" + "|".join("---:" if column.right else "---" for column in COLUMNS) + "|")
    for row in table.rows:
        lines.append("| " + " | ".join(_marked_down(column.text(row)) for column in COLUMNS) + " |")
    totals = (column.total(table) for column in COLUMNS)
    lines.append("| " + " | ".join(f"**{text}**" if text else "" for text in totals) + " |")
    lines += ["", *(f"- {_marked_down(note)}" for note in (*table.where, *table.notes))]
    return "\n".join(lines) + "\n"


_MARKDOWN = str.maketrans({letter: f"\\{letter}" for letter in "\\|*_<>`#"})


def _marked_down(text: str) -> str:
    return text.translate(_MARKDOWN)


_LATEX = str.maketrans(
    {
        **{letter: f"\\{letter}" for letter in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    }
)


def as_latex(table: "Table") -> str:
    """Write a ``tabular``; the notes are comments above it."""
    lines = [f"% {table.title}", *(f"% {note}" for note in (*table.where, *table.notes))]
    lines.append(
        r"% needs \usepackage{booktabs}; a wide table: \resizebox{\linewidth}{!}{...} or fewer columns"
    )
    lines.append(r"\begin{tabular}{" + "".join("r" if column.right else "l" for column in COLUMNS) + "}")
    lines += [r"\toprule", _latex_line([column.heading for column in COLUMNS]), r"\midrule"]
    lines += [_latex_line([column.text(row) for column in COLUMNS]) for row in table.rows]
    lines += [r"\midrule", _latex_line([column.total(table) for column in COLUMNS]), r"\bottomrule"]
    lines.append(r"\end{tabular}")
    return "\n".join(lines) + "\n"


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cell.translate(_LATEX) for cell in cells) + r" \\"


_STYLE = """
.striate-anatomy { font: 13px/1.45 system-ui, sans-serif; overflow-x: auto; }
.striate-anatomy table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.striate-anatomy caption { text-align: left; font-weight: 600; padding: 4px 8px; }
.striate-anatomy th, .striate-anatomy td { padding: 2px 8px; text-align: left; white-space: nowrap; }
.striate-anatomy thead th { border-bottom: 1px solid currentColor; }
.striate-anatomy tfoot td { border-top: 1px solid currentColor; font-weight: 600; }
.striate-anatomy .n { text-align: right; }
.striate-anatomy .quiet { opacity: 0.6; }
.striate-anatomy p { margin: 6px 8px 0; max-width: 80em; }
"""


def as_html(table: "Table") -> str:
    """Write a table of HTML with its style; rows without cost are paler."""
    lines = [f'<div class="striate-anatomy"><style>{_STYLE}</style>', "<table>"]
    lines.append(f"<caption>{html.escape(table.title)}</caption>")
    headings = "".join(
        f'<th scope="col"{_class(column)}>{html.escape(column.heading)}</th>' for column in COLUMNS
    )
    lines.append(f"<thead><tr>{headings}</tr></thead><tbody>")
    for row in table.rows:
        quiet = ' class="quiet"' if row["role"] in ("activation", "view") else ""
        cells = "".join(f"<td{_class(column)}>{html.escape(column.text(row))}</td>" for column in COLUMNS)
        lines.append(f"<tr{quiet}>{cells}</tr>")
    totals = "".join(f"<td{_class(column)}>{html.escape(column.total(table))}</td>" for column in COLUMNS)
    lines.append(f"</tbody><tfoot><tr>{totals}</tr></tfoot></table>")
    lines += [f"<p>{html.escape(note)}</p>" for note in (*table.where, *table.notes)]
    return "\n".join([*lines, "</div>"]) + "\n"


def _class(column: Column) -> str:
    return ' class="n"' if column.right else ""


def as_page(table: "Table") -> str:
    """Write a whole page that follows the reader's light or dark theme."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f"<title>{html.escape(table.title)}</title>\n"
        "<style>:root { color-scheme: light dark; } body { margin: 24px; }</style></head><body>\n"
        f"{as_html(table)}</body></html>\n"
    )
