"""``striate look filters``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from striate.cli.look_input import (
    ARG_HELP,
    INPUT_HELP,
    NETWORK_HELP,
    OUTPUT_HELP,
    SEED_HELP,
    maps_path,
    open_network,
    picture_path,
)
from striate.cli.show import out
from striate.core.errors import UsageError


def filters(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORK_HELP)],
    layer: Annotated[
        str | None,
        typer.Option(metavar="L", help="A convolution, e.g. conv2; default: the first.", show_default=False),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Numbers of filters, from 0, instead of the strongest."),
    ] = None,
    most_filters: Annotated[
        int | None,
        typer.Option(
            "--filters", min=1, help="How many filters; default: 128 tiles, 16 rows.", show_default=False
        ),
    ] = None,
    most_channels: Annotated[
        int, typer.Option("--channels", min=1, help="How many input channels of deeper layers.")
    ] = 24,
    shared: Annotated[
        bool, typer.Option("--shared", help="One scale for all filters; otherwise each has its own.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help=OUTPUT_HELP, show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help=SEED_HELP)] = 0,
    input: Annotated[str | None, typer.Option(metavar="CxHxW", help=INPUT_HELP)] = None,
    arguments: Annotated[list[str] | None, typer.Option("--arg", help=ARG_HELP)] = None,
) -> None:
    """Draw the filters of a layer: the first in colour, deeper ones channel by channel.

    Example:  [bold]striate look filters runs/demo[/]

    Example:  [bold]striate look filters vgg16 --layer conv3_2 --filters 8 -o filters.png[/]
    """
    path = None if output is None else picture_path(output, "filters")
    wanted = _numbers(only)
    from striate.look.filter_picture import draw_filters
    from striate.look.filters import read_filters

    opened = open_network(network, seed=seed, input=input, arguments=arguments or [])
    found = read_filters(opened.net, layer, input_shape=opened.input_shape)
    path = path or picture_path(None, "filters", opened.title.partition(",")[0], found.layer)
    draw_filters(
        found,
        path,
        network=opened.title,
        only=wanted,
        most_filters=most_filters,
        most_channels=most_channels,
        shared=shared,
        order=opened.preprocessing.colour_order,
    )
    out.print(f"{escape(str(path))}, {escape(str(maps_path(path)))}", highlight=False, soft_wrap=True)


def _numbers(text: str | None) -> list[int]:
    if text is None:
        return []
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"expected --only with numbers of filters, such as 0,5,17, got {text!r}")
    return [int(word) for word in words]
