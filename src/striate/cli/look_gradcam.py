"""``striate look gradcam``."""

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
    class_name,
    find_class,
    load_image,
    maps_path,
    open_network,
    picture_path,
)


def gradcam(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORK_HELP)],
    image: Annotated[str, typer.Argument(metavar="IMAGE", help=IMAGE_HELP)],
    target: Annotated[
        list[str] | None,
        typer.Option("--class", help="Name or number. Repeatable. Default: the network's first choices."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=10, help="How many of its first choices.")] = 2,
    layer: Annotated[
        str | None, typer.Option(help="Default: the last maps larger than one pixel, pools apart.")
    ] = None,
    seed: Annotated[int, typer.Option(help=SEED_HELP)] = 0,
    input: Annotated[str | None, typer.Option(metavar="CxHxW", help=INPUT_HELP)] = None,
    arg: Annotated[list[str] | None, typer.Option(help=ARG_HELP)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help=OUTPUT_HELP)] = None,
) -> None:
    """Show where in an image the last maps speak for a class (Grad-CAM).

    Example:  [bold]striate look gradcam runs/demo digits:12[/]

    Example:  [bold]striate look gradcam runs/birds photo.jpg --class quail --class goose[/]
    """
    picture = picture_path(output, "gradcam", Path(network).name, layer or "", Path(image).stem)
    import numpy as np
    import torch

    from striate.look.amount_panels import SHARE, heat_panel, lit_panel
    from striate.look.gradcam import grad_cam, last_maps
    from striate.look.picture import Panel, save_maps, save_picture
    from striate.look.saliency import scores_of, targets

    opened = open_network(network, seed=seed, input=input, arguments=arg or ())
    loaded = load_image(image, opened.preprocessing)
    net, normed, shown = opened.net, loaded.normed, loaded.shown[0]
    name = layer or last_maps(net, opened.input_shape)
    with torch.no_grad():
        scores = scores_of(net, normed)[0]
    if target:
        numbers = [int(targets(net, normed, find_class(word, opened.classes))[0]) for word in target]
    else:
        numbers = scores.topk(min(count, len(scores))).indices.tolist()
    fine = [grad_cam(net, normed, number, layer=name)[0, 0].numpy() for number in numbers]
    coarse = [grad_cam(net, normed, number, layer=name, upsample=False)[0, 0].numpy() for number in numbers]
    height, width = coarse[0].shape
    rows = []
    for number, amounts in zip(numbers, fine, strict=True):
        word = class_name(number, opened.classes)
        nothing = "in units of the score" if amounts.max() > 0 else "nothing speaks for it"
        rows.append(
            [
                Panel(pixels=shown, title=f"{loaded.names[0]}\n{word}: score {float(scores[number]):.3g}"),
                heat_panel(amounts, title=f"Grad-CAM of {word!r}\n{nothing}", scale=" "),
                lit_panel(shown, amounts, title="the image where it is high"),
            ]
        )
    chosen = "as asked for" if target else "the network's first choices"
    caption = (
        f"{opened.title}; {loaded.names[0]}. Layer {name}, maps of {height} x {width}, each weighted by the"
        f" mean over its places of the gradient of the class score before the {opened.squashing}, summed;"
        f" what is above 0, enlarged bilinearly. {SHARE:.1%} of the values lie inside each scale."
        f" Classes: {chosen}."
    )
    save_picture(rows, picture, title=f"Grad-CAM: {opened.title.partition(',')[0]}, {name}", caption=caption)
    save_maps(maps_path(picture), classes=np.array(numbers), maps=np.stack(coarse), enlarged=np.stack(fine))
    print(picture)
