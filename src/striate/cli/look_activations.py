"""``striate look activations``."""

from typing import Annotated

import typer

from striate.cli.look_options import (
    AtOption,
    ImageArgument,
    PictureOption,
    check_picture,
    open_network,
    read_place,
    write,
)
from striate.cli.options import (
    ArgOption,
    DeviceOption,
    InputOption,
    NetworkArgument,
    SeedOption,
    compute_of,
)
from striate.cli.show import Listener
from striate.core.choices import MapStrength
from striate.core.errors import UsageError


def activations(
    network: NetworkArgument,
    image: ImageArgument,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="One layer in detail; several, a row each; default: the main layers, a row each."),
    ] = None,
    unit: Annotated[
        str | None, typer.Option(metavar="N", help="A map of the layer, from 0; default: the strongest.")
    ] = None,
    at: AtOption = None,
    by: Annotated[
        MapStrength, typer.Option("--by", help="What makes a map strong: its largest value or its mean.")
    ] = "max",
    top: Annotated[
        int | None, typer.Option("--top", min=1, help="How many maps; default: 24 of one layer, 8 a row.")
    ] = None,
    own: Annotated[bool, typer.Option("--own", help="Each map on its own scale.")] = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    input: InputOption = None,
    arg: ArgOption = None,
    out: PictureOption = None,
) -> None:
    """Draw the feature maps that an image gives, the strongest first, and what a unit sees of the image.

    Example:  [bold]striate look activations runs/demo digits:12[/]

    Example:  [bold]striate look activations vgg16 dog.jpg --layer relu3_3 --unit 41 --at 20,11 -o maps.png[/]
    """
    number, colon, place = (unit or "").partition(":")  # C:ROW,COL is the old form of --unit C --at ROW,COL
    if unit is not None and not number.isdecimal():
        raise UsageError(f"expected --unit as the number of a map, such as 41, got {unit!r}")
    where = read_place(place if colon else at)
    check_picture(out)
    from striate.look.maps_picture import show_activations

    opened = open_network(network, seed, input, arg)
    with Listener() as listener:
        picture = show_activations(
            opened,
            image,
            layer=layer,
            unit=None if unit is None else int(number),
            at=where,
            by=by,
            top=top,
            own_scale=own,
            compute=compute_of(device, "fp32"),
            progress=listener,
        )
    write(picture, out, numbers=True)
