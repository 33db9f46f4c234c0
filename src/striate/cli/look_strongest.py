"""``striate look strongest``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from striate.cli.look_options import (
    DATA_HELP,
    PictureOption,
    UnitsOption,
    check_picture,
    open_network,
    write,
)
from striate.cli.options import (
    DATA,
    ArgOption,
    BatchOption,
    DeviceOption,
    InputOption,
    NetworkArgument,
    SeedOption,
    SplitOption,
    compute_of,
)
from striate.cli.show import Listener, err
from striate.core.choices import Rule


def strongest(
    network: NetworkArgument,
    data: Annotated[list[str], typer.Option(*DATA, help=DATA_HELP)],
    layer: Annotated[str, typer.Option(help="The layer: a ReLU, a convolution, a block, fully connected.")],
    unit: UnitsOption = None,
    top: Annotated[int, typer.Option("--top", min=1, max=100, help="Images for each unit.")] = 9,
    rule: Annotated[Rule, typer.Option("--rule", help="Of the projections.")] = "deconvnet",
    split: SplitOption = "auto",
    batch: BatchOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    input: InputOption = None,
    arg: ArgOption = None,
    out: PictureOption = None,
) -> None:
    """Show what excites units: the patches of their strongest images beside the projections of each.

    One pass over the data in constant memory. Type the same command again to continue an interrupted pass.
    The .npz holds the strongest images of all units, also of those that are not drawn.

    Example:  [bold]striate look strongest runs/demo --data digits --layer relu2[/]
    """
    check_picture(out)
    from striate.look.inputs import unit_numbers
    from striate.look.strongest_picture import show_strongest, strongest_name

    opened = open_network(network, seed, input, arg)
    path = out or Path(f"{strongest_name(opened, layer)}.png")
    state = path.with_suffix(".state")
    try:
        with Listener() as listener:
            picture = show_strongest(
                opened,
                data,
                layer=layer,
                unit=unit_numbers(unit or ()),
                top=top,
                rule=rule,
                split=split,
                state=state,
                compute=compute_of(device, "fp32", batch),
                progress=listener,
            )
    except KeyboardInterrupt:
        if state.exists():
            err.print(f"[yellow]the pass is kept in {escape(str(state))}: the same command continues it[/]")
        raise
    write(picture, path, numbers=True)
    for line in picture.notes:
        err.print(f"[yellow]{escape(line)}[/]")
