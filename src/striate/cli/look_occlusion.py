"""``striate look occlusion``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from striate.cli.look_input import (
    ARG_HELP,
    IMAGE_HELP,
    INPUT_HELP,
    NETWORK_HELP,
    OUTPUT_HELP,
    SEED_HELP,
    find_class,
    load_images,
    maps_path,
    open_network,
    picture_path,
)
from striate.cli.show import Listener, out
from striate.core.errors import UsageError

_SIZE_AT_224, _STRIDE_AT_224, _MOST_IMAGES = 50, 10, 16


def occlusion(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORK_HELP)],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help=IMAGE_HELP)],
    size: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            help="Side of the occluder; default: 50 of 224 px, in proportion.",
            show_default=False,
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(metavar="PX", help="Step; default: 10 of 224 px, in proportion.", show_default=False),
    ] = None,
    fill: Annotated[
        str, typer.Option(help="grey (mid grey, the paper's), mean (of the training), or blur.")
    ] = "grey",
    blur: Annotated[
        float | None,
        typer.Option(
            metavar="PX", help="Gaussian of --fill blur; default: a fifth of the size.", show_default=False
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="Name or number of the class; default: what the network says of the whole image.",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="L", help="Whose map is summed; default: the top convolution layer.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help=OUTPUT_HELP, show_default=False)
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Images in a forward pass; default: a fast number.", show_default=False),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="auto takes bf16 (3 digits) where the hardware has it; fp32 is exact.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help=SEED_HELP)] = 0,
    input: Annotated[str | None, typer.Option(metavar="CxHxW", help=INPUT_HELP)] = None,
    arguments: Annotated[list[str] | None, typer.Option("--arg", help=ARG_HELP)] = None,
) -> None:
    """Slide a grey square over an image: which parts does the network need?

    Three maps, as in Zeiler and Fergus 2013: the sum of the strongest feature map, the probability of the
    class, and the most probable label, each by where the square is.

    Example:  [bold]striate look occlusion runs/demo dog.jpg[/]

    Example:  [bold]striate look occlusion vgg16 sample:flower.jpg --size 40 --fill blur -o flower.png[/]
    """
    path = None if output is None else picture_path(output, "occlusion")
    if fill not in ("grey", "mean", "blur"):
        raise UsageError(f"expected --fill grey, mean or blur, got {fill!r}")
    from striate.core.compute import pick_device, pick_precision
    from striate.look.occlusion import fill_of, occlude
    from striate.look.occlusion_picture import draw_occlusion

    opened = open_network(network, seed=seed, input=input, arguments=arguments or [])
    chosen = None if target is None else find_class(target, opened.classes)
    loaded = load_images(images, opened.preprocessing)
    if len(loaded.names) > _MOST_IMAGES:
        raise UsageError(
            f"expected at most {_MOST_IMAGES} images in one picture, got {len(loaded.names)}: name fewer"
        )
    side = min(opened.input_shape[1:])
    size_px = max(1, round(_SIZE_AT_224 / 224 * side)) if size is None else size
    stride_px = max(1, round(_STRIDE_AT_224 / 224 * side)) if stride is None else stride
    blur_px = max(1.0, size_px / 5) if blur is None else blur
    place = pick_device(device)  # type: ignore[arg-type]
    chosen_precision = pick_precision(precision, place)  # type: ignore[arg-type]
    normed = loaded.normed.to(place)
    with Listener() as listener:
        maps = occlude(
            opened.net.to(place),
            normed,
            chosen,
            size_px=size_px,
            stride_px=stride_px,
            fill=fill_of(fill, normed, opened.preprocessing, blur_px=blur_px),  # type: ignore[arg-type]
            layer=layer,
            multi_label=opened.multi_label,
            temperature=opened.temperature,
            batch_images=batch,
            precision=chosen_precision,
            progress=listener,
        )
    title = opened.title
    path = path or picture_path(None, "occlusion", title.partition(",")[0], Path(loaded.names[0]).stem)
    draw_occlusion(
        maps,
        path,
        maps_path(path),
        shown=loaded.shown,
        names=loaded.names,
        classes=opened.classes,
        network=title,
        preprocessing=opened.preprocessing,
        fill=fill,  # type: ignore[arg-type]
        blur_px=blur_px,
        note="Computed in bfloat16." if chosen_precision == "bf16" else "",
    )
    out.print(f"{escape(str(path))}, {escape(str(maps_path(path)))}", highlight=False, soft_wrap=True)
