"""``striate look segment``."""

from pathlib import Path
from typing import Annotated

import typer

from striate.cli.look_data import DATA_HELP, SPLIT_HELP, open_data
from striate.cli.look_input import (
    ARG_HELP,
    IMAGE_HELP,
    INPUT_HELP,
    NETWORK_HELP,
    OUTPUT_HELP,
    SEED_HELP,
    load_images,
    maps_path,
    open_network,
    picture_path,
)
from striate.cli.show import Listener
from striate.core.errors import UsageError

_MOST = 24


def segment(
    bundle: Annotated[str, typer.Argument(help=NETWORK_HELP)],
    image: Annotated[list[str], typer.Argument(help=IMAGE_HELP)],
    layer: Annotated[str, typer.Option(help="A layer with maps.")],
    unit: Annotated[int, typer.Option(min=0, help="Number of the map.")],
    share: Annotated[
        float, typer.Option(help="Threshold: this share of the strongest activation in the same image.")
    ] = 0.5,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", "-d", help=f"Threshold from a data set instead, see --top. {DATA_HELP}"),
    ] = None,
    top: Annotated[
        float, typer.Option(help="With --data: share of the unit's activations above the threshold.")
    ] = 0.005,
    split: Annotated[str, typer.Option(help=SPLIT_HELP)] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help=SEED_HELP)] = 0,
    input: Annotated[str | None, typer.Option(help=INPUT_HELP)] = None,
    arg: Annotated[list[str] | None, typer.Option(help=ARG_HELP)] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help=OUTPUT_HELP)] = None,
) -> None:
    """Mark what a unit fires on, as a mask over the image.

    Without --data the threshold is a share of the strongest activation in each image; with it, the activation
    that the unit exceeds at 0.5 % of all places of the data set.

    Example:  [bold]striate look segment runs/demo photo.jpg --layer relu2 --unit 3[/]
    """
    import numpy as np

    from striate.core.compute import pick_device
    from striate.look.picture import Panel, save_maps, save_picture
    from striate.look.segment import activation_quantile
    from striate.look.segment import segment as run

    opened = open_network(bundle, seed=seed, input=input, arguments=arg or ())
    loaded = load_images(image, opened.preprocessing)
    if len(loaded.names) > _MOST:
        raise UsageError(f"expected at most {_MOST} images on a picture, got {len(loaded.names)}: name fewer")
    first = loaded.names[0] if len(loaded.names) == 1 else f"{len(loaded.names)}_images"
    path = picture_path(output, "segment", opened.title.partition(",")[0], layer, str(unit), Path(first).stem)
    place = pick_device(device)  # type: ignore[arg-type]
    net = opened.net.to(place)
    threshold = None
    words = f"{share:.0%} of the strongest activation in the same image"
    if data:
        source = open_data(data, opened.preprocessing, split=split, batch_images=batch)
        with Listener() as listener:
            threshold = activation_quantile(net, source.images, layer, unit=unit, top=top, progress=listener)
        words = f"{threshold:.3g}, which {top:.2%} of its activations over {source.title} exceed"
    found = run(
        net, loaded.normed.to(place), layer, unit=unit, share=share, threshold=threshold, batch_images=batch
    )
    shown = found.maps[~found.maps.isnan()]
    limits = (min(0.0, float(shown.min())), float(shown.max()))
    if limits[0] == limits[1]:
        limits = (limits[0], limits[0] + 1)
    orange = np.array([1.0, 0.5, 0.05], np.float32)
    panels = []
    for pixels, name, one, mask, low in zip(
        loaded.shown, loaded.names, found.maps, found.masks, found.thresholds.tolist(), strict=True
    ):
        chosen = mask.numpy()[..., None]
        covered = f"{float(mask.float().mean()):.1%} of the image" if mask.any() else "nowhere above it"
        panels.append(
            [
                Panel(pixels=pixels, title=f"{_shortened(name)}\n "),
                Panel(
                    pixels=one.numpy(), title=f"unit {unit} of {layer}\n ", limits=limits, scale="activation"
                ),
                Panel(
                    pixels=np.where(
                        chosen, 0.5 * pixels + 0.5 * orange, 0.75 * pixels.mean(-1, keepdims=True)
                    ),
                    title=f"above {low:.3g}:\n{covered}",
                ),
            ]
        )
    half = -(-len(panels) // 2)
    rows = panels
    if len(panels) > 4:
        right = [*panels[half:], []][:half]
        rows = [one + other for one, other in zip(panels[:half], right, strict=True)]
    stands = "on the centre of its receptive field" if found.anchored else "evenly over the image"
    height, width = found.activations.shape[1:]
    caption = (
        f"Unit {unit} of {layer}, its map of {height} x {width} brought to the image's size bilinearly, each"
        f" value {stands}. Threshold: {words}. Orange: above it."
    )
    if found.maps.isnan().any():
        caption += " White: no unit stands there."
    save_picture(rows, path, title=f"{opened.title}: where unit {unit} of {layer} fires", caption=caption)
    save_maps(
        maps_path(path),
        masks=found.masks.numpy(),
        maps=found.maps.numpy(),
        activations=found.activations.numpy(),
        thresholds=found.thresholds.numpy(),
        names=np.array(loaded.names),
    )
    print(f"{path}, {maps_path(path)}")


def _shortened(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:12]}...{name[-11:]}"
