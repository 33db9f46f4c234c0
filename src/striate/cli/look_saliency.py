"""``striate look saliency``."""

from pathlib import Path
from typing import Annotated, Any

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
from striate.cli.show import Listener
from striate.core.errors import UsageError

METHODS = ("gradient", "guided", "smoothgrad", "integrated")


def saliency(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORK_HELP)],
    image: Annotated[str, typer.Argument(metavar="IMAGE", help=IMAGE_HELP)],
    method: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(METHODS)}. Repeatable. Default: all.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--class", help="Name or number. Default: the network's first choice.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="smoothgrad: noisy copies.")] = 50,
    noise: Annotated[
        float, typer.Option(min=0, help="smoothgrad: standard deviation, as a share of the image's range.")
    ] = 0.15,
    steps: Annotated[int, typer.Option(min=1, help="integrated: points between baseline and image.")] = 64,
    baseline: Annotated[str, typer.Option(help="integrated: black, white or mean.")] = "black",
    seed: Annotated[int, typer.Option(help=f"{SEED_HELP} And of smoothgrad's noise.")] = 0,
    input: Annotated[str | None, typer.Option(metavar="CxHxW", help=INPUT_HELP)] = None,
    arg: Annotated[list[str] | None, typer.Option(help=ARG_HELP)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help=OUTPUT_HELP)] = None,
) -> None:
    """Show which pixels a class score depends on: gradient, guided, SmoothGrad, integrated gradients.

    Example:  [bold]striate look saliency runs/demo digits:12[/]

    Example:  [bold]striate look saliency runs/birds photo.jpg --method smoothgrad --class quail[/]
    """
    methods = list(dict.fromkeys(method or METHODS))
    if unknown := [name for name in methods if name not in METHODS]:
        raise UsageError(f"expected --method of {', '.join(METHODS)}, got {unknown[0]!r}")
    if baseline not in ("black", "white", "mean"):
        raise UsageError(f"expected --baseline black, white or mean, got {baseline!r}")
    picture = picture_path(output, "saliency", Path(network).name, Path(image).stem)
    import torch

    from striate.look import saliency as look
    from striate.look.amount_panels import SHARE, heat_panel
    from striate.look.picture import Panel, save_maps, save_picture

    opened = open_network(network, seed=seed, input=input, arguments=arg or ())
    loaded = load_image(image, opened.preprocessing)
    net, normed, shown = opened.net, loaded.normed, loaded.shown[0]
    asked = None if target is None else find_class(target, opened.classes)
    number = int(look.targets(net, normed, asked)[0])
    base = _baseline(baseline, opened.preprocessing)
    maps: dict[str, Any] = {}
    said = []
    with Listener() as listener:
        for name in methods:
            if name == "gradient":
                maps[name] = look.gradient(net, normed, number)
            elif name == "guided":
                maps[name] = look.guided(net, normed, number)
                said.append("guided: R goes on at a ReLU where x > 0 and R > 0")
            elif name == "smoothgrad":
                maps[name] = look.smooth_grad(
                    net, normed, number, samples=samples, noise=noise, seed=seed, progress=listener
                )
                said.append(
                    f"smoothgrad: {samples} copies, noise of {noise:.0%} of the image's range, seed {seed}"
                )
            else:
                maps[name] = found = look.integrated_gradients(
                    net, normed, number, baseline=base, steps=steps, progress=listener
                )
                check = look.completeness(net, normed, number, found, baseline=base)
                said.append(
                    f"integrated gradients: {steps} steps from {baseline}; they add up to"
                    f" {float(check.total[0]):.4g}, the score changes by {float(check.difference[0]):.4g}"
                )
    with torch.no_grad():
        score = float(net(normed)[0, number])
    units = {"integrated": "in units of the score", "guided": "no derivative, no unit"}
    words = {"smoothgrad": "SmoothGrad", "integrated": "integrated gradients"}
    panels = [Panel(pixels=shown, title=f"{loaded.names[0]}\nscore {score:.3g}")]
    for name, found in maps.items():
        amounts = look.magnitude(found)[0].numpy()
        unit = units.get(name, "score per unit of the pixel")
        panels.append(heat_panel(amounts, title=f"{words.get(name, name)}\n{unit}", scale=" "))
    chosen = "as asked for" if target is not None else "the network's first choice"
    caption = (
        f"{opened.title}; {loaded.names[0]}; score of {class_name(number, opened.classes)!r}"
        f" ({chosen}), {score:.4g} before the {opened.squashing}. Each pixel: the largest magnitude over the"
        f" colours; a unit is one of the normed pixels. {SHARE:.1%} of the values lie inside each scale."
    )
    if said:
        caption += "\n" + "; ".join(said) + "."
    save_picture(
        [panels],
        picture,
        title=f"What {class_name(number, opened.classes)!r} depends on: {opened.title.partition(',')[0]}",
        caption=caption,
    )
    save_maps(maps_path(picture), **{name: found[0].numpy() for name, found in maps.items()})
    print(picture)
    for line in said:
        if line.startswith("integrated"):
            print(line)


def _baseline(word: str, preprocessing: Any) -> Any:
    """Return a plain image, normed: ``C x 1 x 1``."""
    import torch

    from striate.data.preprocess import normalise

    if word == "mean":
        return torch.zeros(preprocessing.channels, 1, 1)
    level = 255 if word == "white" else 0
    plain = torch.full((1, 1, 1, preprocessing.channels), level, dtype=torch.uint8)
    return normalise(plain, preprocessing)[0]
