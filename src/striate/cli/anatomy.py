"""``striate anatomy``: what a network costs, layer by layer, and what its units see."""

import json as json_module
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Drawn

from striate.cli.arguments import arguments_of, read_size
from striate.cli.options import ArgOption, InputOption, JsonOption, UntrainedArgument
from striate.cli.show import Listener, out
from striate.core.choices import OptimizerName, Precision
from striate.core.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from striate.anatomy.conventions import Convention
    from striate.anatomy.formats import Column
    from striate.anatomy.perturb import FieldCheck
    from striate.anatomy.table import Row, Table

_PIPED_WIDTH = 100
_GAP = 2


def anatomy(
    network: UntrainedArgument,
    input: InputOption = None,
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Images in a batch; multiplies MACs and memory.")
    ] = 1,
    depth: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Merge layers whose names share N parts; 1 merges blocks."),
    ] = None,
    ledger: Annotated[
        str, typer.Option(help="What counts as memory: lecture, separate, training or im2col.")
    ] = "lecture",
    arguments: ArgOption = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="All columns with exact numbers, however wide.")
    ] = False,
    unit: Annotated[
        str | None,
        typer.Option(metavar="LAYER:ROW,COL", help="Print only the box of pixels that one unit sees."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Check the receptive fields: change pixels, see which units react."),
    ] = False,
    conventions: Annotated[
        bool, typer.Option("--conventions", help="Print what other tools report, and why they differ.")
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Predict the peak memory of a training step on --batch images.")
    ] = False,
    fit: Annotated[
        str | None, typer.Option(metavar="8GB", help="Find the largest batch that trains in this memory.")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="For --memory and --fit.")] = "fp32",
    optimizer: Annotated[OptimizerName, typer.Option(help="For --memory and --fit.")] = "sgd",
    json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV: all values, no sums.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print a LaTeX table (booktabs).")] = False,
    html: Annotated[bool, typer.Option("--html", help="Print an HTML page.")] = False,
) -> None:
    """Show what a network costs: volumes, parameters, MACs, memory, receptive fields.

    Example:  [bold]striate anatomy vgg16[/]

    Example:  [bold]striate anatomy resnet152 --depth 1[/]

    Example:  [bold]striate anatomy my_net:build --input 3x64x64 --batch 32 --ledger training[/]

    Example:  [bold]striate anatomy alexnet --unit pool5:3,3[/]

    Example:  [bold]striate anatomy resnet50 --fit 8GB --precision bf16[/]
    """
    formats = _given(json=json, csv=csv, markdown=markdown, latex=latex, html=html)
    views = _given(unit=unit, check=check, conventions=conventions, memory=memory, fit=fit)
    if len(views) > 1:
        raise UsageError(f"expected one of {' and '.join(views)}: each prints a result of its own")
    if len(formats) > 1:
        raise UsageError(f"expected one format, got {', '.join(formats)}")
    if views and formats and not json:
        raise UsageError(f"{views[0]} prints text or --json, not {formats[0]}")

    from striate.anatomy import conventions as reconcile
    from striate.anatomy import tabulate, trace
    from striate.weights.open import build_network, short_name

    net, shape, reference = build_network(
        network,
        size=read_size(input),
        arguments=arguments_of(arguments),
        device="cpu" if check else "meta",
    )
    title = short_name(reference)
    if check:
        _check(net, shape, json)
    elif memory or fit is not None:
        _training_memory(net, shape, title, batch, fit, precision, optimizer, json)
    elif unit is not None:
        from striate.anatomy.units import read_unit, unit_box

        box = unit_box(trace(net, shape, name=title), *read_unit(unit))
        if json:
            _print_json(box.to_json())
        else:
            out.print(box.in_words(), highlight=False, markup=False)
    elif conventions:
        found = reconcile(trace(net, shape, name=title), title)
        if json:
            _print_json([asdict(one) for one in found])
        else:
            _print_conventions(found)
    else:
        table = tabulate(trace(net, shape, name=title), memory=ledger, batch_images=batch, depth=depth)
        writers = {
            "--csv": table.to_csv,
            "--markdown": table.to_markdown,
            "--latex": table.to_latex,
            "--html": table.to_page,
        }
        if json:
            _print_json(table.to_json())
        elif formats:
            print(writers[formats[0]](), end="")
        else:
            _print_table(table, wide=wide)


def _check(net: "nn.Module", shape: tuple[int, int, int], json: bool) -> None:
    from striate.anatomy import check_fields

    with Listener() as listener:
        results = check_fields(net, shape, progress=listener)
    if json:
        _print_json([asdict(result) for result in results])
    else:
        _print_check(results)
    if any(result.ok is False for result in results):
        raise typer.Exit(1)


