"""``striate compare``: networks side by side."""

import json as json_module
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.options import JsonOption
from striate.cli.show import out
from striate.core.errors import UsageError

if TYPE_CHECKING:
    from striate.anatomy.compare import Comparison


def compare(
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="NETWORK",
            help="Two or more: names, .net files, layers joined by >, or stacks as in 'conv 3x3 x3'.",
        ),
    ],
    json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, one line for each network.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """Compare networks: parameters, MACs, activations, depth, receptive field; ratios to the first.

    Example:  [bold]striate compare alexnet googlenet[/]

    Example:  [bold]striate compare "conv 3x3 x3" "conv 7x7"[/]
    """
    if json + csv + markdown > 1:
        raise UsageError("expected at most one of --json, --csv and --markdown, got several")
    from striate.nets.arithmetic import side_by_side

    found, texts = side_by_side(networks)
    if json:
        print(json_module.dumps({**found.to_dict(), "texts": texts}, indent=2, ensure_ascii=False))
    elif csv:
        print(found.to_csv(), end="")
    elif markdown:
        print(found.to_markdown(), end="")
    else:
        _print(found, texts)


def _parts(found: "Comparison", width: int) -> list[list[int]]:
    """Divide the networks among tables that fit the screen; the first, the base of the ratios, is in each."""
    lines = found.to_cells()
    widths = []
    for i, profile in enumerate(found.profiles):
        value = max(len(profile.name), *(len(cells[i][0]) for _, cells in lines))
        widths.append(value + max(len(cells[i][1]) for _, cells in lines) + 4)
    base = max(len(label) for label, _ in lines) + 2 + widths[0]
    parts = [[0]]
    used = base
    for i in range(1, len(widths)):
        if used + widths[i] > width and len(parts[-1]) > 1:
            parts.append([0])
            used = base
        parts[-1].append(i)
        used += widths[i]
    return parts


def _print(found: "Comparison", texts: dict[str, str]) -> None:
    lines = found.to_cells()
    for columns in _parts(found, out.width):
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
        table.add_column("", no_wrap=True)
        for column in columns:
            table.add_column(escape(found.profiles[column].name), justify="right")
            if column:
                table.add_column("", style="bold", no_wrap=True)
        for label, cells in lines:
            row = [f"[dim]{label}[/]" if label.startswith(" ") else label]
            for column in columns:
                value, ratio = cells[column]
                row += [escape(value), ratio] if column else [escape(value)]
            table.add_row(*row)
        out.print(table, highlight=False)
        out.print()
    for name, text in texts.items():
        out.print(f"[bold]{escape(name)}[/]: {escape(text)}", highlight=False)
    published = [profile for profile in found.profiles if profile.published_error]
    if published:
        out.print("[bold]published errors[/]")
    for profile in published:
        out.print(f"- {escape(profile.name)}: {escape(profile.published_error)}", highlight=False)
    if found.remarks:
        out.print("[bold]remarks[/]")
    for remark in found.remarks:
        out.print(f"- {escape(remark)}", highlight=False)
    out.print(
        f"[dim]Ratios to {escape(found.profiles[0].name)}. For one image, as at test time; 1 MAC = 2 FLOP, of"
        " convolutions and matrix products. Activations by the lecture ledger: the input and each output"
        " once, ReLU and batch normalisation in place. Receptive field of the last convolution, pool or join"
        " whose maps are larger than 1x1.[/]",
        highlight=False,
    )
