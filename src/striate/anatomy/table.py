"""The table of a network, and every way to write it: text, CSV, Markdown, LaTeX, HTML, JSON."""

import csv
import html
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from striate.anatomy.columns import COLUMNS, Column, Row, Totals, screen_columns
from striate.anatomy.ledger import Ledger

CONVENTION = "1 MAC = 2 FLOP; MACs of convolutions and matrix products, without biases"

Style = Literal["bold", "dim", "yellow", ""]

_PAGE_COLUMNS = 100
_GAP = "  "
_EXPENDABLE = (("%", "shares"), ("biases", "biases"), ("kind", "kinds"), ("field/jump", "receptive fields"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A network's rows and sums, ready to be written in any format.

    Attributes:
        name: of the network.
        input_shape: channels, height and width in pixels.
        rows: in the order of computation.
        totals: sums.
        ledger: the memory.
        where: sentences that say where parameters, work and memory are.
    """

    name: str
    input_shape: tuple[int, int, int]
    rows: list[Row]
    totals: Totals
    ledger: Ledger
    where: tuple[str, ...]

    @property
    def title(self) -> str:
        """Name, input and batch."""
        size = "x".join(map(str, self.input_shape))
        images = self.ledger.batch_images
        return f"{self.name}, {size}, {images} image{'s' if images > 1 else ''}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the numbers count."""
        besides = "".join(f"; {name} {count / 1e6:,.2f} MB" for name, count in self.ledger.besides.items())
        if besides:
            besides += f"; together {self.ledger.total_bytes / 1e6:,.2f} MB"
        found = [
            CONVENTION,
            f"memory by the {self.ledger.name} ledger: {self.ledger.rule}{besides}",
        ]
        if self.totals["training_only_parameters"]:
            count = self.totals["training_only_parameters"]
            found.append(f"{count:,} more parameters are not used at test time and are in no row")
        if self.ledger.name == "im2col":
            name, largest = self.ledger.largest
            found.append(f"the largest buffer is that of {name}: {largest / 1e6:,.2f} MB")
        return tuple(found)

    def to_json(self) -> dict[str, object]:
        """Return plain values for ``json.dumps``."""
        return {
            "name": self.name,
            "input": list(self.input_shape),
            "batch_images": self.ledger.batch_images,
            "convention": CONVENTION,
            "ledger": {
                "name": self.ledger.name,
                "rule": self.ledger.rule,
                "besides_bytes": self.ledger.besides,
                "total_bytes": self.ledger.total_bytes,
            },
            "totals": self.totals,
            "where": list(self.where),
            "layers": self.rows,
        }

    def to_text(self, *, width: int = _PAGE_COLUMNS, wide: bool = False) -> str:
        """Write a table for a screen, with sums and notes.

        Args:
            width: of the screen, in characters; columns that do not fit are left out, and a note says which.
            wide: whether to write all columns, exact, however wide.
        """
        return "".join(f"{line}\n" for line, _ in self.styled_lines(width=width, wide=wide))

    def styled_lines(self, *, width: int = _PAGE_COLUMNS, wide: bool = False) -> list[tuple[str, Style]]:
        """Return the lines of ``to_text``, each with the style that a terminal shows it in."""
        firsts = [(row["name"], row) for row in self.rows] if wide else _indented(self.rows)
        columns = list(COLUMNS) if wide else screen_columns(self.totals)
        cells = [
            [
                column.heading,
                *(column.text(row) if number and row else "" if number else first for first, row in firsts),
                column.total(self.totals),
            ]
            for number, column in enumerate(columns)
        ]
        notes = list(self.notes)
        if not wide:
            if any(row["field_rows_px"] is not None for row in self.rows):
                notes.append("field: pixels that a unit sees / jump: pixels from one unit to the next")
            notes += _drop(columns, cells, width)
        widths = [max(map(len, column)) for column in cells]
        table = [
            _GAP.join(
                cell.rjust(size) if column.right else cell.ljust(size)
                for cell, column, size in zip(line, columns, widths, strict=True)
            ).rstrip()
            for line in zip(*cells, strict=True)
        ]
        quiet: list[Style] = ["dim" if _is_quiet(row) else "" for _, row in firsts]
        lines: list[tuple[str, Style]] = [(self.title, "bold"), (table[0], "bold")]
        lines += [*zip(table[1:-1], quiet, strict=True), (table[-1], "bold"), ("", "")]
        said: list[tuple[str, Style]] = [(f"{text[:1].upper()}{text[1:]}.", "") for text in self.where]
        said += [(f"{text[:1].upper()}{text[1:]}.", "dim") for text in notes]
        said += [(f"{row['name']}: {row['note']}", "yellow") for row in self.rows if row["note"]]
        for text, style in said:
            lines += [(line, style) for line in textwrap.wrap(text, width, break_on_hyphens=False)]
        return lines

    def __str__(self) -> str:
        return self.to_text()

    def to_csv(self) -> str:
        """Write every value, one line a row, without sums; sizes as ``96x55x55``, None as nothing."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(Row.__annotations__), lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({key: _plain(value) for key, value in row.items()})
        return text.getvalue()

    def to_markdown(self) -> str:
        """Write a pipe table for people, with sums and notes."""
        lines = [f"**{_marked_down(self.title)}**", ""]
        lines.append("| " + " | ".join(column.heading for column in COLUMNS) + " |")
        lines.append("|" + "|".join("---:" if column.right else "---" for column in COLUMNS) + "|")
        for row in self.rows:
            lines.append("| " + " | ".join(_marked_down(column.text(row)) for column in COLUMNS) + " |")
        totals = (column.total(self.totals) for column in COLUMNS)
        lines.append("| " + " | ".join(f"**{text}**" if text else "" for text in totals) + " |")
        lines += ["", *(f"- {_marked_down(note)}" for note in (*self.where, *self.notes))]
        return "\n".join(lines) + "\n"

    def to_latex(self) -> str:
        """Write a ``tabular`` with the rules of the package ``booktabs``; the notes are comments above it."""
        lines = [f"% {self.title}", *(f"% {note}" for note in (*self.where, *self.notes))]
        lines.append(
            r"% needs \usepackage{booktabs}; a wide table: \resizebox{\linewidth}{!}{...} or fewer columns"
        )
        lines.append(r"\begin{tabular}{" + "".join("r" if column.right else "l" for column in COLUMNS) + "}")
        lines += [r"\toprule", _latex_line([column.heading for column in COLUMNS]), r"\midrule"]
        lines += [_latex_line([column.text(row) for column in COLUMNS]) for row in self.rows]
        lines += [r"\midrule", _latex_line([column.total(self.totals) for column in COLUMNS]), r"\bottomrule"]
        lines.append(r"\end{tabular}")
        return "\n".join(lines) + "\n"

    def to_html(self) -> str:
        """Write a fragment of a page: a table with its own style, which loads nothing."""
        lines = [f'<div class="striate-anatomy"><style>{_STYLE}</style>', "<table>"]
        lines.append(f"<caption>{html.escape(self.title)}</caption>")
        headings = "".join(
            f'<th scope="col"{_class(column)}>{html.escape(column.heading)}</th>' for column in COLUMNS
        )
        lines.append(f"<thead><tr>{headings}</tr></thead><tbody>")
        for row in self.rows:
            quiet = ' class="quiet"' if _is_quiet(row) else ""
            cells = "".join(f"<td{_class(column)}>{html.escape(column.text(row))}</td>" for column in COLUMNS)
            lines.append(f"<tr{quiet}>{cells}</tr>")
        totals = "".join(
            f"<td{_class(column)}>{html.escape(column.total(self.totals))}</td>" for column in COLUMNS
        )
        lines.append(f"</tbody><tfoot><tr>{totals}</tr></tfoot></table>")
        lines += [f"<p>{html.escape(note)}</p>" for note in (*self.where, *self.notes)]
        return "\n".join([*lines, "</div>"]) + "\n"

    def to_page(self) -> str:
        """Write a whole page of HTML that follows the reader's light or dark theme."""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f"<title>{html.escape(self.title)}</title>\n"
            "<style>:root { color-scheme: light dark; } body { margin: 24px; }</style></head><body>\n"
            f"{self.to_html()}</body></html>\n"
        )

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        return self.to_html()


def _is_quiet(row: Row | None) -> bool:
    """Whether a row has no parameters or products of its own and is shown paler."""
    return row is not None and row["role"] in ("activation", "view")


def _indented(rows: Sequence[Row]) -> list[tuple[str, Row | None]]:
    """Give each row the words for its first column; the rows of a block are indented below its name."""
    found: list[tuple[str, Row | None]] = []
    block = ""
    for row in rows:
        first, dot, rest = row["name"].partition(".")
        if dot and first != block:
            found.append((first, None))
        block = first if dot else ""
        found.append((f"  {rest}" if dot else row["name"], row))
    return found


def _drop(columns: list[Column], cells: list[list[str]], width: int) -> list[str]:
    """Leave columns out until the rest fits; say which."""
    dropped = []
    for heading, word in _EXPENDABLE:
        if sum(max(map(len, column)) + len(_GAP) for column in cells) - len(_GAP) <= width:
            break
        dropped.append(word)
        for number in reversed(range(len(columns))):
            if columns[number].heading == heading:
                del columns[number], cells[number]
    return [f"left out for lack of room: {', '.join(dropped)}; all columns: `wide`"] if dropped else []


def _plain(value: object) -> object:
    if isinstance(value, list):
        joint = "x" if all(isinstance(one, int) for one in value) else " "
        return joint.join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else value


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


def _class(column: Column) -> str:
    return ' class="n"' if column.right else ""
