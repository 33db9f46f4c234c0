"""``striate blend``: ensembles, averages, soups, and the table of them all."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from striate.cli.blend_tables import print_blend, print_csv, print_ensemble, print_table
from striate.cli.show import Listener
from striate.core.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    help="Make one answer, or one network, of several: ensembles, weight averages, soups.",
)

_Networks = Annotated[list[Path], typer.Argument(help="Bundles (.safetensors) or run folders, two or more.")]
_Data = Annotated[list[str], typer.Option("--data", "-d", help="Labelled images, as for `striate train`.")]
_Out = Annotated[Path, typer.Option("--out", "-o", help="The bundle to write (.safetensors).")]
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
        help="Measure batch norm's statistics of each mixture on training images.",
    ),
]
_Statistics = Annotated[
    int, typer.Option("--statistics-images", min=2, help="At most so many images for these statistics.")
]
_Batch = Annotated[int, typer.Option(min=2, help="Images in a batch.")]
_Seed = Annotated[int, typer.Option(min=0, help="Picks the images for statistics, orders the held-out ones.")]
_Precision = Annotated[str, typer.Option(help="auto, fp32 or bf16.")]
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
_Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command("ensemble")
def ensemble(
    networks: Annotated[
        list[Path],
        typer.Argument(help="Bundles, run folders, or predictions files (.csv, .parquet), two or more."),
    ],
    data: Annotated[
        list[str] | None, typer.Option("--data", "-d", help="Labelled images; not for predictions files.")
    ] = None,
    of: Annotated[str, typer.Option("--of", help="What is averaged: probabilities or logits.")] = (
        "probabilities"
    ),
    split: Annotated[str, typer.Option(help="auto, train, val, test or all.")] = "auto",
    snapshots: _Snapshots = False,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the ensemble's answers: FILE.csv or FILE.parquet.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 128,
    precision: _Precision = "auto",
    device: _Device = "auto",
    force: _Force = False,
    json: _Json = False,
) -> None:
    """Average what networks of any architecture answer, and measure the gain.

    Costs a forward pass for each member.

    Example:  [bold]striate blend ensemble runs/a runs/b runs/c --data cifar10[/]
    """
    from striate.blend.ensemble_bundles import ensemble_bundles

    with Listener() as listener:
        result = ensemble_bundles(
            networks,
            data,
            of=of,  # type: ignore[arg-type]
            split=split,  # type: ignore[arg-type]
            snapshots=snapshots,
            save=save,
            batch_images=batch,
            precision=precision,  # type: ignore[arg-type]
            device=device,  # type: ignore[arg-type]
            force=force,
            progress=listener,
        )
    if json:
        record = {
            "split": result.split,
            "of": result.of,
            "multi_label": result.answers.multi_label,
            "members": [member.to_json() for member in result.members],
            "ensemble": result.ensemble.to_json(),
            "best": result.members[result.best].name,
            "over_best": result.over_best.to_json(),
            "over_mean": {
                "difference": result.over_mean.difference,
                "interval": [result.over_mean.low, result.over_mean.high],
            },
            "passes": len(result.members),
            "saved": None if save is None else str(save),
            "notes": list(result.notes),
        }
        print(json_module.dumps(record, indent=2, ensure_ascii=False))
        return
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
            "--data", "-d", help="Labelled images: to measure the average and batch norm's statistics."
        ),
    ] = None,
    snapshots: _Snapshots = False,
    held_out: _HeldOut = "auto",
    batch_norm: _BatchNorm = True,
    statistics_images: _Statistics = 10_000,
    batch: _Batch = 256,
    seed: _Seed = 0,
    precision: _Precision = "auto",
    device: _Device = "auto",
    force: _Force = False,
    json: _Json = False,
) -> None:
    """Average the weights of networks of one architecture into a new bundle.

    Example:  [bold]striate blend average runs/a runs/b --weights 2,1 --data cifar10 -o mean.safetensors[/]
    """
    from striate.blend.merge_bundles import average_bundles

    with Listener() as listener:
        result = average_bundles(
            networks,
            out_,
            weights=_numbers(weights) if weights else None,
            data=data,
            snapshots=snapshots,
            held_out=held_out,  # type: ignore[arg-type]
            batch_norm=batch_norm,
            statistics_images=statistics_images,
            batch_images=batch,
            seed=seed,
            precision=precision,  # type: ignore[arg-type]
            device=device,  # type: ignore[arg-type]
            force=force,
            progress=listener,
        )
    print_blend(result, json)


@app.command("soup")
def soup(
    networks: _Networks,
    data: _Data,
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
    batch: _Batch = 256,
    seed: _Seed = 0,
    precision: _Precision = "auto",
    device: _Device = "auto",
    force: _Force = False,
    json: _Json = False,
) -> None:
    """Make one network of several fine-tuned from one parent (Wortsman et al. 2022).

    It predicts at the cost of one. It is chosen by held-out images, never by the test images.

    Example:  [bold]striate blend soup runs/ft* --greedy --data cifar10 -o soup.safetensors[/]
    """
    kinds = [name for name, on in (("uniform", uniform), ("greedy", greedy), ("learned", learned)) if on]
    if len(kinds) > 1:
        raise UsageError(f"expected one kind of soup, got --{' and --'.join(kinds)}: choose one")
    kind = kinds[0] if kinds else "greedy"
    if strict and kind != "greedy":
        raise UsageError(f"expected --strict with --greedy only, got it with --{kind}: leave it out")
    if (by_layer or free) and kind != "learned":
        raise UsageError(f"expected --by-layer and --free with --learned only, got --{kind}: leave them out")
    from striate.blend.merge_bundles import soup_bundles

    with Listener() as listener:
        result = soup_bundles(
            networks,
            data,
            out_,
            kind=kind,  # type: ignore[arg-type]
            snapshots=snapshots,
            held_out=held_out,  # type: ignore[arg-type]
            strict=strict,
            by_layer=by_layer,
            free=free,
            epochs=epochs,
            lr=lr,
            batch_norm=batch_norm,
            statistics_images=statistics_images,
            batch_images=batch,
            seed=seed,
            precision=precision,  # type: ignore[arg-type]
            device=device,  # type: ignore[arg-type]
            force=force,
            progress=listener,
        )
    print_blend(result, json)


@app.command("table")
def table(
    networks: _Networks,
    data: _Data,
    of: Annotated[str, typer.Option("--of", help="What ensembles average: probabilities or logits.")] = (
        "probabilities"
    ),
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="Add the ensemble of each run's snapshots.")
    ] = False,
    by_layer: Annotated[
        bool, typer.Option("--by-layer", help="Add a learned soup with coefficients for each layer.")
    ] = False,
    held_out: _HeldOut = "auto",
    batch_norm: _BatchNorm = True,
    statistics_images: _Statistics = 10_000,
    batch: _Batch = 256,
    seed: _Seed = 0,
    precision: _Precision = "auto",
    device: _Device = "auto",
    json: _Json = False,
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
            of=of,  # type: ignore[arg-type]
            snapshots=snapshots,
            held_out=held_out,  # type: ignore[arg-type]
            by_layer=by_layer,
            batch_norm=batch_norm,
            statistics_images=statistics_images,
            batch_images=batch,
            seed=seed,
            precision=precision,  # type: ignore[arg-type]
            device=device,  # type: ignore[arg-type]
            progress=listener,
        )
    if json:
        record = {
            "multi_label": result.multi_label,
            "held_out": result.held_out_words,
            "num_test": result.num_test,
            "ingredients": [
                {"name": name, "held_out": held, "test": test} for name, held, test in result.ingredients
            ],
            "rows": [row.to_json() for row in result.rows],
            "notes": list(result.notes),
        }
        print(json_module.dumps(record, indent=2, ensure_ascii=False))
    elif csv:
        print_csv(result)
    else:
        print_table(result)


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"expected --weights of numbers separated by commas, got {text!r}") from None
