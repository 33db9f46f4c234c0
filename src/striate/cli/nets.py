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

    rows = []
    for name, entry in NETS.items():
        summary = describe(name)
        rows.append(
            {
                "name": name,
                "year": entry.year,
                "title": entry.title,
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
        )
    if json:
        print(json_module.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "year", "input", "parameters", "MACs", "recipe", "published error"):
        table.add_column(heading, justify="right" if heading in ("parameters", "MACs") else "left", no_wrap=heading == "name")
    for row in rows:
        channels, height, width = row["input"]
        table.add_row(
            row["name"],
            str(row["year"]),
            f"{channels}x{height}x{width}",
            f"{row['parameters']:,}",
            _millions(row["macs"]),
            row["recipe"],
            row["published_error"],
        )
    out.print(table)
    out.print("[dim]1 MAC = 2 FLOP; convolutions and fully connected layers, one image. Pages: docs/nets[/]")


def _millions(macs: int) -> str:
    return f"{macs / 1e9:.2f} G" if macs >= 1e9 else f"{macs / 1e6:.2f} M"
