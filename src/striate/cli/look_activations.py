"""``striate look activations``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from striate.cli.look_input import (
    ARG_HELP,
    IMAGE_HELP,
    INPUT_HELP,
    NETWORK_HELP,
    OUTPUT_HELP,
    SEED_HELP,
    load_image,
    maps_path,
    open_network,
    picture_path,
)
from striate.cli.show import out
from striate.core.errors import UsageError


def activations(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORK_HELP)],
    image: Annotated[str, typer.Argument(metavar="IMAGE", help=IMAGE_HELP)],
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="L",
            help="One layer in detail; several, a row each; default: the main layers, a row each.",
            show_default=False,
        ),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            metavar="C[:ROW,COL]",
            help="A map of the layer, from 0, and a unit in it; default: the strongest.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        str, typer.Option(help="What makes a map strong: its largest value (max) or its mean (mean).")
    ] = "max",
    most: Annotated[
        int | None,
        typer.Option(
            "--maps", min=1, help="How many maps; default: 24 of one layer, 8 a row.", show_default=False
        ),
    ] = None,
    own: Annotated[bool, typer.Option("--own", help="Each map on its own scale.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help=OUTPUT_HELP, show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help=SEED_HELP)] = 0,
    input: Annotated[str | None, typer.Option(metavar="CxHxW", help=INPUT_HELP)] = None,
    arguments: Annotated[list[str] | None, typer.Option("--arg", help=ARG_HELP)] = None,
) -> None:
    """Draw the feature maps that an image gives, the strongest first, and what a unit sees of the image.

    Example:  [bold]striate look activations runs/demo digits:12[/]

    Example:  [bold]striate look activations vgg16 dog.jpg --layer relu3_3 --unit 41:20,11 -o maps.png[/]
    """
    path = None if output is None else picture_path(output, "activations")
    place = None if unit is None else _unit(unit)
    if place is not None and len(layers or []) != 1:
        raise UsageError("expected one --layer with --unit: units are numbered within a layer")
    if by not in ("max", "mean"):
        raise UsageError(f"expected --by max or mean, got {by!r}")
    from striate.look.maps import maps_of_image
    from striate.look.maps_picture import MOST_MAPS, PER_ROW, Subject, draw_layer, draw_overview

    opened = open_network(network, seed=seed, input=input, arguments=arguments or [])
    loaded = load_image(image, opened.preprocessing)
    found = maps_of_image(opened.net, loaded.normed, layers or None, by=by)  # type: ignore[arg-type]
    subject = Subject(network=opened.title, image=loaded.names[0], shown=loaded.shown[0])
    words = (opened.title.partition(",")[0], *(layers or ()), unit or "", Path(loaded.names[0]).stem)
    path = path or picture_path(None, "activations", *words)
    if layers and len(found) == 1:
        chosen = found[0].unit(*(place or ()))
        draw_layer(found[0], subject, path, unit=chosen, most=most or MOST_MAPS, own_scale=own)
    else:
        draw_overview(found, subject, path, most=most or PER_ROW, own_scale=own)
    out.print(f"{escape(str(path))}, {escape(str(maps_path(path)))}", highlight=False, soft_wrap=True)


def _unit(text: str) -> tuple[int, ...]:
    """Read ``C`` or ``C:ROW,COL``."""
    channel, colon, rest = text.partition(":")
    words = [channel, *(rest.split(",") if colon else ())]
    if not all(word.strip().isdecimal() for word in words) or len(words) not in (1, 3):
        raise UsageError(f"expected --unit as C or C:ROW,COL, such as 41:20,11, got {text!r}")
    return tuple(int(word) for word in words)
