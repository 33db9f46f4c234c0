"""``striate look gallery``."""

from pathlib import Path
from typing import Annotated

import typer

from striate.cli.look_options import DATA_HELP, open_network
from striate.cli.options import (
    DATA,
    OUT,
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
from striate.core.errors import UsageError


def gallery(
    network: NetworkArgument,
    data: Annotated[list[str], typer.Option(*DATA, help=DATA_HELP)],
    layer: Annotated[
        list[str] | None, typer.Option(help="A convolution; repeatable. Default: all of them.")
    ] = None,
    num_units: Annotated[int, typer.Option("--num-units", min=1, help="Units shown of each layer.")] = 4,
    top: Annotated[int, typer.Option("--top", min=1, max=25, help="Images for each unit.")] = 9,
    examples: Annotated[int, typer.Option(min=0, help="Images under the occluder.")] = 3,
    split: SplitOption = "auto",
    batch: BatchOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    input: InputOption = None,
    arg: ArgOption = None,
    out: Annotated[Path | None, typer.Option(*OUT, metavar="FILE", help="The page, ending in .html.")] = None,
) -> None:
    """Make a page that shows a whole network: filters, strongest images of every convolution, occlusion.

    One file that loads nothing, below 10 MB: it can be mailed, printed, and read on a phone.

    Example:  [bold]striate look gallery runs/demo --data digits -o gallery.html[/]
    """
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"expected --out with a file that ends in .html, got {out}")
    from striate.core.atomic import write_text_atomic
    from striate.look.inputs import network_name
    from striate.look.picture import file_name
    from striate.report.gallery import render, show_gallery

    opened = open_network(network, seed, input, arg)
    path = out or Path(f"{file_name('gallery', network_name(opened))}.html")
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
            compute=compute_of(device, "fp32", batch),
            progress=listener,
        )
    write_text_atomic(path, render(found))
    print(path)
