"""``striate nets``: the list, and one network."""

import json as json_module
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.options import JsonOption
from striate.cli.show import Listener, out

if TYPE_CHECKING:
    from striate.nets import NetEntry, NetSummary

app = typer.Typer(invoke_without_command=True)


@app.callback()
def nets(
    context: typer.Context,
    json: JsonOption = False,
) -> None:
    """List the networks: year, input, parameters, MACs, published error; or show one.

    Example:  [bold]striate nets[/]

    Example:  [bold]striate nets show googlenet[/]
    """
    if context.invoked_subcommand is not None:
        return
    from striate.nets import NETS, describe

    found = []
    with Listener() as listener:
        for done, (name, entry) in enumerate(NETS.items()):
            listener("counting", done, len(NETS), name)
            found.append((entry, describe(name)))
    if json:
        print(json_module.dumps([_to_json(*one) for one in found], indent=2, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "year", "input", "parameters", "MACs", "published error, %"):
        right = heading in ("parameters", "MACs")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for entry, summary in found:
        table.add_row(
            entry.name,
            str(entry.year or ""),
            _by(summary.input_shape),
            f"{summary.parameters:,}",
            _in_short(summary.macs),
            _error_in_short(entry.published_error),
        )
    out.print(table)
    out.print(
        "[dim]Parameters as used at test time. 1 MAC = 2 FLOP; convolutions and fully connected layers, one"
        " image.\nTwo errors are top-1 / top-5 on ILSVRC. Their protocol, and departures from the paper:"
        " striate nets show NAME[/]"
    )


@app.command("show")
def show(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="Name of a network, or a .net file (docs/notation.md).")
    ],
    notation: Annotated[
        bool, typer.Option("--notation", help="Print only the network in the lectures' notation.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show one network: paper, size, published error, departures from the paper, layers.

    Example:  [bold]striate nets show alexnet[/]

    Example:  [bold]striate nets show vgg16 --notation > my.net[/]
    """
    from striate.nets import as_notation, describe, find

    entry = find(network)
    if notation:
        print(as_notation(entry.reference), end="")
        return
    summary = describe(entry.reference)
    if json:
        print(json_module.dumps(_to_json(entry, summary), indent=2, ensure_ascii=False))
        return
    _print(entry, summary)


def _print(entry: "NetEntry", summary: "NetSummary") -> None:
    out.print(f"[bold]{escape(entry.title)}[/]", highlight=False)
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    facts.add_row("paper", escape(entry.paper))
    if entry.year:
        facts.add_row("year", str(entry.year))
    if entry.aliases:
        facts.add_row("also called", ", ".join(entry.aliases))
    facts.add_row("input", f"{_by(summary.input_shape)} (channels x height x width)")
    facts.add_row("classes", f"{summary.num_classes:,}")
    more = summary.training_only_parameters
    auxiliary = f", and {more:,} in auxiliary classifiers that only training uses" if more else ""
    facts.add_row("parameters", f"{summary.parameters:,}{auxiliary}")
    facts.add_row("MACs", f"{summary.macs:,} ({_in_short(summary.macs)}; 1 MAC = 2 FLOP)")
    facts.add_row("published error", escape(entry.published_error))
    facts.add_row("arguments", _arguments(entry))
    facts.add_row("recipe", entry.recipe)
    facts.add_row("page", entry.page)
    out.print(facts, highlight=False)
    if entry.departures:
        out.print("\n[bold]Departures from the paper, and choices where it is silent[/]")
        for sentence in entry.departures:
            out.print(f"- {escape(sentence)}", highlight=False)
    out.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("output", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    for layer in summary.layers:
        parameters = f"{layer.parameters:,}" if layer.parameters else ""
        table.add_row(escape(layer.name), layer.kind, _by(layer.output), parameters)
    out.print(table, highlight=False)


def _arguments(entry: "NetEntry") -> str:
    from striate.nets import arguments_of

    written = [f"{key}={value!r}" for key, value in arguments_of(entry).items()]
    return escape(", ".join(written)) or "none"


def _to_json(entry: "NetEntry", summary: "NetSummary") -> dict[str, Any]:
    return {
        "name": entry.name,
        "aliases": list(entry.aliases),
        "title": entry.title,
        "year": entry.year,
        "paper": entry.paper,
        "input": list(summary.input_shape),
        "classes": summary.num_classes,
        "parameters": summary.parameters,
        "training_only_parameters": summary.training_only_parameters,
        "macs": summary.macs,
        "published_error": entry.published_error,
        "recipe": entry.recipe,
        "departures": list(entry.departures),
        "page": entry.page,
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "output": list(layer.output),
                "parameters": layer.parameters,
            }
            for layer in summary.layers
        ],
    }


def _error_in_short(error: str) -> str:
    """Turn "40.7 % top-1, 18.2 % top-5 on ILSVRC-2012 (validation ...)" into "40.7 / 18.2"."""
    if error.startswith("not published"):
        return ""
    short = error.partition(" (")[0]
    ranked = re.fullmatch(r"(?:([\d.]+) % top-1)?(?:, )?(?:([\d.]+) % top-5)? on ILSVRC-\d+", short)
    if ranked is not None:
        return f"{ranked[1] or '-'} / {ranked[2] or '-'}"
    return short.replace(" % test error on", " on").replace(" % on", " on")


def _by(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def _in_short(macs: int) -> str:
    return f"{macs / 1e9:.2f} G" if macs >= 1e9 else f"{macs / 1e6:.2f} M"
