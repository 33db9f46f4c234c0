"""``striate look filters``."""

from typing import Annotated

import typer

from striate.cli.look_options import PictureOption, UnitsOption, check_picture, open_network, write
from striate.cli.options import ArgOption, InputOption, NetworkArgument, SeedOption


def filters(
    network: NetworkArgument,
    layer: Annotated[str | None, typer.Option(help="A convolution, e.g. conv2; default: the first.")] = None,
    unit: UnitsOption = None,
    top: Annotated[
        int | None, typer.Option("--top", min=1, help="How many filters; default: 128 tiles, 16 rows.")
    ] = None,
    channels: Annotated[
        int, typer.Option("--channels", min=1, help="How many input channels of deeper layers.")
    ] = 24,
    shared: Annotated[
        bool, typer.Option("--shared", help="One scale for all filters; otherwise each has its own.")
    ] = False,
    seed: SeedOption = 0,
    input: InputOption = None,
    arg: ArgOption = None,
    out: PictureOption = None,
) -> None:
    """Draw the filters of a layer: the first in colour, deeper ones channel by channel.

    Example:  [bold]striate look filters runs/demo[/]

    Example:  [bold]striate look filters vgg16 --layer conv3_2 --top 8 -o filters.png[/]
    """
    check_picture(out)
    from striate.look.filter_picture import show_filters
    from striate.look.inputs import unit_numbers

    opened = open_network(network, seed, input, arg)
    numbers = unit_numbers(unit or ())
    picture = show_filters(opened, layer=layer, unit=numbers, top=top, channels=channels, shared=shared)
    write(picture, out, numbers=True)
