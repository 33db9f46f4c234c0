"""``striate nets``."""

import json as json_module
from typing import Annotated

import typer
from rich.table import Table

from striate.cli.show import out


def nets(
    json: Annotated[bool, typer.Option("--json", help="Print a JSON array instead of a table.")] = False,
) -> None:
    """List the networks: year, input, parameters, multiply-accumulates, published error.

    Example:  [bold]striate nets[/]
    """
    from striate.nets import NETS, describe

    found = [(entry, describe(name)) for name, entry in NETS.items()]
    if json:
        rows = [
            {
                "name": entry.name,
                "title": entry.title,
                "year": entry.year,
                "paper": entry.paper,
                "input": list(summary.input_shape),
                "classes": summary.num_classes,
                "parameters": summary.parameters,
                "macs": summary.macs,
                "published_error": entry.published_error,
                "recipe": entry.recipe,
                "departures": list(entry.departures),
                "page": entry.page,
            }
            for entry, summary in found
        ]
        print(json_module.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "year", "input", "parameters", "MACs", "published error"):
        right = heading in ("parameters", "MACs")
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "published error")
    for entry, summary in found:
        channels, height, width = summary.input_shape
        error = (
            "not published" if entry.published_error.startswith("not published") else entry.published_error
        )
        table.add_row(
            entry.name,
            str(entry.year),
            f"{channels}x{height}x{width}",
            f"{summary.parameters:,}",
            _in_short(summary.macs),
            error.partition(" (")[0],
        )
    out.print(table)
    out.print("[dim]1 MAC = 2 FLOP; convolutions and fully connected layers, one image. Pages: docs/nets[/]")


def _in_short(macs: int) -> str:
    return f"{macs / 1e9:.2f} G" if macs >= 1e9 else f"{macs / 1e6:.2f} M"
