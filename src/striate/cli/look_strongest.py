"""``striate look strongest``."""

from pathlib import Path
from typing import Annotated

import typer

from striate.cli.look_data import DATA_HELP, SPLIT_HELP, open_data, unit_numbers
from striate.cli.look_input import (
    ARG_HELP,
    INPUT_HELP,
    NETWORK_HELP,
    OUTPUT_HELP,
    SEED_HELP,
    maps_path,
    open_network,
    picture_path,
)
from striate.cli.show import Listener, err
from striate.core.errors import UsageError

_DRAWN = 12  # units on a picture, if nobody names them
_MOST = 120


def strongest(
    bundle: Annotated[str, typer.Argument(help=NETWORK_HELP)],
    data: Annotated[list[str], typer.Option("--data", "-d", help=DATA_HELP)],
    layer: Annotated[str, typer.Option(help="The layer: a ReLU, a convolution, a block, fully connected.")],
    units: Annotated[
        list[str] | None,
        typer.Option(help=f"Which to draw, e.g. 0,5,10-19. Default: {_DRAWN} evenly spaced."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="Images for each unit.")] = 9,
    rule: Annotated[
        str, typer.Option(help="Of the projections: deconvnet, guided or gradient.")
    ] = "deconvnet",
    split: Annotated[str, typer.Option(help=SPLIT_HELP)] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help=SEED_HELP)] = 0,
    input: Annotated[str | None, typer.Option(help=INPUT_HELP)] = None,
    arg: Annotated[list[str] | None, typer.Option(help=ARG_HELP)] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help=OUTPUT_HELP)] = None,
) -> None:
    """Show what excites units: the patches of their strongest images beside the projections of each.

    One pass over the data in constant memory. An interrupted pass goes on when the same command is typed
    again. The .npz holds the strongest images of all units, also of those that are not drawn.

    Example:  [bold]striate look strongest runs/demo --data digits --layer relu2[/]
    """
    import numpy as np

    from striate.core.compute import pick_device
    from striate.data.source import counted
    from striate.look.patches import patch_panels, strongest_patches
    from striate.look.picture import save_maps, save_picture
    from striate.look.strongest import find_strongest

    if rule not in ("deconvnet", "guided", "gradient"):
        raise UsageError(f"expected --rule deconvnet, guided or gradient, got {rule!r}")
    opened = open_network(bundle, seed=seed, input=input, arguments=arg or ())
    source = open_data(data, opened.preprocessing, split=split, batch_images=batch)
    path = picture_path(output, "strongest", opened.title.partition(",")[0], layer)
    net = opened.net.to(pick_device(device))  # type: ignore[arg-type]
    state = path.with_suffix(".state")
    with Listener() as listener:
        try:
            found = find_strongest(net, source.images, [layer], k=k, state=state, progress=listener)[layer]
        except KeyboardInterrupt:
            err.print(f"[yellow]the pass is kept in {state}: the same command goes on from there[/]")
            raise
        count = len(found.values)
        if units:
            chosen = unit_numbers(units, count, layer)
            how = f"{len(chosen)} of {count} units, as asked for"
        else:
            chosen = sorted({int(place) for place in np.linspace(0, count - 1, min(_DRAWN, count))})
            how = (
                f"all {count} units"
                if len(chosen) == count
                else f"{len(chosen)} of {count} units, evenly spaced"
            )
        if len(chosen) > _MOST:
            raise UsageError(
                f"expected at most {_MOST} units on a picture, got {len(chosen)}: name fewer --units"
            )
        patches = list(
            strongest_patches(net, source.images, found, units=chosen, rule=rule, progress=listener)  # type: ignore[arg-type]
        )
    height, width = patches[0].patches.shape[1:3]
    silent = int((found.values[:, 0] <= 0).sum())
    extensions = sorted({name for one in patches for name in one.extensions})
    caption = (
        f"Layer {layer}, {how}. For each, its {found.values.shape[1]} strongest of"
        f" {found.num_images:,} images, from {source.title}. Right: the patch of {height} x {width} px that"
        " the unit sees at its strongest place in the image, grey beyond the border, with the activations of"
        " the strongest and the weakest of them. Left: the activation sent back to the pixels by the"
        f" {rule} rule, each on its own scale (99.5 % of its values lie inside it), 0 is grey."
    )
    if silent:
        caption += f" {silent} of {count} units are never above 0."
    if found.num_broken:
        caption += f" {counted(found.num_broken, 'image')} could not be read."
    if extensions:
        caption += f"\nNot defined by the paper: {'; '.join(extensions)}."
    title = f"{opened.title}: strongest images of {layer}"
    save_picture(patch_panels(patches), path, title=title, caption=caption)
    save_maps(
        maps_path(path),
        values=found.values.numpy(),
        numbers=found.numbers.numpy(),
        rows=found.rows.numpy(),
        columns=found.columns.numpy(),
        names=np.array([[found.names.get(n, "") for n in row] for row in found.numbers.tolist()]),
        units=np.array(chosen),
        boxes=np.array([one.boxes for one in patches]),
        patches=np.stack([(one.patches * 255).round().astype(np.uint8) for one in patches]),
        projections=np.stack([one.projections for one in patches]),
    )
    if found.num_broken:
        unread = counted(found.num_broken, "image")
        err.print(f"[yellow]{unread} could not be read[/], first {': '.join(found.broken[0])}")
    print(f"{path}, {maps_path(path)}")
