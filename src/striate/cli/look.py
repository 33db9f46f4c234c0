"""``striate look``: one subcommand a method."""

import typer

from striate.cli import look_filters, look_strongest

app = typer.Typer(no_args_is_help=True, help="Look inside a network: filters, activations, evidence.")
app.command("filters")(look_filters.filters)
app.command("strongest")(look_strongest.strongest)
