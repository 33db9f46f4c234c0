"""``striate look deconv``."""

from pathlib import Path
from typing import Annotated

import typer

from striate.cli.look_input import (
    ARG_HELP,
    IMAGE_HELP,
    INPUT_HELP,
    NETWORK_HELP,
    OUTPUT_HELP,
    SEED_HELP,
    load_image,
    maps_path,
    open_network,
    picture_path,
)
from striate.cli.show import Listener
from striate.core.errors import UsageError

_MOST = 24


def deconv(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORK_HELP)],
    image: Annotated[str, typer.Argument(metavar="IMAGE", help=IMAGE_HELP)],
    layer: Annotated[
        str | None,
        typer.Option(help="A convolution, ReLU, pool, block or fully connected layer. Default: last maps."),
    ] = None,
    unit: Annotated[
        list[int] | None,
        typer.Option(help="Number of the unit's map. Repeatable. Default: the strongest in this image."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=_MOST, help="How many of the strongest units.")] = 4,
    at: Annotated[
        str | None, typer.Option(metavar="ROW,COL", help="Place in the map. Default: where it is largest.")
    ] = None,
    seed: Annotated[int, typer.Option(help=SEED_HELP)] = 0,
    input: Annotated[str | None, typer.Option(metavar="CxHxW", help=INPUT_HELP)] = None,
    arg: Annotated[list[str] | None, typer.Option(help=ARG_HELP)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help=OUTPUT_HELP)] = None,
) -> None:
    """Show what in an image made units fire: deconvnet, guided backpropagation and gradient side by side.

    Example:  [bold]striate look deconv runs/demo digits:12 --layer C3_relu[/]

    Example:  [bold]striate look deconv vgg16 sample:china.jpg --layer relu4_3 --unit 7 --at 10,12[/]
    """
    place = None if at is None else read_place(at)
    if unit and len(unit) > _MOST:
        raise UsageError(f"expected at most {_MOST} units on a picture, got {len(unit)}: name fewer --unit")
    picture = picture_path(output, "deconv", Path(network).name, layer or "", Path(image).stem)
    from striate.look.deconv_picture import SHARE, projection_arrays, unit_rows
    from striate.look.deconvnet import compare_rules, strongest_channels
    from striate.look.gradcam import last_maps
    from striate.look.picture import save_maps, save_picture

    opened = open_network(network, seed=seed, input=input, arguments=arg or ())
    loaded = load_image(image, opened.preprocessing)
    name = layer or last_maps(opened.net, opened.input_shape)
    channels = unit or strongest_channels(opened.net, loaded.normed, name, count)
    with Listener() as listener:
        views = compare_rules(opened.net, loaded.normed, name, channels=channels, at=place, progress=listener)
    rows = unit_rows(views, 0, shown=loaded.shown[0], colour_order=opened.preprocessing.colour_order)
    chosen = "as asked for" if unit else "the strongest in this image, strongest first"
    where = "the place asked for" if place else "where each is largest"
    caption = (
        f"{opened.title}; {loaded.names[0]}. One unit in each row: {chosen}; {where}. Its activation is sent"
        " back to the pixels; at a ReLU with input x, the signal R goes on where R > 0 (deconvnet), where"
        " x > 0 and R > 0 (guided), where x > 0 (gradient). A frame marks what the unit can"
        f" see by arithmetic; {SHARE:.1%} of the values lie inside each scale."
    )
    extensions = sorted({extension for view in views for extension in view.extensions})
    if extensions:
        caption += f"\nNot defined by the deconvnet's paper: {'; '.join(extensions)}."
    save_picture(
        rows,
        picture,
        title=f"What makes units of {name} fire: {opened.title.partition(',')[0]}",
        caption=caption,
    )
    save_maps(maps_path(picture), **projection_arrays(views, 0))
    print(picture)


def read_place(text: str) -> tuple[int, int]:
    """Read ``ROW,COL``.

    Raises:
        UsageError: anything else.
    """
    words = text.split(",")
    if len(words) != 2 or not all(word.strip().isdecimal() for word in words):
        raise UsageError(f"expected --at as ROW,COL, such as 3,5, got {text!r}")
    return int(words[0]), int(words[1])
