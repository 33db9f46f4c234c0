"""``striate look segment``."""

from typing import Annotated

import typer

from striate.cli.look_options import (
    DATA_HELP,
    ImagesArgument,
    PictureOption,
    check_picture,
    open_network,
    write,
)
from striate.cli.options import (
    DATA,
    ArgOption,
    BatchOption,
    DeviceOption,
    InputOption,
    NetworkArgument,
    SeedOption,
    SplitOption,
    compute_of,
)
from striate.cli.show import Listener


def segment(
    network: NetworkArgument,
    images: ImagesArgument,
    layer: Annotated[str, typer.Option(help="A layer with maps.")],
    unit: Annotated[int, typer.Option(min=0, help="Number of the map.")],
    share: Annotated[
        float, typer.Option(help="Threshold: this share of the strongest activation in the same image.")
    ] = 0.5,
    data: Annotated[
        list[str] | None,
        typer.Option(*DATA, help=f"Threshold from a data set instead, see --quantile. {DATA_HELP}"),
    ] = None,
    quantile: Annotated[
        float, typer.Option(help="With --data: share of the unit's activations above the threshold.")
    ] = 0.005,
    split: SplitOption = "auto",
    batch: BatchOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    input: InputOption = None,
    arg: ArgOption = None,
    out: PictureOption = None,
) -> None:
    """Mark what a unit fires on, as a mask over the image.

    Without --data the threshold is a share of the strongest activation in each image; with it, the activation
    that the unit exceeds at 0.5 % of all places of the data set.

    Example:  [bold]striate look segment runs/demo photo.jpg --layer relu2 --unit 3[/]
    """
    check_picture(out)
    from striate.look.segment_picture import show_segment

    opened = open_network(network, seed, input, arg)
    with Listener() as listener:
        picture = show_segment(
            opened,
            images,
            layer=layer,
            unit=unit,
            share=share,
            data=data,
            quantile=quantile,
            split=split,
            compute=compute_of(device, "fp32", batch),
            progress=listener,
        )
    write(picture, out, numbers=True)
