"""``striate look deconv``."""

from typing import Annotated

import typer

from striate.cli.look_options import (
    AtOption,
    ImageArgument,
    PictureOption,
    UnitsOption,
    check_picture,
    open_network,
    read_place,
    write,
)
from striate.cli.options import (
    ArgOption,
    BatchOption,
    DeviceOption,
    InputOption,
    NetworkArgument,
    SeedOption,
    compute_of,
)
from striate.cli.show import Listener


def deconv(
    network: NetworkArgument,
    image: ImageArgument,
    layer: Annotated[
        str | None,
        typer.Option(help="A convolution, ReLU, pool, block or fully connected layer. Default: last maps."),
    ] = None,
    unit: UnitsOption = None,
    top: Annotated[int, typer.Option("--top", min=1, max=24, help="How many of the strongest units.")] = 4,
    at: AtOption = None,
    batch: BatchOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    input: InputOption = None,
    arg: ArgOption = None,
    out: PictureOption = None,
) -> None:
    """Show what in an image made units fire: deconvnet, guided backpropagation and gradient side by side.

    Example:  [bold]striate look deconv runs/demo digits:12 --layer C3_relu[/]

    Example:  [bold]striate look deconv vgg16 sample:china.jpg --layer relu4_3 --unit 7 --at 10,12[/]
    """
    place = read_place(at)
    check_picture(out)
    from striate.look.deconv_picture import show_deconvnet
    from striate.look.inputs import unit_numbers

    opened = open_network(network, seed, input, arg)
    with Listener() as listener:
        picture = show_deconvnet(
            opened,
            image,
            layer=layer,
            unit=unit_numbers(unit or ()),
            at=place,
            top=top,
            compute=compute_of(device, "fp32", batch),
            progress=listener,
        )
    write(picture, out)
