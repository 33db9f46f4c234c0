"""``striate blend``: ensembles, averages, soups, and the table of them all."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from striate.cli.blend_tables import in_json, print_blend, print_csv, print_ensemble, print_table
from striate.cli.options import (
    DATA,
    OUT,
    BatchOption,
    BundlesArgument,
    DataOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    PrecisionOption,
    RequiredDataOption,
    SplitOption,
    compute_of,
)
from striate.cli.show import Listener
from striate.core.choices import AverageOf, SoupKind
from striate.core.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    help="Make one prediction, or one network, of several: ensembles, weight averages, soups.",
)

_Networks = Annotated[
    list[Path],
    typer.Argument(metavar="BUNDLE...", help="Bundles (.safetensors) or run folders, two or more."),
]
_Out = Annotated[Path, typer.Option(*OUT, metavar="FILE", help="The bundle to write (.safetensors).")]
_Of = Annotated[AverageOf, typer.Option("--of", help="What ensembles average.")]
_HeldOut = Annotated[
    str, typer.Option("--held-out", help="Images to choose by: auto, val, or train (a tenth of them).")
]
_Snapshots = Annotated[
    bool, typer.Option("--snapshots", help="Take the snapshots of the run folders instead of their results.")
]
_BatchNorm = Annotated[
    bool,
    typer.Option(
        "--batch-norm/--no-batch-norm",
        help="Measure batch norm's statistics of each merge on training images.",
    ),
]
_Statistics = Annotated[
    int, typer.Option("--statistics-images", min=2, help="At most this many images for these statistics.")
]
_Seed = Annotated[
    int, typer.Option("--seed", min=0, help="Picks the images for statistics, orders the held-out ones.")
]


@app.command("ensemble")
def ensemble(
    networks: BundlesArgument,
    data: DataOption = None,
    of: _Of = "probabilities",
    split: SplitOption = "auto",
    snapshots: _Snapshots = False,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Write the ensemble's predictions: FILE.csv or FILE.parquet."),
    ] = None,
    batch: BatchOption = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Average what networks of any architecture predict, and measure the gain.

    Costs a forward pass for each network.

    Example:  [bold]striate blend ensemble runs/a runs/b runs/c --data cifar10[/]
    """
    from striate.blend.ensemble import ensemble as run_ensemble

    with Listener() as listener:
        result = run_ensemble(
            networks,
            data,
            of=of,
            split=split,
            snapshots=snapshots,
            save=save,
            compute=compute_of(device, precision, batch),
            force=force,
            progress=listener,
        )
    if json:
        saved = {"saved": None if save is None else str(save)}
        print(json_module.dumps(in_json(result, **saved), indent=2, ensure_ascii=False))
    else:
        print_ensemble(result, save)


