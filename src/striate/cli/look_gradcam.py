"""``striate look gradcam``."""

from typing import Annotated

import typer

from striate.cli.look_options import ImageArgument, PictureOption, check_picture, open_network, write
from striate.cli.options import (
    ArgOption,
    ClassesOption,
    DeviceOption,
    InputOption,
    NetworkArgument,
    SeedOption,
    compute_of,
)
from striate.cli.show import Listener


def gradcam(
    network: NetworkArgument,
    image: ImageArgument,
    cls: ClassesOption = None,
    top: Annotated[
        int, typer.Option("--top", min=1, max=10, help="How many of the network's first choices.")
    ] = 2,
    layer: Annotated[
        str | None, typer.Option(help="Default: the last maps larger than one pixel, not those of a pool.")
    ] = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    input: InputOption = None,
    arg: ArgOption = None,
    out: PictureOption = None,
) -> None:
    """Show where in an image the last maps support a class (Grad-CAM).

    Example:  [bold]striate look gradcam runs/demo digits:12[/]

    Example:  [bold]striate look gradcam runs/birds photo.jpg --class quail --class goose[/]
    """
    check_picture(out)
    from striate.look.gradcam_picture import show_gradcam

    opened = open_network(network, seed, input, arg)
    compute = compute_of(device, "fp32")
    with Listener() as listener:
        picture = show_gradcam(
            opened, image, cls=cls, layer=layer, top=top, compute=compute, progress=listener
        )
    write(picture, out)
