"""``striate look gallery``."""

import re
from pathlib import Path
from typing import Annotated

import typer

from striate.cli.look_data import DATA_HELP, SPLIT_HELP, open_data
from striate.cli.look_input import ARG_HELP, INPUT_HELP, NETWORK_HELP, SEED_HELP, open_network
from striate.cli.show import Listener
from striate.core.errors import UsageError


def gallery(
    bundle: Annotated[str, typer.Argument(help=NETWORK_HELP)],
    data: Annotated[list[str], typer.Option("--data", "-d", help=DATA_HELP)],
    layers: Annotated[
        list[str] | None, typer.Option("--layer", help="A convolution; repeatable. Default: all of them.")
    ] = None,
    units: Annotated[int, typer.Option(min=1, help="Units shown of each layer.")] = 4,
    k: Annotated[int, typer.Option("-k", min=1, max=25, help="Images for each unit.")] = 9,
    examples: Annotated[int, typer.Option(min=0, help="Images under the occluder.")] = 3,
    split: Annotated[str, typer.Option(help=SPLIT_HELP)] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help=SEED_HELP)] = 0,
    input: Annotated[str | None, typer.Option(help=INPUT_HELP)] = None,
    arg: Annotated[list[str] | None, typer.Option(help=ARG_HELP)] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The page, ending in .html.")] = None,
) -> None:
    """Make a page that shows a whole network: filters, strongest images of every convolution, occlusion.

    One file that loads nothing, below 10 MB: it can be mailed, printed, and read on a phone.

    Example:  [bold]striate look gallery runs/demo --data digits -o gallery.html[/]
    """
    from striate.core.atomic import write_text_atomic
    from striate.core.compute import pick_device
    from striate.look.occlusion import fill_of
    from striate.report.gallery import make_gallery, render

    if output is not None and output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"expected -o with a file that ends in .html, got {output}")
    opened = open_network(bundle, seed=seed, input=input, arguments=arg or ())
    source = open_data(data, opened.preprocessing, split=split, batch_images=batch)
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", opened.title.partition(",")[0])
    path = output or Path(f"gallery-{name}.html")
    net = opened.net.to(pick_device(device))  # type: ignore[arg-type]
    black, _ = source.images.extremes()
    with Listener() as listener:
        found = make_gallery(
            net,
            source.images,
            input_shape=opened.input_shape,
            title=opened.title,
            data=source.title,
            classes=opened.classes,
            multi_label=opened.multi_label,
            temperature=opened.temperature,
            fill=fill_of("grey", black[None, :, None, None], opened.preprocessing),
            layers=layers,
            units=units,
            k=k,
            examples=examples,
            state=path.with_suffix(".state"),
            progress=listener,
        )
    write_text_atomic(path, render(found))
    print(path)