@app.command("average")
def average(
    networks: _Networks,
    out_: _Out,
    weights: Annotated[
        str, typer.Option("--weights", help="One number for each network, such as 1,2,1; equal if left out.")
    ] = "",
    data: Annotated[
        list[str] | None,
        typer.Option(
            *DATA,
            metavar="DATA",
            help="Labelled images: to measure the average and batch norm's statistics. Repeatable.",
        ),
    ] = None,
    snapshots: _Snapshots = False,
    held_out: _HeldOut = "auto",
    batch_norm: _BatchNorm = True,
    statistics_images: _Statistics = 10_000,
    batch: BatchOption = None,
    seed: _Seed = 0,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Average the weights of networks of one architecture into a new bundle.

    Example:  [bold]striate blend average runs/a runs/b --weights 2,1 --data cifar10 -o mean.safetensors[/]
    """
    from striate.blend.merge_bundles import average as run_average

    with Listener() as listener:
        result = run_average(
            networks,
            out_,
            weights=_numbers(weights) if weights else None,
            data=data,
            snapshots=snapshots,
            held_out=held_out,
            batch_norm=batch_norm,
            statistics_images=statistics_images,
            seed=seed,
            compute=compute_of(device, precision, batch),
            force=force,
            progress=listener,
        )
    print_blend(result, json)


@app.command("soup")
def soup(
    networks: _Networks,
    data: RequiredDataOption,
    out_: _Out,
    uniform: Annotated[bool, typer.Option("--uniform", help="The mean of all.")] = False,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Best first; each stays if it doesn't make it worse (default).")
    ] = False,
    learned: Annotated[
        bool, typer.Option("--learned", help="Coefficients and a temperature found by gradient.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Greedy: each stays only if it makes the soup better.")
    ] = False,
    by_layer: Annotated[
        bool, typer.Option("--by-layer", help="Learned: coefficients for each layer.")
    ] = False,
    free: Annotated[
        bool, typer.Option("--free", help="Learned: any coefficients; by default above 0 with sum 1.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Learned: passes over the held-out images.")] = 3,
    lr: Annotated[float, typer.Option(help="Learned: learning rate of AdamW.")] = 0.1,
    snapshots: _Snapshots = False,
    held_out: _HeldOut = "auto",
    batch_norm: _BatchNorm = True,
    statistics_images: _Statistics = 10_000,
    batch: BatchOption = None,
    seed: _Seed = 0,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Make one network of several fine-tuned from one parent (Wortsman et al. 2022).

    It predicts at the cost of one. It is chosen by held-out images, never by the test images.

    Example:  [bold]striate blend soup runs/ft* --greedy --data cifar10 -o soup.safetensors[/]
    """
    chosen: dict[SoupKind, bool] = {"uniform": uniform, "greedy": greedy, "learned": learned}
    kinds = [kind for kind, on in chosen.items() if on] or ["greedy"]
    if len(kinds) > 1:
        raise UsageError(f"expected one kind of soup, got --{' and --'.join(kinds)}: choose one")
    kind = kinds[0]
    if strict and kind != "greedy":
        raise UsageError(f"expected --strict with --greedy only, got it with --{kind}: leave it out")
    if (by_layer or free) and kind != "learned":
        raise UsageError(f"expected --by-layer and --free with --learned only, got --{kind}: leave them out")
    from striate.blend.merge_bundles import soup as run_soup

    with Listener() as listener:
        result = run_soup(
            networks,
            data,
            out_,
            kind=kind,
            snapshots=snapshots,
            held_out=held_out,
            strict=strict,
            by_layer=by_layer,
            free=free,
            epochs=epochs,
            lr=lr,
            batch_norm=batch_norm,
            statistics_images=statistics_images,
            seed=seed,
            compute=compute_of(device, precision, batch),
            force=force,
            progress=listener,
        )
    print_blend(result, json)


@app.command("table")
def table(
    networks: _Networks,
    data: RequiredDataOption,
    of: _Of = "probabilities",
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="Add the ensemble of each run's snapshots.")
    ] = False,
    by_layer: Annotated[
        bool, typer.Option("--by-layer", help="Add a learned soup with coefficients for each layer.")
    ] = False,
    held_out: _HeldOut = "auto",
    batch_norm: _BatchNorm = True,
    statistics_images: _Statistics = 10_000,
    batch: BatchOption = None,
    seed: _Seed = 0,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the rows as CSV.")] = False,
) -> None:
    """Compare every way to use a set of runs: best on validation, ensemble, soups.

    Example:  [bold]striate blend table runs/ft1 runs/ft2 runs/ft3 --data cifar10[/]
    """
    if json and csv:
        raise UsageError("expected --json or --csv, got both: choose one")
    from striate.blend.table import blend_table

    with Listener() as listener:
        result = blend_table(
            networks,
            data,
            of=of,
            snapshots=snapshots,
            held_out=held_out,
            by_layer=by_layer,
            batch_norm=batch_norm,
            statistics_images=statistics_images,
            seed=seed,
            compute=compute_of(device, precision, batch),
            progress=listener,
        )
    if json:
        print(json_module.dumps(in_json(result), indent=2, ensure_ascii=False))
    elif csv:
        print_csv(result)
    else:
        print_table(result)


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"expected --weights of numbers separated by commas, got {text!r}") from None
