"""``striate look occlusion``."""

from typing import Annotated

import typer

from striate.cli.look_options import ImagesArgument, PictureOption, check_picture, open_network, write
from striate.cli.options import (
    ArgOption,
    BatchOption,
    ClassOption,
    DeviceOption,
    InputOption,
    NetworkArgument,
    PrecisionOption,
    SeedOption,
    compute_of,
)
from striate.cli.show import Listener
from striate.core.choices import Fill


def occlusion(
    network: NetworkArgument,
    images: ImagesArgument,
    size: Annotated[
        int | None,
        typer.Option(metavar="PX", help="Side of the occluder; default: 50 of 224 px, in proportion."),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(metavar="PX", help="Step; default: 10 of 224 px, in proportion.")
    ] = None,
    fill: Annotated[
        Fill, typer.Option("--fill", help="Mid grey (the paper's), the mean colour, or the blurred image.")
    ] = "grey",
    blur: Annotated[
        float | None,
        typer.Option(metavar="PX", help="Gaussian of --fill blur; default: a fifth of the size."),
    ] = None,
    cls: ClassOption = None,
    layer: Annotated[
        str | None, typer.Option(help="Whose map is summed; default: the top convolution layer.")
    ] = None,
    batch: BatchOption = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    input: InputOption = None,
    arg: ArgOption = None,
    out: PictureOption = None,
) -> None:
    """Slide a grey square over an image: which parts does the network need?

    Three maps, as in Zeiler and Fergus 2013: the sum of the strongest feature map, the probability of the
    class, and the most probable label, each by where the square is.

    Example:  [bold]striate look occlusion runs/demo dog.jpg[/]

    Example:  [bold]striate look occlusion vgg16 sample:flower.jpg --size 40 --fill blur -o flower.png[/]
    """
    check_picture(out)
    from striate.look.occlusion_picture import show_occlusion

    opened = open_network(network, seed, input, arg)
    with Listener() as listener:
        picture = show_occlusion(
            opened,
            images,
            cls=cls,
            layer=layer,
            size_px=size,
            stride_px=stride,
            fill=fill,
            blur_px=blur,
            compute=compute_of(device, precision, batch),
            progress=listener,
        )
    write(picture, out, numbers=True)
