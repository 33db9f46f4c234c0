"""``striate look`` with a data set: one function a command."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from striate.cli import look_options as look
from striate.cli import options
from striate.cli.show import Listener, err
from striate.core.choices import Rule
from striate.core.errors import UsageError


def strongest(
    network: options.NetworkArgument,
    data: Annotated[list[str], typer.Option(*options.DATA, help=look.DATA_HELP)],
    layer: Annotated[str, typer.Option(help="The layer: a ReLU, a convolution, a block, fully connected.")],
    unit: look.UnitsOption = None,
    top: Annotated[int, typer.Option("--top", min=1, max=100, help="Images for each unit.")] = 9,
    rule: Annotated[Rule, typer.Option("--rule", help="Of the projections.")] = "deconvnet",
    split: options.SplitOption = "auto",
    batch: options.BatchOption = None,
    device: options.DeviceOption = "auto",
    seed: options.SeedOption = 0,
    input: options.InputOption = None,
    arg: options.ArgOption = None,
    out: look.PictureOption = None,
) -> None:
    """Show what excites units: the patches of their strongest images beside the projections of each.

    One pass over the data in constant memory. Type the same command again to continue an interrupted pass.
    The .npz holds the strongest images of all units, also of those that are not drawn.

    Example:  [bold]striate look strongest runs/demo --data digits --layer relu2[/]
    """
    from striate.look.inputs import unit_numbers
    from striate.look.strongest_picture import show_strongest

    opened = look.open_network(network, seed, input, arg)
    path = out or look.default_path("strongest", opened, layer)
    state = path.with_suffix(".state")
    try:
        with Listener() as listener:
            picture = show_strongest(
                opened,
                data,
                layer=layer,
                unit=unit_numbers(unit or ()),
                top=top,
                rule=rule,
                split=split,
                state=state,
                compute=options.compute_of(device, "fp32", batch),
                progress=listener,
            )
    except KeyboardInterrupt:
        if state.exists():
            err.print(f"[yellow]the pass is kept in {escape(str(state))}: the same command continues it[/]")
        raise
    look.write(picture, path, numbers=True)
    for line in picture.notes:
        err.print(f"[yellow]{escape(line)}[/]")


def receptive(
    network: options.NetworkArgument,
    data: Annotated[list[str], typer.Option(*options.DATA, help=look.DATA_HELP)],
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
    split: options.SplitOption = "auto",
    batch: options.BatchOption = None,
    device: options.DeviceOption = "auto",
    seed: options.SeedOption = 0,
    input: options.InputOption = None,
    arg: options.ArgOption = None,
    out: look.PictureOption = None,
) -> None:
    """Measure the receptive field of a unit with random occluders, beside the theoretical one.

    The unit's strongest images are covered by small squares of random pixels, one at a time; where that
    changes the activation, the unit looks (Zhou et al. 2015).

    Example:  [bold]striate look receptive runs/demo --data digits --layer relu2 --unit 3[/]
    """
    from striate.look.receptive_picture import show_receptive

    opened = look.open_network(network, seed, input, arg)
    path = out or look.default_path("receptive", opened, layer, unit)
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
            compute=options.compute_of(device, "fp32", batch),
            progress=listener,
        )
    for line in picture.notes:
        print(line)
    look.write(picture, path, numbers=True)


def segment(
    network: options.NetworkArgument,
    images: look.ImagesArgument,
    layer: Annotated[str, typer.Option(help="A layer with maps.")],
    unit: Annotated[int, typer.Option(min=0, help="Number of the map.")],
    share: Annotated[
        float, typer.Option(help="Threshold: this share of the strongest activation in the same image.")
    ] = 0.5,
    data: Annotated[
        list[str] | None,
        typer.Option(
            *options.DATA, help=f"Threshold from a data set instead, see --quantile. {look.DATA_HELP}"
        ),
    ] = None,
    quantile: Annotated[
        float, typer.Option(help="With --data: share of the unit's activations above the threshold.")
    ] = 0.005,
    split: options.SplitOption = "auto",
    batch: options.BatchOption = None,
    device: options.DeviceOption = "auto",
    seed: options.SeedOption = 0,
    input: options.InputOption = None,
    arg: options.ArgOption = None,
    out: look.PictureOption = None,
) -> None:
    """Mark what a unit fires on, as a mask over the image.

    Without --data the threshold is a share of the strongest activation in each image; with it, the activation
    that the unit exceeds at 0.5 % of all places of the data set.

    Example:  [bold]striate look segment runs/demo photo.jpg --layer relu2 --unit 3[/]
    """
    from striate.look.segment_picture import show_segment

    opened = look.open_network(network, seed, input, arg)
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
            compute=options.compute_of(device, "fp32", batch),
            progress=listener,
        )
    look.write(picture, out, numbers=True)


def gallery(
    network: options.NetworkArgument,
    data: Annotated[list[str], typer.Option(*options.DATA, help=look.DATA_HELP)],
    layer: Annotated[
        list[str] | None, typer.Option(help="A convolution; repeatable. Default: all of them.")
    ] = None,
    num_units: Annotated[int, typer.Option("--num-units", min=1, help="Units shown of each layer.")] = 4,
    top: Annotated[int, typer.Option("--top", min=1, max=25, help="Images for each unit.")] = 9,
    examples: Annotated[int, typer.Option(min=0, help="Images under the occluder.")] = 3,
    split: options.SplitOption = "auto",
    batch: options.BatchOption = None,
    device: options.DeviceOption = "auto",
    seed: options.SeedOption = 0,
    input: options.InputOption = None,
    arg: options.ArgOption = None,
    out: Annotated[
        Path | None, typer.Option(*options.OUT, metavar="FILE", help="The page, ending in .html.")
    ] = None,
) -> None:
    """Make a page that shows a whole network: filters, strongest images of every convolution, occlusion.

    One file that loads nothing, below 10 MB: it can be mailed, printed, and read on a phone.

    Example:  [bold]striate look gallery runs/demo --data digits -o gallery.html[/]
    """
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"expected --out with a file that ends in .html, got {out}")
    from striate.core.atomic import write_text_atomic
    from striate.report.gallery import render, show_gallery

    opened = look.open_network(network, seed, input, arg)
    path = out or look.default_path("gallery", opened).with_suffix(".html")
    with Listener() as listener:
        found = show_gallery(
            opened,
            data,
            layer=layer,
            num_units=num_units,
            top=top,
            examples=examples,
            split=split,
            state=path.with_suffix(".state"),
            compute=options.compute_of(device, "fp32", batch),
            progress=listener,
        )
    write_text_atomic(path, render(found))
    print(path)