def _training_memory(
    net: "nn.Module",
    shape: tuple[int, int, int],
    title: str,
    batch: int,
    fit: str | None,
    precision: Precision,
    optimizer: OptimizerName,
    json: bool,
) -> None:
    from striate.anatomy.training_memory import largest_batch, parse_bytes, training_memory

    if fit is not None:
        budget_bytes = parse_bytes(fit)
        batch = largest_batch(net, shape, budget_bytes=budget_bytes, precision=precision, optimizer=optimizer)
        if batch == 0:
            raise UsageError(
                f"{title} can't train in {fit}, even on one image: use a smaller --input or bf16"
            )
    found = training_memory(net, shape, batch_images=batch, precision=precision, optimizer=optimizer)
    if json:
        _print_json({**asdict(found), "peak": found.peak})
        return
    size = "x".join(map(str, shape))
    if fit is not None:
        out.print(f"[bold]{batch:,} images[/] of {size} fit into {fit}", highlight=False)
    out.print(
        f"[bold]{escape(title)}[/], a training step of {batch:,} images of {size},"
        f" {precision}, {optimizer}: [bold]{found.peak / 1e6:,.1f} MB[/]",
        highlight=False,
    )
    table = Drawn(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right", style="dim")
    for words, count in found.parts.items():
        table.add_row(words, f"{count / 1e6:,.1f} MB", f"{count / found.peak:.0%}")
    out.print(table, highlight=False)
    out.print(
        f"[dim]The peak is in the {found.peak_phase} pass, at {escape(found.peak_row)}. Predicted from shapes"
        " alone, for a CPU, without\nthe program itself and images that wait for later steps."
        " 1 MB = 10^6 bytes.[/]",
        highlight=False,
    )


def _given(**flags: object) -> list[str]:
    return [f"--{name}" for name, value in flags.items() if value]


def _print_json(value: object) -> None:
    print(json_module.dumps(value, indent=2, ensure_ascii=False))


def _screen(least: int = 0) -> Console:
    """Return a console as wide as the terminal (100 columns where there is none), and at least ``least``."""
    known = out.is_terminal or "COLUMNS" in os.environ
    return Console(width=max(least, out.width if known else _PIPED_WIDTH))


def _print_table(table: "Table", *, wide: bool) -> None:
    from striate.anatomy.formats import COLUMNS

    headings = _with_headings(table.rows, table.title.partition(",")[0], plain=wide)
    columns = list(COLUMNS) if wide else _console_columns(small=table.totals["memory_bytes"] < 10**7)
    widths = [_column_width(column, number, headings, table) for number, column in enumerate(columns)]
    screen = _screen()
    left_out = [] if wide else _drop(columns, widths, screen.width)
    screen.print(f"[bold]{escape(table.title)}[/]", highlight=False)
    drawn = Drawn(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for column in columns:
        drawn.add_column(column.heading, justify="right" if column.right else "left", no_wrap=True)
    for name, row in headings:
        if row is None:
            drawn.add_row(escape(name))
            continue
        cells = [escape(column.text(row)) for column in columns[1:]]
        quiet = row["role"] in ("activation", "view")
        drawn.add_row(escape(name), *cells, style="dim" if quiet else None)
    drawn.add_section()
    drawn.add_row(*(escape(column.total(table)) for column in columns), style="bold")
    _screen(sum(widths) + _GAP * len(widths)).print(drawn, highlight=False)
    screen.print()
    for sentence in table.where:
        screen.print(escape(sentence[:1].upper() + sentence[1:]) + ".", highlight=False)
    if not wide and any(row["field_rows_px"] is not None for row in table.rows):
        left_out = ["field: pixels that a unit sees / jump: pixels from one unit to the next", *left_out]
    for note in (*table.notes, *left_out):
        screen.print(f"[dim]{escape(note[:1].upper() + note[1:])}.[/]", highlight=False)
    for row in table.rows:
        if row["note"]:
            screen.print(f"[yellow]{escape(row['name'])}: {escape(row['note'])}[/]", highlight=False)


def _console_columns(*, small: bool) -> "list[Column]":
    """Choose what a terminal shows, abbreviated; the memory of small networks in kB."""
    from striate.anatomy.formats import COLUMNS, Column

    by_heading = {column.heading: column for column in COLUMNS}
    return [
        by_heading["layer"],
        by_heading["kind"],
        by_heading["output"],
        by_heading["weights"],
        by_heading["biases"],
        Column(
            "MACs",
            True,
            lambda row: _in_short(row["macs"]),
            lambda table: _in_short(table.totals["macs"]),
        ),
        Column("%", True, lambda row: _whole_percent(row["macs_share"])),
        Column(
            "kB",
            True,
            lambda row: _kilobytes(row["memory_bytes"]),
            lambda table: _kilobytes(table.totals["memory_bytes"]),
        )
        if small
        else by_heading["MB"],
        Column("%", True, lambda row: _whole_percent(row["memory_share"])),
        Column("field/jump", True, _field_and_jump),
    ]


def _in_short(macs: int) -> str:
    if macs >= 10**7:
        return f"{macs / 1e6:,.1f} M"
    return f"{macs:,}" if macs else ""


def _kilobytes(count: int) -> str:
    return "<0.1" if 0 < count < 50 else f"{count / 1e3:,.1f}" if count else ""


def _whole_percent(share: float) -> str:
    from striate.anatomy.table import percent

    return percent(share).removesuffix("%") if share else ""


def _field_and_jump(row: "Row") -> str:
    from striate.anatomy.formats import field_px

    if row["whole_image"]:
        return "whole image"
    rows, columns = row["jump_rows_px"], row["jump_columns_px"]
    size = field_px(row)
    if rows is None and columns is None:
        return size
    return f"{size}/{rows}" if rows == columns else f"{size}/{rows}x{columns}"


def _with_headings(rows: "list[Row]", net: str, *, plain: bool) -> "list[tuple[str, Row | None]]":
    """Give each row the words for its first column; the rows of a block are indented below its name."""
    found: list[tuple[str, Row | None]] = []
    block = ""
    for row in rows:
        first, dot, rest = row["name"].partition(".")
        if plain or not dot:
            found.append((row["name"], row))
            block = ""
            continue
        if first != block:
            found.append((first, None))
            block = first
        found.append((f"  {rest}", row))
    return found


def _column_width(
    column: "Column", number: int, headings: "list[tuple[str, Row | None]]", table: "Table"
) -> int:
    texts = [name if number == 0 else "" if row is None else column.text(row) for name, row in headings]
    return max(cell_len(text) for text in (*texts, column.heading, column.total(table)))


_EXPENDABLE = (("%", "shares"), ("biases", "biases"), ("kind", "kinds"), ("field/jump", "receptive fields"))


def _drop(columns: "list[Column]", widths: list[int], width: int) -> list[str]:
    """Leave columns out until the rest fits; say which."""
    dropped = []
    for heading, word in _EXPENDABLE:
        if sum(widths) + _GAP * (len(widths) - 1) <= width:
            break
        dropped.append(word)
        for number in reversed(range(len(columns))):
            if columns[number].heading == heading:
                del columns[number], widths[number]
    return [f"left out for lack of room: {', '.join(dropped)}; all columns: --wide"] if dropped else []


def _print_check(results: "tuple[FieldCheck, ...]") -> None:
    screen = _screen()
    table = Drawn(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for heading in ("layer", "units", "result"):
        table.add_column(
            heading, justify="right" if heading == "units" else "left", no_wrap=heading != "result"
        )
    for result in results:
        if result.ok is None:
            words = f"[yellow]not checked: {escape(result.reason)}[/]"
        elif result.ok:
            words = "ok"
        else:
            words = "[red]differs[/]: " + "; ".join(
                f"unit {one.predicted.row},{one.predicted.column}: by arithmetic rows"
                f" {_span(one.predicted.clipped_rows)}, columns {_span(one.predicted.clipped_columns)};"
                f" found rows {_span(one.found_rows)}, columns {_span(one.found_columns)}"
                for one in result.differences[:3]
            )
        table.add_row(escape(result.layer), str(result.units or ""), words)
    screen.print(table, highlight=False)
    counts = [sum(result.ok is wanted for result in results) for wanted in (True, False, None)]
    screen.print(
        f"\n[bold]{counts[0]} rows as predicted, {counts[1]} differ, {counts[2]} not checked[/]",
        highlight=False,
    )
    screen.print(
        "[dim]Pixels at both ends of each predicted box and next to it were changed, a whole row or column"
        " at a time, in a copy of the network with equal positive weights.[/]",
        highlight=False,
    )


def _span(span: tuple[int, int] | None) -> str:
    return "none" if span is None else f"{span[0]} to {span[1]}"


def _print_conventions(found: "tuple[Convention, ...]") -> None:
    screen = _screen()
    table = Drawn(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    table.add_column("says", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("operations", justify="right", no_wrap=True)
    table.add_column("rule")
    for one in found:
        table.add_row(
            one.tool,
            _figure(one.parameters),
            f"{_figure(one.cost)} {one.word}".strip(),
            escape(one.rule + (" (not verified against the tool)" if one.verified is False else "")),
        )
    screen.print(table, highlight=False)


def _figure(value: int | str | None) -> str:
    return f"{value:,}" if isinstance(value, int) else value or ""
