"""``striate look sanity``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from striate.cli.look_input import (
    ARG_HELP,
    IMAGE_HELP,
    INPUT_HELP,
    NETWORK_HELP,
    OUTPUT_HELP,
    class_name,
    find_class,
    load_image,
    maps_path,
    open_network,
    picture_path,
)
from striate.cli.show import Listener, out
from striate.core.errors import UsageError

if TYPE_CHECKING:
    from striate.look.sanity import Method

METHODS = ("gradient", "guided", "deconvnet", "smoothgrad", "integrated", "gradcam")


def sanity(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORK_HELP)],
    image: Annotated[str, typer.Argument(metavar="IMAGE", help=IMAGE_HELP)],
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS)}.")] = "gradient",
    target: Annotated[
        str | None, typer.Option("--class", help="Name or number. Default: the network's first choice.")
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="Layers to make random, bottom first. Repeatable. Default: all with weights."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all random weights, and of smoothgrad's noise.")] = 0,
    input: Annotated[str | None, typer.Option(metavar="CxHxW", help=INPUT_HELP)] = None,
    arg: Annotated[list[str] | None, typer.Option(help=ARG_HELP)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help=OUTPUT_HELP)] = None,
) -> None:
    """Make the weights random layer by layer from the top: does the picture change?

    A picture that stays the same does not show what the network learned.

    Example:  [bold]striate look sanity runs/demo digits:12 --method guided[/]
    """
    if method not in METHODS:
        raise UsageError(f"expected --method of {', '.join(METHODS)}, got {method!r}")
    picture = picture_path(output, "sanity", Path(network).name, method, Path(image).stem)
    import numpy as np

    from striate.look.amount_panels import SHARE
    from striate.look.picture import save_maps, save_picture
    from striate.look.saliency import targets
    from striate.look.sanity import sanity as check
    from striate.look.sanity_picture import in_words, sanity_panels

    opened = open_network(network, seed=seed, input=input, arguments=arg or ())
    loaded = load_image(image, opened.preprocessing)
    asked = None if target is None else find_class(target, opened.classes)
    number = int(targets(opened.net, loaded.normed, asked)[0])
    with Listener() as listener:
        stages = check(
            opened.net,
            loaded.normed,
            number,
            method=_method(method, seed),
            layers=layer,
            seed=seed,
            progress=listener,
        )
    word = class_name(number, opened.classes)
    caption = (
        f"{opened.title}; {loaded.names[0]}; {method} of the score of {word!r}. From the top down, layer by"
        " layer, weights are drawn anew from a normal distribution of the same spread, biases are shuffled"
        f" (seed {seed}). Maps: largest magnitude over the colours, each on its own scale, {SHARE:.1%} of the"
        " values inside. Rank correlation (Spearman) and SSIM of the magnitudes. A method whose picture stays"
        " alike does not show what was learned."
    )
    save_picture(
        sanity_panels(stages, 0, shown=loaded.shown[0], name=loaded.names[0]),
        picture,
        title=f"Sanity check of {method}: {opened.title.partition(',')[0]}",
        caption=caption,
    )
    save_maps(
        maps_path(picture),
        layers=np.array([stage.layer for stage in stages]),
        maps=np.stack([stage.maps[0].numpy() for stage in stages]),
        rank_correlation=np.array([float(stage.rank_correlation[0]) for stage in stages]),
        similarity=np.array([float(stage.similarity[0]) for stage in stages]),
    )
    print(picture)
    for stage in stages[1:]:
        out.print(
            f"{stage.layer} and above random: rank correlation {in_words(float(stage.rank_correlation[0]))}",
            highlight=False,
        )


def _method(name: str, seed: int) -> "Method":
    from functools import partial

    from striate.look import saliency
    from striate.look.gradcam import grad_cam

    methods: dict[str, Method] = {
        "gradient": saliency.gradient,
        "guided": saliency.guided,
        "deconvnet": partial(saliency.gradient, rule="deconvnet"),
        "smoothgrad": partial(saliency.smooth_grad, seed=seed),
        "integrated": saliency.integrated_gradients,
        "gradcam": grad_cam,
    }
    return methods[name]
