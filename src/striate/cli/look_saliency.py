"""``striate look saliency``."""

from typing import Annotated, get_args

import typer

from striate.cli.look_options import ImageArgument, PictureOption, check_picture, open_network, write
from striate.cli.options import (
    ArgOption,
    BatchOption,
    ClassOption,
    DeviceOption,
    InputOption,
    NetworkArgument,
    SeedOption,
    compute_of,
)
from striate.cli.show import Listener
from striate.core.choices import Baseline, SaliencyMethod


def saliency(
    network: NetworkArgument,
    image: ImageArgument,
    method: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(get_args(SaliencyMethod))}. Repeatable. Default: all."),
    ] = None,
    cls: ClassOption = None,
    samples: Annotated[int, typer.Option(min=1, help="smoothgrad: noisy copies.")] = 50,
    noise: Annotated[
        float, typer.Option(min=0, help="smoothgrad: standard deviation, as a share of the image's range.")
    ] = 0.15,
    steps: Annotated[int, typer.Option(min=1, help="integrated: points between baseline and image.")] = 64,
    baseline: Annotated[Baseline, typer.Option("--baseline", help="integrated: where it starts.")] = "black",
    batch: BatchOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    input: InputOption = None,
    arg: ArgOption = None,
    out: PictureOption = None,
) -> None:
    """Show which pixels a class score depends on: gradient, guided, SmoothGrad, integrated gradients.

    Example:  [bold]striate look saliency runs/demo digits:12[/]

    Example:  [bold]striate look saliency runs/birds photo.jpg --method smoothgrad --class quail[/]
    """
    check_picture(out)
    from striate.look.saliency_picture import METHODS, show_saliency

    opened = open_network(network, seed, input, arg)
    with Listener() as listener:
        picture = show_saliency(
            opened,
            image,
            cls=cls,
            method=method or METHODS,
            samples=samples,
            noise=noise,
            steps=steps,
            baseline=baseline,
            seed=seed,
            compute=compute_of(device, "fp32", batch),
            progress=listener,
        )
    write(picture, out)
    for line in picture.notes:
        print(line)
