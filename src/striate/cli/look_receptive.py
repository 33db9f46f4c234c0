"""``striate look receptive``."""

from pathlib import Path
from typing import Annotated

import typer

from striate.cli.look_data import DATA_HELP, SPLIT_HELP, open_data
from striate.cli.look_input import (
    ARG_HELP,
    INPUT_HELP,
    NETWORK_HELP,
    OUTPUT_HELP,
    maps_path,
    open_network,
    picture_path,
)
from striate.cli.show import Listener
from striate.core.errors import UsageError

_SHOWN = 5  # images with their own discrepancy maps
_SMALL_PX = 100  # images smaller than this get occluders of 3 px at every pixel


def receptive(
    bundle: Annotated[str, typer.Argument(help=NETWORK_HELP)],
    data: Annotated[list[str], typer.Option("--data", "-d", help=DATA_HELP)],
    layer: Annotated[str, typer.Option(help="A layer with maps.")],
    unit: Annotated[int, typer.Option(min=0, help="Number of the map.")],
    top: Annotated[int, typer.Option(min=1, help="How many of its strongest images.")] = 10,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Side of the occluders; default 11, for images below 100 px 3."),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(min=1, help="Between them; default 3, for images below 100 px 1.")
    ] = None,
    above: Annotated[float, typer.Option(help="Share of the maximum that counts as inside.")] = 0.5,
    split: Annotated[str, typer.Option(help=SPLIT_HELP)] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the occluders' pixels, and of random weights.")] = 0,
    input: Annotated[str | None, typer.Option(help=INPUT_HELP)] = None,
    arg: Annotated[list[str] | None, typer.Option(help=ARG_HELP)] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help=OUTPUT_HELP)] = None,
) -> None:
    """Measure the receptive field of a unit with random occluders, beside the theoretical one.

    The unit's strongest images are covered by small squares of random pixels, one at a time; where that
    changes the activation, the unit looks (Zhou et al. 2015).

    Example:  [bold]striate look receptive runs/demo --data digits --layer relu2 --unit 3[/]
    """
    import numpy as np
    import torch

    from striate.core.compute import pick_device
    from striate.data.source import counted
    from striate.look.layers import field_of
    from striate.look.patches import patch_box
    from striate.look.picture import Panel, save_maps, save_picture
    from striate.look.receptive import empirical_field
    from striate.look.stream import fetch
    from striate.look.strongest import find_strongest

    if not 0 < above < 1:
        raise UsageError(f"expected --above between 0 and 1, got {above}")
    opened = open_network(bundle, seed=seed, input=input, arguments=arg or ())
    source = open_data(data, opened.preprocessing, split=split, batch_images=batch)
    path = picture_path(output, "receptive", opened.title.partition(",")[0], layer, str(unit))
    place = pick_device(device)  # type: ignore[arg-type]
    net = opened.net.to(place)
    small = min(opened.input_shape[1:]) < _SMALL_PX
    side, step = size or (3 if small else 11), stride or (1 if small else 3)
    black, white = source.images.extremes()
    with Listener() as listener:
        found = find_strongest(
            net, source.images, [layer], k=top, state=path.with_suffix(".state"), progress=listener
        )[layer]
        if found.map_size == (1, 1):
            raise UsageError(f"expected a layer with maps larger than 1 x 1, got {layer}")
        if unit >= len(found.values):
            raise UsageError(f"expected --unit 0 to {len(found.values) - 1} of {layer}, got {unit}")
        numbers = found.numbers[unit].tolist()
        read = fetch(source.images, numbers)
        images = torch.stack([read[number] for number in numbers])
        places = list(zip(found.rows[unit].tolist(), found.columns[unit].tolist(), strict=True))
        field = empirical_field(
            net,
            images.to(place),
            layer,
            unit=unit,
            at=places,
            generator=torch.Generator().manual_seed(seed),
            occluder_px=side,
            stride_px=step,
            low=black,
            high=white,
            batch_images=batch,
            progress=listener,
        )
    arithmetic = field_of(net, opened.input_shape, layer)
    theory = "no one size"
    if arithmetic is not None:
        theory = f"{arithmetic.rows.size_px} x {arithmetic.columns.size_px} px"
    measured = field.size_px(above)
    inside = field.inside(above).numpy()
    square = f"{inside.sum():,} px, a square of {measured:.1f} px"
    limits = (0.0, float(np.nanmax(field.maps[:_SHOWN].numpy())) or 1.0)
    frames = () if field.theoretical is None else (field.theoretical,)
    shown = source.images.shown(images[:_SHOWN])
    area = np.where(inside[..., None], np.array([0.13, 0.29, 0.53]), np.array([0.95, 0.95, 0.95]))
    rows = [
        [
            Panel(
                pixels=field.mean.numpy(),
                title=f"mean of {counted(len(images), 'image')}\nframe: theory, {theory}",
                limits=(0.0, float(np.nanmax(field.mean.numpy())) or 1.0),
                scale="change of activation",
                boxes=frames,
                width=1.5,
            ),
            Panel(
                pixels=area,
                title=f"above {above:.0%} of its maximum\n{square}",
                width=1.5,
                boxes=frames,
            ),
        ],
        [
            Panel(
                pixels=pixels,
                title=f"{_shortened(found.names[number])}\nactivation {float(value):.3g}",
                boxes=[_clipped(patch_box(arithmetic, row, column, opened.input_shape), pixels.shape)],
            )
            for pixels, number, value, (row, column) in zip(
                shown, numbers, field.values, places, strict=False
            )
        ],
        [
            Panel(pixels=one.numpy(), title="change by an occluder here", limits=limits, scale="change")
            for one in field.maps[:_SHOWN]
        ],
    ]
    between = ", interpolated between squares" if step > 1 else ""
    caption = (
        f"Unit {unit} of {layer}. Its {len(images)} strongest of {found.num_images:,} images, from"
        f" {source.title}, covered by squares of {side} x {side} random pixels at stride {step}, one"
        f" at a time (seed {seed}). Each pixel shows how far the activation at the unit's place moves when a"
        f" square is centred there{between}. The mean is taken around the centre of the theoretical field."
        " White: no square can be centred there."
    )
    title = f"{opened.title}: what changes unit {unit} of {layer}"
    save_picture(rows, path, title=title, caption=caption)
    save_maps(
        maps_path(path),
        mean=field.mean.numpy(),
        inside=inside,
        maps=field.maps.numpy(),
        values=field.values.numpy(),
        places=np.array(field.places),
        centres=np.array(field.centres),
        theoretical=np.array(field.theoretical if field.theoretical is not None else ()),
        size_px=np.array(measured),
        names=np.array([found.names[number] for number in numbers]),
    )
    print(f"theory {theory}, measured {measured:.1f} px (side of the square of its area, above {above:.0%})")
    print(f"{path}, {maps_path(path)}")


def _clipped(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    top, left, bottom, right = box
    return max(top, 0), max(left, 0), min(bottom, shape[0] - 1), min(right, shape[1] - 1)


def _shortened(name: str) -> str:
    stem = name.rpartition("/")[2]
    return stem if len(stem) <= 24 else f"{stem[:11]}...{stem[-10:]}"
