"""``striate anatomy``: what a network costs, layer by layer, and what its units see."""

import json as json_module
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Drawn

from striate.cli.arguments import arguments_of, read_size
from striate.cli.options import ArgOption, InputOption, JsonOption, UntrainedArgument, in_options
from striate.cli.show import Listener, out
from striate.core.choices import OptimizerName, Precision
from striate.core.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from striate.anatomy.conventions import Convention
    from striate.anatomy.perturb import FieldCheck
    from striate.anatomy.table import Table

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


def _screen() -> Console:
    """Return a console as wide as the terminal, or of 100 columns where there is none."""
    known = out.is_terminal or "COLUMNS" in os.environ
    return Console(width=out.width if known else _PIPED_WIDTH)


def _print_table(table: "Table", *, wide: bool) -> None:
    for line, style in table.styled_lines(width=_screen().width, wide=wide):
        out.print(escape(in_options(line)), style=style or None, highlight=False, soft_wrap=True)


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
