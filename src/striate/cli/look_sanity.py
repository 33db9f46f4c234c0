"""``striate look sanity``."""

from typing import Annotated

import typer

from striate.cli.look_options import ImageArgument, PictureOption, check_picture, open_network, write
from striate.cli.options import (
    ArgOption,
    ClassOption,
    DeviceOption,
    InputOption,
    NetworkArgument,
    SeedOption,
    compute_of,
)
from striate.cli.show import Listener
from striate.core.choices import SanityMethod


def sanity(
    network: NetworkArgument,
    image: ImageArgument,
    method: Annotated[SanityMethod, typer.Option("--method", help="What makes the maps.")] = "gradient",
    cls: ClassOption = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="Layers to make random, bottom first. Repeatable. Default: all with weights."),
    ] = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    input: InputOption = None,
    arg: ArgOption = None,
    out: PictureOption = None,
) -> None:
    """Make the weights random layer by layer from the top: does the picture change?

    A picture that stays the same does not show what the network learned.

    Example:  [bold]striate look sanity runs/demo digits:12 --method guided[/]
    """
    check_picture(out)
    from striate.look.sanity_picture import show_sanity

    opened = open_network(network, seed, input, arg)
    with Listener() as listener:
        picture = show_sanity(
            opened,
            image,
            cls=cls,
            method=method,
            layer=layer,
            seed=seed,
            compute=compute_of(device, "fp32"),
            progress=listener,
        )
    write(picture, out)
    for line in picture.notes:
        print(line)
