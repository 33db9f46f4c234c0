"""``striate look receptive``."""

from pathlib import Path
from typing import Annotated

import typer

from striate.cli.look_options import DATA_HELP, PictureOption, check_picture, open_network, write
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


def receptive(
    network: NetworkArgument,
    data: Annotated[list[str], typer.Option(*DATA, help=DATA_HELP)],
    layer: Annotated[str, typer.Option(help="A layer with maps.")],
    unit: Annotated[int, typer.Option(min=0, help="Number of the map.")],
    top: Annotated[int, typer.Option("--top", min=1, help="How many of its strongest images.")] = 10,
    size: Annotated[
        int | None,
        typer.Option(min=1, metavar="PX", help="Side of the occluders; default 11, below 100 px 3."),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(min=1, metavar="PX", help="Between them; default 3, below 100 px 1.")
    ] = None,
    above: Annotated[float, typer.Option(help="Share of the maximum that counts as inside.")] = 0.5,
    split: SplitOption = "auto",
    batch: BatchOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    input: InputOption = None,
    arg: ArgOption = None,
    out: PictureOption = None,
) -> None:
    """Measure the receptive field of a unit with random occluders, beside the theoretical one.

    The unit's strongest images are covered by small squares of random pixels, one at a time; where that
    changes the activation, the unit looks (Zhou et al. 2015).

    Example:  [bold]striate look receptive runs/demo --data digits --layer relu2 --unit 3[/]
    """
    check_picture(out)
    from striate.look.receptive_picture import receptive_name, show_receptive

    opened = open_network(network, seed, input, arg)
    path = out or Path(f"{receptive_name(opened, layer, unit)}.png")
    with Listener() as listener:
        picture = show_receptive(
            opened,
            data,
            layer=layer,
            unit=unit,
            top=top,
            size_px=size,
            stride_px=stride,
            above=above,
            split=split,
            seed=seed,
            state=path.with_suffix(".state"),
            compute=compute_of(device, "fp32", batch),
            progress=listener,
        )
    for line in picture.notes:
        print(line)
    write(picture, path, numbers=True)
